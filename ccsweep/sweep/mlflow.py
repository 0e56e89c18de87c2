"""What MLflow is told of a study: its parent run, and the ends of runs whose workers could not tell.

The parent is opened by the first trial that starts (``ccsweep.tracking.parent``), so a study whose trials are
not tracked has none. Here it gets the best of each objective and the hypervolume after each trial that
counts, and its end, whatever happens.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from ccsweep.figures import final
from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.front import best_so_far, counted, hypervolume, knee, pareto
from ccsweep.study.notes import StudyNotes, note_study, notes, study_notes
from ccsweep.tracking import Run, close_parent, resolve_uri
from ccsweep.tracking.away.spool import send_kept
from ccsweep.tracking.away.wait import wait_for
from ccsweep.tracking.find import FOLDER_TAG, run_id_of, store_of
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import Status, describe
from ccsweep.tracking.parent import amend, children, settle
from ccsweep.tracking.ui import command

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)


def settle_run(folder: TrialFolder, uri: str | None) -> None:
    """End the run in ``folder``, if there is one, as its trial ended: FINISHED if it left its report."""
    if (run_id := run_id_of(folder.path)) is None:
        return
    try:
        status: Status = "KILLED" if folder.read_report() is None else "FINISHED"
        settle(store_of(folder.path) or resolve_uri(uri), run_id, status)
    except Exception as error:  # the store may be what is broken; the study goes on
        log.warning("run %s: not ended: %s", run_id, describe(error))


def agree(study: "Study", folder: StudyFolder, uri: str) -> None:
    """Bring the runs of a study that nobody is at to where its trials are, whoever was killed in between.

    A trial that is complete has a FINISHED run with the figures that the study has of it, its speeds as they
    are alone, and of a search says whether it is on the front; none is RUNNING.

    Raises:
        UserError: the store does not answer.
    """
    if (parent := run_id_of(folder.path)) is None:
        return
    for kept in send_kept(folder.path / "trials", uri):
        log.info("sent what the run in %s had kept", kept)
    trials = trials_of(study)
    by_folder = {Path(str(notes(t).folder)).name: t for t in trials}
    places = _places(trials, study_notes(study).definition.objectives)
    for run in children(uri, parent):
        trial = by_folder.get(Path(run.data.tags.get(FOLDER_TAG, "")).name)
        if trial is not None and trial.state == TrialState.COMPLETE:
            if run.info.status != "FINISHED":
                settle(uri, run.info.run_id, "FINISHED")
            amend(uri, run, final(notes(trial).report), places.get(trial.number, {}))
        elif run.info.status == "RUNNING":
            settle(uri, run.info.run_id, "KILLED")


def _places(trials: Sequence[FrozenTrial], objectives: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """By trial whether it is on the front, and whether it is its knee; nothing of a grid, which has none."""
    if not objectives or not (best := pareto(trials, objectives)):
        return {}
    numbers, bend = {trial.number for trial in best}, knee(best, objectives)
    return {
        trial.number: {
            "front": "yes" if trial.number in numbers else "no",
            "knee": "yes" if bend is not None and trial.number == bend.number else "no",
        }
        for trial in counted(trials)
    }


class Tracker:
    """Logs to the study's parent run, in a thread: MLflow takes seconds to import and a while to answer.

    Args:
        study: of the sweep.
        folder: of the study; ``run.json`` in it names the parent.
        objectives: directions by key.
        uri: of the store, unless the parent's folder names it.
        patience: seconds to wait for the store at the end.
    """

    def __init__(
        self,
        study: "Study",
        folder: StudyFolder,
        objectives: Mapping[str, str],
        uri: str | None,
        patience: float = 0.0,
    ) -> None:
        self._patience = patience
        self._study, self._folder, self._objectives, self._uri = study, folder, objectives, uri
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tracker")
        self._pending: Future[None] | None = None
        self._run: Run | None = None
        known = study_notes(study)
        self._logged = known.logged
        self._known = known.parent is not None

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Log what is new; returns at once."""
        if self._pending is not None and not self._pending.done():
            return
        if (run_id := run_id_of(self._folder.path)) is None:
            return
        if not self._known:
            self._known = True
            note_study(self._study, StudyNotes(parent=run_id, uri=mask(self._store())))
        self._pending = self._pool.submit(self._log, list(trials))

    def wait(self) -> None:
        """Until nothing is being logged."""
        if self._pending is not None:
            self._pending.result()

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Log the rest and the files, and end the parent; never fails.

        The hypervolume is measured from the worst values of all trials, so it is logged now, for all that
        were done since the last time.

        Args:
            files: to be artifacts of the parent.
            status: of the parent.
        """
        try:
            if status != "KILLED" and run_id_of(self._folder.path) is not None:
                wait_for(self._store(), self._patience)
            trials = self._study.get_trials(deepcopy=False)
            logged = study_notes(self._study).logged
            self._pool.submit(self._log, trials).result()
            self._pool.submit(self._log_hypervolume, trials, logged).result()
            if self._logged > logged:
                note_study(self._study, StudyNotes(logged=self._logged))
            for file in files:
                if self._run is not None:
                    self._run.log_artifact(file)
            if self._run is not None:
                self._run.describe(self._description())
                agree(self._study, self._folder, self._store())
        except Exception as error:
            log.warning("the parent run: %s", describe(error))
        finally:
            self._pool.shutdown()
            try:
                close_parent(self._store(), self._folder.path, status)
            except Exception as error:
                log.warning("the parent run was not ended: %s", describe(error))

    def _log_hypervolume(self, trials: list[FrozenTrial], logged: int) -> None:
        if self._run is None:
            return
        for step, value in hypervolume(trials, self._objectives):
            if step > logged:
                self._run.log_metrics({"hypervolume": value}, step)

    def _description(self) -> str:
        """What the study is, what it came to, and the commands that go on with it and show it; Markdown."""
        known = study_notes(self._study)
        done, front = len(counted(trials_of(self._study))), ""
        if known.definition.objectives:
            front = f", {len(pareto(trials_of(self._study), known.definition.objectives))} on the front"
        return (
            f"**{self._folder.name}**: {done} trials with results{front}.\n\n    {mask(known.command)}\n    "
            f"{command(self._store(), self._folder.path)}"
        )

    def _store(self) -> str:
        return store_of(self._folder.path) or resolve_uri(self._uri)

    def _log(self, trials: list[FrozenTrial]) -> None:
        run_id = run_id_of(self._folder.path)
        if run_id is None:
            return
        try:
            if self._run is None:
                self._run = Run.resume(self._store(), run_id, system_metrics=False)
            steps: dict[int, dict[str, float]] = {}
            for name, curve in best_so_far(trials, self._objectives).items():
                for step, value in curve:
                    if step > self._logged:
                        steps.setdefault(step, {})[f"best/{name}"] = value
            for step, metrics in sorted(steps.items()):
                self._run.log_metrics(metrics, step)
                self._logged = step
        except Exception as error:
            log.warning("the parent run: %s", describe(error))
