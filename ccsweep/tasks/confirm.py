"""``task=confirm``: the points that a study came to, trained with fresh seeds, tested once, timed alone.

A grid of its own, in the study's folder: each point is an experiment file as task=export writes them, with
each seed. Its trials are run by workers as any other's, so what was computed is not computed again.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from ccsweep.config.places import root
from ccsweep.config.quoting import quoted
from ccsweep.config.register import register
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.figures import MEASURED, VALIDATION_ERROR, in_study, measured
from ccsweep.files import write_text
from ccsweep.study import confirmed, front
from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import notes, study_notes
from ccsweep.tasks import perform
from ccsweep.tasks.experiment import experiment, settings_in
from ccsweep.tasks.sweep_status import existing
from ccsweep.tracking import Run, resolve_uri
from ccsweep.tracking.find import is_stored, run_id_of, store_of
from ccsweep.tracking.store import sqlite_path

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SEEDS = 5
"""Fresh ones, where nothing is said."""
CONTROL = "control"
_GROUP = "points"

register()  # workers begin with this module
log = logging.getLogger(__name__)


@dataclass
class Point:
    """What is trained again."""

    name: str
    """``trial17``, or ``control``."""
    trial: "FrozenTrial | None"
    """Of the study; None for a control that it has not tried."""


def confirm(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Confirm what ``pick`` asks for of the study ``sweep.name``; returns what confirmed.json says.

    Args:
        config: ``sweep.name``, ``sweep.storage``, ``pick`` (also ``front``) and ``seeds`` are read.
        folder: not needed.
        overrides: what else they say of ``sweep`` and ``cluster``, as ``sweep.workers=2``, holds for the
            training.

    Raises:
        UserError: no such study, one that trains nothing, a pick that nothing satisfies, or a point that
            could not be trained.
    """
    place, study = existing(config)
    definition = study_notes(study).definition
    if any(line.partition("=")[0] in ("task", "run") for line in definition.base):
        raise UserError(
            f"sweep.name={place.name}: the study evaluates one trained network, so there is nothing to train "
            "with fresh seeds; expected a study of task=train"
        )
    points = _points(study, config.pick, place.read_confirmed())
    seeds = SEEDS if config.seeds == 1 else config.seeds
    grid, uri = _Grid(place, study, points, seeds), _store(config, place, study)
    grid.write_points()
    kept = ("sweep.", "cluster=", "tracking.", "training.step=")
    given = [line for line in overrides if line.lstrip("+").startswith(kept)]
    grid.train([*given, f"tracking.uri={quoted(uri)}"])
    found = _found(grid)
    write = _write(place, found, grid, uri)
    from ccsweep.report import confirmed as shown
    from ccsweep.report import following

    shown.show(found)
    print(f"{'folder':8}{place.path} ({', '.join(path.name for path in write)})")
    print(f"{'export':8}{following.command_about(study, place, 'task=export', 'pick=error<=control+0.2')}")
    return {"task": config.task, **found}


def run_point(cfg: DictConfig) -> dict[str, Any]:
    """One trial of the grid; what a worker calls."""
    return perform(cfg)


def _store(config: Config, place: StudyFolder, study: "Study") -> str:
    """Where the training is tracked: in the store that is named, else in the study's, if it can be had."""
    named = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or store_of(place.path)
    known = study_notes(study).uri
    if named is None and known is not None and sqlite_path(known) is None and "***" not in known:
        named = known  # a server's: this machine needs nothing of the study's folder
    return resolve_uri(named)


def _points(study: "Study", pick: str, before: dict[str, Any] | None) -> list[Point]:
    """What is picked, and the control last."""
    objectives = study_notes(study).definition.aims
    trials = trials_of(study)
    best = front.pareto(trials, objectives)
    if pick == "front" and not best:
        pick = "knee"  # which says why there is none
    picked = best if pick == "front" else [front.pick(trials, pick, objectives, before)]
    controls = [t for t in front.counted(trials) if front.is_feasible(t) and notes(t).ranks == CONTROL]
    control = min(controls, key=lambda trial: trial.values[0], default=None)
    others = [trial for trial in picked if control is None or trial.number != control.number]
    return [*(Point(f"trial{trial.number}", trial) for trial in others), Point(CONTROL, control)]


