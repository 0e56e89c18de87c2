"""Back to a run that was trained before: its folder, and its settings with some changed.

``training.resume=RUN`` goes on with it, ``task=evaluate run=RUN`` tests it again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from ccsweep.config.check import check_values
from ccsweep.config.composed import read_file, read_settings
from ccsweep.config.keys import has_role, with_role
from ccsweep.config.marks import Role
from ccsweep.config.schema import Config, RanksConfig
from ccsweep.dotted import is_under
from ccsweep.errors import UserError
from ccsweep.tracking import find_run, resolve_uri
from ccsweep.tracking.find import run_id_of, store_of

if TYPE_CHECKING:
    from ccsweep.data.dataset import Dataset

SETTINGS, DATA = "config.yaml", "data.json"

_MAY_CHANGE = {"training.resume": Role.RESUME, "run": Role.RUN}


@dataclass(frozen=True)
class Earlier:
    """A run of before, with the settings that this command gives it."""

    folder: Path
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
    path = found.folder / SETTINGS
    if not path.is_file():
        raise UserError(f"{by}={ref}: {path} is missing; expected a run id or the folder of a ccsweep run")
    settings = read_settings(path)
    trained: Config = OmegaConf.to_object(settings)  # type: ignore[assignment]
    given = OmegaConf.structured(config)
    for key in dict(map(_parted, overrides)):
        if is_under(key, (by, "task", "sweeps", "sweep")):
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
    if by == "training.resume" and given.tracking.register is None:
        given.tracking.register = settings.tracking.register  # its end is still to come
    settings.tracking = given.tracking
    merged: Config = OmegaConf.to_object(settings)  # type: ignore[assignment]
    check_values(merged)
    return Earlier(found.folder, found.run_id, merged, trained)


def check_can_go_on(earlier: Earlier, dataset: "Dataset") -> None:
    """Refuse, before anything is touched, what would not continue the earlier run.

    Raises:
        UserError: other data, a damaged checkpoint, or all epochs done that are asked for.
    """
    from ccsweep.training import checkpoint

    began: dict[str, str] = json.loads((earlier.folder / DATA).read_text())
    if began["digest"] != dataset.digest:
        raise UserError(
            f"training.resume: the run began with {began['label']} ({began['digest']}), found "
            f"{dataset.label} ({dataset.digest}): set data.dir to the same data, or train anew"
        )
    done = checkpoint.epochs_done(earlier.folder)
    if done > (epochs := earlier.settings.training.epochs):
        raise UserError(f"training.epochs={epochs}: the run has done {done} already; expected {done} or more")


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the lock falls with the process, however that ends.

    Raises:
        UserError: another process holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process is working on this run; wait for it or stop it") from None


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


def require_folder(earlier: Earlier) -> str:
    """Return the id of a run whose own folder, with its last checkpoint, is on this machine.

    Raises:
        UserError: only its artifacts are.
    """
    if earlier.run_id is None or run_id_of(earlier.folder) is None:
        raise UserError(
            "training.resume: the run's own folder is not on this machine, and its artifacts hold no "
            "checkpoint to go on from: resume where it was trained (tags ccsweep.host, ccsweep.folder)"
        )
    return earlier.run_id


def _parted(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value
