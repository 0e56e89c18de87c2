"""ccsweep from Python, in the words of the command line: train a network, take up a run or a study."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ccsweep.config.check import check
from ccsweep.config.composed import composed, read_settings
from ccsweep.config.explain import explain
from ccsweep.config.places import named
from ccsweep.config.register import register, unique
from ccsweep.config.schema import Config
from ccsweep.engine.accelerate import Accelerated
from ccsweep.engine.accelerate import load as load_accelerated
from ccsweep.errors import UserError
from ccsweep.figures import LAYERS
from ccsweep.study import front
from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import notes, study_notes
from ccsweep.study.storage import open_study
from ccsweep.tasks import task
from ccsweep.tracking import find_run, resolve_uri

if TYPE_CHECKING:
    import pandas
    import xarray
    from optuna.trial import FrozenTrial

    from ccsweep.network import ConditionalMLP


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder, what it came to, and its network."""

    folder: Path
    id: str | None
    """In MLflow; None for a folder that was never tracked."""

    @cached_property
    def report(self) -> dict[str, Any]:
        """What is in its report.json: ``test_error``, ``validation_error``, ``density``, ...

        Raises:
            UserError: it left none.
        """
        found = TrialFolder(self.folder).read_report()
        if found is None:
            raise UserError(
                f"{self.folder}: holds no report.json; expected the folder of a run that has ended"
            )
        return found

    @cached_property
    def config(self) -> Config:
        """The settings that it ran with.

        Raises:
            UserError: the folder is no run's.
        """
        path = TrialFolder(self.folder).settings
        if not path.is_file():
            raise UserError(f"{path} is missing; expected a run id or the folder of a ccsweep run")
        config = OmegaConf.to_object(read_settings(path))
        assert isinstance(config, Config)
        return config

    def load(self) -> "ConditionalMLP":
        """Its trained network, ready to run (eval mode, on the CPU): weights and factors of its best epoch.

        Raises:
            UserError: it trained none, or its checkpoint is damaged.
        """
        from ccsweep.training import checkpoint
        from ccsweep.training.fit import build_network

        path = checkpoint.best(self.folder)
        if not path.is_file():
            raise UserError(f"{path} is missing; expected a run of task=train that has ended")
        network = build_network(self.config)
        checkpoint.load_network(network, path)
        return network.eval()


@dataclass(frozen=True)
class Study:
    """A study or a grid, as its storage has it now."""

    folder: Path
    objectives: dict[str, str]
    """Directions by key of the report."""
    trials: "list[FrozenTrial]"
    """Optuna's, all of them, with the speeds that were measured alone."""

    def frame(self) -> "pandas.DataFrame":
        """One row a trial: objectives, figures, parameters, ranks as numbers (``ranks.layers.0``, ...)."""
        import pandas

        from ccsweep.report.study.rows import rows

        return pandas.DataFrame(rows(self.trials, self.objectives)).set_index("trial")

    def confirmed(self) -> "pandas.DataFrame":
        """One row a point of ``task=confirm``: mean, ``_sd``, ``_low`` and ``_high`` of each figure.

        Raises:
            UserError: it was not given yet.
        """
        import pandas

        found = StudyFolder(self.folder).read_confirmed()
        if found is None:
            raise UserError(
                f"{self.folder}: was not confirmed yet; give task=confirm sweep.name={self.folder}"
            )
        points = pandas.json_normalize(list(found["points"].values()), sep="_")
        points.index = pandas.Index(found["points"], name="point")
        return points.rename(columns=lambda name: name.removesuffix("_mean"))

    def dataset(self) -> "xarray.Dataset":
        """The frame by ``trial``, and what each layer came to by ``trial`` and ``layer``.

        Raises:
            UserError: xarray is not installed.
        """
        import numpy as np

        try:
            import xarray
        except ImportError:
            raise UserError("dataset(): needs xarray; pip install xarray, or take frame()") from None
        found = xarray.Dataset.from_dataframe(self.frame())
        by_trial = [self._layers(trial) for trial in sorted(self.trials, key=lambda trial: trial.number)]
        depth = max(map(len, by_trial), default=0)
        for figure in LAYERS:
            values = np.full((len(by_trial), depth), np.nan)
            for row, layers in zip(values, by_trial, strict=True):
                row[: len(layers)] = [np.nan if (v := each.get(figure.key)) is None else v for each in layers]
            found[f"layer_{figure.key}"] = ("trial", "layer"), values
        return found.assign_attrs(study=self.folder.name, **self.objectives)

    def _layers(self, trial: "FrozenTrial") -> list[dict[str, float | None]]:
        place = notes(trial).place(StudyFolder(self.folder))
        report = None if place is None else place.read_report()
        return [] if report is None else report.get("layers", [])

    def front(self) -> list[Run]:
        """Runs that no other one beats, the best by the first objective first."""
        return [self._run(trial) for trial in front.pareto(self.trials, self.objectives)]

    def best(self, pick: str = "knee") -> Run:
        """A run by ``knee``, ``trial:17``, ``error<=1.6`` or ``error<=control+0.2``.

        Of those that keep a condition it is the fastest, as task=export has it.

        Raises:
            UserError: nothing satisfies it, or the front has no knee.
        """
        confirmed = StudyFolder(self.folder).read_confirmed()
        return self._run(front.pick(self.trials, pick, self.objectives, confirmed))

    def _run(self, trial: "FrozenTrial") -> Run:
        known = notes(trial)
        place = known.place(StudyFolder(self.folder))
        if place is None:
            raise UserError(
                f"trial {trial.number} of {self.folder.name} has no folder: it was not run itself"
            )
        return Run(place.path, known.run_id)


def train(overrides: Sequence[str] = (), folder: str | Path | None = None) -> Run:
    """Train and test a network, as ``python -m ccsweep OVERRIDES`` does.

    Args:
        overrides: as on the command line, one a string: ``["+experiment=mnist", "ranks.layers=[40,30,20]"]``.
        folder: of the run; None: a new one in ``outputs/``.

    Raises:
        UserError: a mistake in the overrides, or data that cannot be had; one line.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(overrides, str):
        raise UserError(f"train({overrides!r}): expected a list of overrides, as in train([{overrides!r}])")
    register()
    try:
        cfg = composed(list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    config = check(cfg)
    if config.task != "train":
        raise UserError(f"task={config.task}: train() trains; use load() for a run that was trained")
    logging.getLogger("ccsweep").setLevel(logging.INFO)
    where = Path(folder) if folder is not None else Path("outputs") / unique()
    report = task("train")(config, TrialFolder(where.absolute()), list(overrides))
    return Run(Path(report["folder"]), report["run_id"])


def load(place: str | Path) -> Run | Accelerated:
    """A run by its folder, its id or the first six characters of one; or an accelerated model by its file.

    Raises:
        UserError: there is none, or several.
    """
    path = Path(place).expanduser()
    if path.is_file() or (path.suffix and not path.is_dir()):  # the name of a file, if one that is missing
        return load_accelerated(path)
    register()
    found = find_run(resolve_uri(None), str(place))
    run = Run(found.folder, found.run_id)
    assert run.config  # or there is no run in that folder
    return run


def study(name: str, storage: str | None = None) -> Study:
    """A study or a grid by its name in ``outputs/sweeps``, or by its folder.

    Args:
        name: or the path of the folder.
        storage: the URL that ``sweep.storage`` named; None: the file in its folder.

    Raises:
        UserError: there is no such study.
    """
    place = StudyFolder(named(name))
    found = open_study(place, storage)
    aims = dict(study_notes(found).definition.aims)
    return Study(place.path.absolute(), aims, trials_of(found))