class _Grid:
    """The study of points by seeds."""

    def __init__(self, place: StudyFolder, study: "Study", points: list[Point], seeds: int) -> None:
        self.study, self.points = study, points
        self.objectives = study_notes(study).definition.aims
        numbers = [CONTROL if p.trial is None else str(p.trial.number) for p in points]
        self.folder = StudyFolder(place.confirmations.absolute() / f"{'-'.join(numbers)}x{seeds}")
        tried = [notes(p.trial).report.get("seed") for p in points if p.trial is not None]
        first = 1 + max((seed for seed in tried if isinstance(seed, int)), default=0)
        self.seeds = list(range(first, first + seeds))
        self.place = place

    def write_points(self) -> None:
        """Each point as an experiment file, which is what it is trained by."""
        base = study_notes(self.study).definition.base
        for point in self.points:
            known = None if point.trial is None else notes(point.trial)
            own = [f"ranks={CONTROL}"] if known is None else known.overrides or []
            trained = None if known is None else known.place(self.place)
            found = experiment(base, own, None if trained is None else settings_in(trained))
            path = self.folder.path / _GROUP / f"{point.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, found.text([f"Written by task=confirm of the study {self.study.study_name}."]))

    def train(self, given: Sequence[str]) -> None:
        """Run the grid, or what is missing of it.

        Raises:
            UserError: a trial of it failed.
        """
        from hydra._internal.callbacks import Callbacks
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra._internal.utils import create_config_search_path
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import HydraContext, RunMode

        from ccsweep.sweep.sweeper import Sweeper

        path = create_config_search_path(str(root() / "conf"))
        places = [str(self.folder.path)]
        if HydraConfig.initialized():  # with --config-dir, where a profile may lie
            sources = HydraConfig.get().runtime.config_sources
            places += [source.path for source in sources if source.provider == "command-line"]
        for place in places:
            path.prepend("ccsweep", f"file://{place}", anchor="schema")
        loader = ConfigLoaderImpl(path)
        # The grid's trials are kept in its own folder, whatever the study's storage is.
        lines = [line for line in given if line.partition("=")[0] not in ("sweep.name", "sweep.storage")]
        lines += [f"sweep.name={quoted(str(self.folder.path))}", "sweep.storage=null"]
        lines += [f"+{_GROUP}={','.join(p.name for p in self.points)}"]
        lines += [f"training.seed={','.join(map(str, self.seeds))}"]
        master = loader.load_configuration("config", lines, RunMode.MULTIRUN)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        Sweeper(context, run_point, master, says_what_is_next=False).sweep(lines)

    def folders(self) -> "dict[tuple[str, int], TrialFolder]":
        """Where each point was trained with each seed."""
        from ccsweep.study.storage import open_study

        found = {}
        for trial in open_study(self.folder).get_trials(deepcopy=False):
            known, folder = notes(trial), notes(trial).place(self.folder)
            said = dict(line.lstrip("+").split("=", 1) for line in known.overrides or [])
            name = said.get(_GROUP, self.points[0].name)  # one point alone is no sweep over them
            if folder is not None and folder.read_report() is not None:
                found[name, int(said["training.seed"])] = folder
        return found


