"""``task=sweep_finish``: the front of a study timed again, alone, and its runs made whole.

A sweep ends with it; given by hand it does what is missing. A trial of a search leaves its figures and its
checkpoint. Those that someone will look at get the rest here: the picture of their training, the network as
MLflow's model, and the files that make a run known.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset
from ccsweep.engine.benchmark import compare_networks
from ccsweep.engine.clock import Load, alone, around_median, pinned
from ccsweep.errors import UserError
from ccsweep.figures import LOAD, MEASURED, SHARED, high, in_study, low, measured
from ccsweep.interrupt import finishing
from ccsweep.study import front
from ccsweep.study.alone import due, is_on, trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import StudyNotes, note_study, notes, study_notes
from ccsweep.tasks import result
from ccsweep.tasks.earlier import restored
from ccsweep.tasks.run import ENVIRONMENT_TAG
from ccsweep.tasks.sweep_status import existing
from ccsweep.tracking import Run, resolve_uri
from ccsweep.tracking.find import run_id_of, store_of
from ccsweep.tracking.provenance import cpu_model
from ccsweep.training import checkpoint
from ccsweep.training.fit import Job

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)


def sweep_finish(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Time the candidates for the front of ``sweep.name`` alone; make the runs on it whole.

    Args:
        config: ``sweep.name``, ``sweep.storage`` and ``sweep.timing_on`` are read.
        folder: not needed.
        overrides: not needed.

    Raises:
        UserError: no such study, or its speeds are to be those of another type of CPU.
    """
    place, study = existing(config)
    note_study(study, StudyNotes(timing_on=config.sweep.timing_on))
    if not is_on(wanted := study_notes(study).timing_on, cpu := cpu_model()):
        raise UserError(f"sweep.timing_on={wanted}: this machine has {cpu}; expected one with such a CPU")
    networks = _Networks(place, config.tracking.uri)
    timed: list[int] = []
    while trials := [trial for trial in due(study) if networks.are_there(trial)]:
        _time(study, trials, networks)
        timed += [trial.number for trial in trials]
    best = front.pareto(trials_of(study), study_notes(study).definition.aims)
    whole = [trial.number for trial in best if networks.are_there(trial) and _make_whole(trial, networks)]
    return {"task": config.task, "study": study.study_name, "timed": timed, "made_whole": whole}


class _Networks:
    """Trained networks of a study's trials, with the data that they were trained on."""

    def __init__(self, place: StudyFolder, uri: str | None) -> None:
        self.place, self.uri = place, uri

    def folder(self, trial: "FrozenTrial") -> TrialFolder:
        """Of the trial."""
        found = notes(trial).place(self.place)
        assert found is not None
        return found

    def are_there(self, trial: "FrozenTrial") -> bool:
        """Whether the trial's folder is on this machine, whole."""
        found = notes(trial).place(self.place)
        return found is not None and found.settings.is_file() and run_id_of(found.path) is not None

    def get(self, trial: "FrozenTrial") -> tuple[Job, Dataset]:
        """The trial's network as it was tested, and its data."""
        return restored(self.folder(trial))


def _time(study: "Study", trials: "Sequence[FrozenTrial]", networks: _Networks) -> None:
    """Time the trials' networks in turns, alone and on one core, and note their speeds."""
    log.info("timing %d trials again, alone", len(trials))
    loaded = {trial.number: networks.get(trial) for trial in trials}
    timed = {number: result.to_time(*each) for number, each in loaded.items()}
    speeds: dict[str, dict[str, list[float]]] = {str(number): {} for number in timed}
    with alone(), pinned(), Load() as busy:
        for size in MEASURED:
            for number, rounds in compare_networks(timed, size).items():
                gain = around_median(rounds)
                ends = (gain.value, gain.low, gain.high)
                speeds[str(number)][measured(size).key] = [round(each, 4) for each in ends]
    if busy.cores > SHARED:
        log.warning("others kept %.1f cores busy meanwhile: these speeds are not as alone", busy.cores)
    for trial in trials:
        report = _retimed(networks.folder(trial), speeds[str(trial.number)], busy.cores)
        with _resumed(networks.folder(trial), networks.uri) as run:
            result.log_final(run, *loaded[trial.number], report)
    known, on = study_notes(study), dict.fromkeys(speeds, cpu_model())
    note_study(study, StudyNotes(alone={**known.alone, **speeds}, alone_on={**known.alone_on, **on}))


def _retimed(folder: TrialFolder, speeds: dict[str, list[float]], load: float) -> dict[str, Any]:
    """Put a trial's speeds into its report, what the study measured beside them; returns the report."""
    known = folder.read_report() or {}
    found: dict[str, float] = {LOAD.key: load}
    for key, (value, least, greatest) in speeds.items():
        if key in known:
            found[in_study(key)] = known.get(in_study(key), known[key])
        found |= {key: value, low(key): least, high(key): greatest}
    folder.write_report(known | found)
    return known | found


def _make_whole(trial: "FrozenTrial", networks: _Networks) -> bool:
    """Give a trial's run what it would have had if it had run alone; False if it has it."""
    folder = networks.folder(trial)
    if folder.environment.exists():
        return False
    job, dataset = networks.get(trial)
    with _resumed(folder, networks.uri) as run:
        if job.config.task == "train":
            run.log_artifact(checkpoint.best(folder.path), "checkpoints")
            result.draw_figures(run, job, dataset)
        report = folder.read_report() or {}
        result.log_network(run, job, dataset, result.plans(job, dataset), report)
        result.log_final(run, job, dataset, report)  # again: they are the model's, too
        for file in (folder.settings, folder.overrides, folder.report):
            run.log_artifact(file)
        for file in _environment(run, folder, networks):
            run.log_artifact(file)
    return True


def _environment(run: Run, folder: TrialFolder, networks: _Networks) -> list[Path]:
    """The file that says with what the trial ran, copied from the study's, the changed code first."""
    kept = networks.place.path / run.tag(ENVIRONMENT_TAG)
    files = []
    for source, name in ((kept.with_suffix(".diff"), "git.diff"), (kept, folder.environment.name)):
        if source.is_file():
            files.append(Path(shutil.copyfile(source, folder.path / name)))
    return files


@contextlib.contextmanager
def _resumed(folder: TrialFolder, uri: str | None) -> Iterator[Run]:
    """The run in a folder, for some more to be logged."""
    run_id = run_id_of(folder.path)
    assert run_id is not None
    with finishing():
        run = Run.resume(store_of(folder.path) or resolve_uri(uri), run_id, system_metrics=False)
    with run:
        yield run
