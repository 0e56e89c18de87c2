"""What a sweep leaves when it has ended: a grid its table over seeds, a study its page."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from ccsweep.errors import UserError
from ccsweep.figures import VALIDATION_ERROR
from ccsweep.report import following, grid
from ccsweep.report.grid import Entry, Row, grouped, rows
from ccsweep.study import alone, front
from ccsweep.study.notes import notes, study_notes
from ccsweep.study.trials import last_attempts, params_of, sort
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import resolve_uri
from ccsweep.tracking.find import history, logged_json, run_id_of, store_of
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import describe

if TYPE_CHECKING:
    from optuna import Study

    from ccsweep.report.canvas import Curve

_NOTE_LIMIT = 2045  # characters, of a part of optuna-dashboard's notes

log = logging.getLogger(__name__)


def write(plan: Plan, study: "Study") -> list[Path]:
    """Show and write what there is to show; returns the files, which the parent run is to have.

    Raises:
        UserError: the study's page cannot be written.
    """
    return _write_page(plan, study) if plan.sweep.objectives else _write_table(plan, study)


def say_what_is_next(plan: Plan, study: "Study", files: Sequence[Path]) -> None:
    """The last lines of a sweep: where it lies, and what to type next."""
    print(f"{'folder':8}{plan.folder.path} ({', '.join(file.name for file in files)})")
    lines = following.lines(study, plan.folder, plan.uri)
    for line in lines:
        print(line)
    if plan.sweep.objectives:
        _note_for_dashboard(study, lines)


def _note_for_dashboard(study: "Study", lines: Sequence[str]) -> None:
    """What optuna-dashboard shows as notes: what to type next, and which trials are on the front.

    Under the keys of its ``save_note``; to import it would take a second, and it may be installed later.
    """
    objectives = study_notes(study).definition.aims
    best = front.pareto(alone.trials_of(study), objectives)
    knee = front.knee(best, objectives)
    bodies = {"dashboard": "\n".join(["To type next:", "", *(f"    {line}" for line in lines)])}
    for trial in best:
        place = "The knee of the front" if trial is knee else "On the front"
        own = " ".join(notes(trial).overrides or [])
        bodies[f"dashboard:{trial._trial_id}"] = f"{place}: `{mask(own)}`"
    try:
        before = study._storage.get_study_system_attrs(study._study_id)
        for key, body in bodies.items():
            body = body[:_NOTE_LIMIT]
            if before.get(f"{key}:note_str:0") != body:
                version = before.get(f"{key}:note_ver", 0) + 1
                study._storage.set_study_system_attr(study._study_id, f"{key}:note_str:0", body)
                study._storage.set_study_system_attr(study._study_id, f"{key}:note_ver", version)
    except (StorageInternalError, OSError) as error:  # nothing needs them
        log.warning("no notes for optuna-dashboard: %s", describe(error))


def _write_page(plan: Plan, study: "Study") -> list[Path]:
    from ccsweep.report.study import page

    if (mixed := alone.mixture(study)) is not None:
        log.warning("%s", mixed)
    try:
        return page.write(study, plan.folder)
    except Exception as error:
        log.debug("the study's page", exc_info=True)
        raise UserError(
            f"{plan.folder.page}: could not be written ({describe(error)}); the trials stand: "
            "mend it, then give the same command again"
        ) from error


def judge(plan: Plan, trials: Sequence[FrozenTrial]) -> None:
    """Say what failed, as an exit status says it.

    Raises:
        UserError: a run of a grid failed, or every trial of a study.
    """
    by_outcome = sort(trials)
    failed, done = len(by_outcome.failed), by_outcome.done
    for trial in by_outcome.failed:
        known = notes(trial)
        log.error("failed: %s: %s", " ".join(known.overrides or []), known.cause)
    if failed and (not plan.sweep.objectives or failed == done):
        raise UserError(f"{failed} of {done + len(by_outcome.reused)} runs failed; see above")


def _write_table(plan: Plan, study: "Study") -> list[Path]:
    """The table over seeds on the terminal and in files, and the picture of its rows."""
    trials = study.get_trials(deepcopy=False)
    entries = [_entry(plan, trial, trials) for trial in _last_of_points(trials)]
    if not entries:
        return []
    table = rows(entries, plan.sweep.paper or None)
    grid.show(entries, table)
    return grid.write(plan.folder.path, plan.shown_command, entries, table) + _draw(plan, entries, table)


def _last_of_points(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The last attempt at each point, in the order of the first ones."""
    last = last_attempts(trials)
    return [trials[number] for first, number in sorted(last.items()) if trials[number].state.is_finished()]


def _entry(plan: Plan, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Entry:
    known = notes(trial)
    own = plan.space.overrides(params_of(trial)) if known.overrides is None else known.overrides
    overrides = [*plan.base, *own]
    ranks = str(known.ranks or trial.params.get("ranks", "-"))
    folder = (known if known.reuses is None else notes(trials[known.reuses])).place(plan.folder)
    if trial.state == TrialState.COMPLETE and folder is not None:
        report = folder.read_report()
        if report is None and known.run_id is not None:  # it ran on another machine's disk
            uri = store_of(plan.folder.path) or resolve_uri(plan.uri)
            report = logged_json(uri, known.run_id, folder.report.name)
        if report is not None:
            return Entry(overrides, ranks, report)
        return Entry(overrides, ranks, None, f"{folder.path} holds no report any more")
    return Entry(overrides, ranks, None, known.cause or trial.state.name.lower())


def _draw(plan: Plan, entries: Sequence[Entry], table: Sequence[Row]) -> list[Path]:
    """Draw ``rows.png``, if there are two rows that were trained and can be compared."""
    if run_id_of(plan.folder.path) is None:  # nothing was tracked
        return []
    uri = store_of(plan.folder.path) or resolve_uri(plan.uri)
    name = VALIDATION_ERROR.metric
    curves: dict[str, list[Curve]] = {}
    tests: dict[str, list[float]] = {}
    for row, group in zip(table, grouped(entries), strict=True):
        reports = [entry.report for entry in group if entry.report is not None]
        reports = [report for report in reports if "epochs" in report]  # an evaluation has one point
        if reports:
            logged = [history(uri, report["run_id"], name) for report in reports]
            curves[row.label] = [metrics.get(name, []) for metrics in logged]
            tests[row.label] = [report["test_error"] for report in reports if "test_error" in report]
    if len(curves) < 2:
        return []
    from ccsweep.report.pictures import draw_rows

    title = "Error by row: " + "; ".join(grid.about(entries))
    return [draw_rows(plan.folder.rows, title, curves, tests)]
