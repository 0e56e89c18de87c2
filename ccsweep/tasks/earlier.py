"""Back to a run that was trained before: its folder, and its settings with some changed.

``training.resume=RUN`` goes on with it, ``task=evaluate run=RUN`` tests it again.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from ccsweep.config.check import check_values
from ccsweep.config.composed import read_file, read_overrides, read_settings
from ccsweep.config.keys import has_role, with_role
from ccsweep.config.marks import Role
from ccsweep.config.schema import Config, RanksConfig
from ccsweep.dotted import is_under
from ccsweep.errors import UserError
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.run import begun, load, prepared
from ccsweep.tracking import Run, find_run, resolve_uri
from ccsweep.tracking.find import store_of

if TYPE_CHECKING:
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Job

_MAY_CHANGE = {"training.resume": Role.RESUME, "run": Role.RUN}


@dataclass(frozen=True)
class Earlier:
    """A run of before, with the settings that this command gives it."""

    folder: TrialFolder
    run_id: str | None
    settings: Config
    trained: Config
    """The settings it was trained with."""


def find(config: Config, overrides: Sequence[str], by: str) -> Earlier:
    """Find the run that ``by`` names and put this command's overrides on top of its settings.

    Args:
        config: this command's config, where the overrides already took effect.
        overrides: what this command says.
        by: ``training.resume`` or ``run``; the schema says what else may stand beside it.

    Raises:
        UserError: no such run, or an override that a trained run cannot take.
    """
    # Hydra reads an id like 123e4567 as a number; what was typed is still in the override. A file under
    # sweeps/ may name the run too.
    typed = [value for key, value in map(_parted, overrides) if key == by]
    ref = (typed or [str(OmegaConf.select(OmegaConf.structured(config), by))])[-1].strip("'\"")
    _set_store(config, Path(ref))
    found = find_run(resolve_uri(config.tracking.uri), ref)
    folder = TrialFolder(found.folder)
    if not folder.settings.is_file():
        raise UserError(
            f"{by}={ref}: {folder.settings} is missing; expected a run id or the folder of a ccsweep run"
        )
    settings = read_settings(folder.settings)
    trained: Config = OmegaConf.to_object(settings)  # type: ignore[assignment]
    given = OmegaConf.structured(config)
    for key in dict(map(_parted, overrides)):
        if is_under(key, (by, "task", "sweeps", "sweep", "cluster")):
            continue
        if not has_role(key, _MAY_CHANGE[by]):
            can = ", ".join(with_role(_MAY_CHANGE[by]))
            raise UserError(f"{key}: cannot change with {by}=...; only {can} can")
        if key.startswith("ranks.layers."):  # one of a list that this command gives whole
            key = "ranks.layers"
        if key.startswith("ranks."):  # what sets the ranks now takes the place of what set them then
            settings.ranks = RanksConfig()
        OmegaConf.update(settings, key, OmegaConf.select(given, key), force_add=True)
    if by == "run":  # nothing is trained that could keep up moments or have factors from before
        settings.estimator.moments, settings.estimator.refresh = "calibration", "full"
        settings.sweep = given.sweep  # whose trial this is, and not what the trained run was
    if by == "training.resume" and given.tracking.register is None:
        given.tracking.register = settings.tracking.register  # its end is still to come
    settings.tracking = given.tracking
    merged: Config = OmegaConf.to_object(settings)  # type: ignore[assignment]
    check_values(merged)
    return Earlier(folder, found.run_id, merged, trained)


@contextmanager
def taken_up(
    config: Config, folder: TrialFolder, overrides: list[str]
) -> Iterator[tuple[Run, "Job", "Dataset"]]:
    """A new run with the network of an earlier one, and with the estimator that the overrides name.

    Args:
        config: this command's; ``run`` names the earlier run.
        folder: of the new run.
        overrides: what the command says.

    Raises:
        UserError: no such run, or an override that a trained run cannot take.
    """
    named = spelled_out(overrides)
    earlier = find(config, named, "run")
    settings = earlier.settings
    settings.task, settings.run = config.task, earlier.run_id or str(earlier.folder.path)
    with prepared(settings) as dataset, begun(settings, folder, overrides, dataset) as run:
        from ccsweep.training import checkpoint, posthoc
        from ccsweep.training.fit import Job

        job = Job(settings, dataset, folder.path)
        saved = checkpoint.best(earlier.folder.path)
        if changes_estimator(named):
            posthoc.refit(job, earlier.trained, saved, dataset.digest)
        else:
            checkpoint.load_network(job.module.network, saved)
        yield run, job, dataset


def restored(folder: TrialFolder) -> tuple["Job", "Dataset"]:
    """The network that a run of before tested, without a run of its own, and its data.

    Args:
        folder: of a run that trained it, or that gave a trained one another estimator.

    Raises:
        UserError: the run that it took its weights from, or its data, is not there any more.
    """
    from ccsweep.training import checkpoint, posthoc
    from ccsweep.training.fit import Job

    settings: Config = OmegaConf.to_object(read_settings(folder.settings))  # type: ignore[assignment]
    dataset = load(settings)
    job = Job(settings, dataset, folder.path)
    if settings.run is None:
        checkpoint.load_network(job.module.network, checkpoint.best(folder.path))
        return job, dataset
    found = TrialFolder(find_run(store_of(folder.path) or resolve_uri(None), settings.run).folder)
    trained: Config = OmegaConf.to_object(read_settings(found.settings))  # type: ignore[assignment]
    saved = checkpoint.best(found.path)
    if changes_estimator(read_overrides(folder.overrides)):
        posthoc.refit(job, trained, saved, dataset.digest)
    else:
        checkpoint.load_network(job.module.network, saved)
    return job, dataset


def spelled_out(overrides: Sequence[str]) -> list[str]:
    """The overrides with those in place of ``+experiment=NAME`` that its file stands for.

    A file that task=export wrote names a run and what to change in it, as a command line does; only the
    keys are of interest, for the values are in the composed config.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():  # called from Python, where nothing composed the overrides
        return list(overrides)
    folders = [Path(s.path) for s in HydraConfig.get().runtime.config_sources if s.schema == "file"]
    found: list[str] = []
    for override in overrides:
        group, option = _parted(override)
        files = [folder / group / f"{option}.yaml" for folder in folders]
        path = next((file for file in files if override.startswith("+") and file.is_file()), None)
        if path is None:
            found.append(override)
        else:
            said = read_file(path)
            found += [f"{key}={value}" for key, value in [*said.options, *said.values.items()]]
    return found


def changes_estimator(overrides: Sequence[str]) -> bool:
    """Whether the overrides give a trained network other factors than it was saved with."""
    return any(key.partition(".")[0] in ("ranks", "estimator") for key, _ in map(_parted, overrides))


def _set_store(config: Config, folder: Path) -> None:
    """Take the store that the run's folder names, unless the user names one."""
    if config.tracking.uri is None and "MLFLOW_TRACKING_URI" not in os.environ:
        config.tracking.uri = store_of(folder)


def _parted(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value