def _found(grid: _Grid) -> dict[str, Any]:
    """Test answers and speeds of all networks of the grid, and what they come to."""
    import torch

    from ccsweep.engine.benchmark import compare_networks
    from ccsweep.engine.clock import Load, alone, pinned
    from ccsweep.tasks import result
    from ccsweep.tasks.earlier import restored

    folders = grid.folders()
    timed, right = {}, {}
    for key, folder in folders.items():
        job, dataset = restored(folder)
        timed[key] = result.to_time(job, dataset)
        with torch.no_grad():
            answers = timed[key].network(dataset.test.images).argmax(1)
        right[key] = (answers == dataset.test.labels).numpy()
    with alone(), pinned(), Load() as busy:
        gains = {measured(size).key: compare_networks(timed, size) for size in MEASURED}
    reports = {key: folder.read_report() or {} for key, folder in folders.items()}
    names = [point.name for point in grid.points]
    by_point: dict[str, Any] = {}
    aim = next((key for key in grid.objectives if key in gains), measured(MEASURED[0]).key)
    errors = {n: [100 * float(np.mean(~right[n, s])) for s in grid.seeds] for n in names}
    rounds = {key: {n: [g[n, s] for s in grid.seeds] for n in names} for key, g in gains.items()}
    shares = confirmed.front_probabilities(errors, rounds[aim])
    for point in grid.points:
        name = point.name
        of_control = zip(errors[name], errors[CONTROL], strict=True)
        speeds = {key: [median(each) for each in rounds[key][name]] for key in gains}
        validation = [reports[name, s][VALIDATION_ERROR.key] for s in grid.seeds]
        by_point[name] = {
            "trial": None if point.trial is None else point.trial.number,
            "ranks": reports[name, grid.seeds[0]]["ranks"],
            "settings": [] if point.trial is None else notes(point.trial).overrides,
            "runs": [reports[name, s].get("run_id") for s in grid.seeds],
            "test_error": asdict(confirmed.spread(errors[name])),
            VALIDATION_ERROR.key: asdict(confirmed.spread(validation)),
            **{key: asdict(confirmed.spread(values)) for key, values in speeds.items()},
            "test_error_minus_control": asdict(confirmed.spread([a - b for a, b in of_control])),
            "mcnemar": asdict(confirmed.mcnemar([(right[name, s], right[CONTROL, s]) for s in grid.seeds])),
            "front_probability": shares[name],
            "in_study": _in_study(point, [VALIDATION_ERROR.key, *gains]),
        }
    return {
        "study": grid.study.study_name,
        "seeds": grid.seeds,
        "speed": aim,
        "test_images": len(next(iter(right.values()))),
        "timing_load": busy.cores,
        "points": by_point,
        "optimism": _optimism(by_point),
    }


def _in_study(point: Point, keys: Sequence[str]) -> dict[str, float]:
    """What the study itself found, its speeds as they were when its other workers were busy."""
    if point.trial is None:
        return {}
    report = notes(point.trial).report
    return {key: report.get(in_study(key), report[key]) for key in keys if key in report}


def _optimism(points: dict[str, Any]) -> float | None:
    """By how much the validation errors that the points were picked by lie below those of fresh seeds."""
    key = VALIDATION_ERROR.key
    costs = [p[key]["mean"] - p["in_study"][key] for p in points.values() if key in p["in_study"]]
    return float(np.mean(costs)) if costs else None


def _write(place: StudyFolder, found: dict[str, Any], grid: _Grid, uri: str) -> list[Path]:
    """confirmed.json and confirmed.png, which the study's run in MLflow gets, too, wherever its folder is."""
    from ccsweep.report.confirmed import draw

    write_text(place.confirmed, json.dumps(found, indent=2) + "\n")
    draw(place.confirmed_picture, found)
    files = [place.confirmed, place.confirmed_picture]
    of_study, of_grid = store_of(place.path) or uri, store_of(grid.folder.path) or uri
    is_here = place.definition.is_file()
    parent = run_id_of(place.path) if is_here else study_notes(grid.study).parent
    child = run_id_of(grid.folder.path)
    if parent is not None and is_stored(of_study, parent):
        with Run.resume(of_study, parent, system_metrics=False) as run:
            for file in files:
                run.log_artifact(file)
        if child is not None:
            with Run.resume(of_grid, child, system_metrics=False) as run:
                run.set_tags({"mlflow.parentRunId": parent, "ccsweep.confirms": parent})
    return files
