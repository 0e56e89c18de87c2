"""Before the first worker starts: storage in order, the study the one that is meant, nothing left over."""

import json
import logging
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from ccsweep.errors import UserError
from ccsweep.files import write_text
from ccsweep.study import record, storage
from ccsweep.study import trials as outcomes
from ccsweep.study.folder import DEFINITION, WORKERS
from ccsweep.sweep import lease
from ccsweep.sweep import mlflow as tracker
from ccsweep.sweep.crew import kill_tree, remove_pickles
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import provenance, resolve_uri
from ccsweep.tracking.find import run_id_of, store_of
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

LEFT_BEHIND = "its sweeper was gone"
_FIXED = ("objectives", "space", "conditions", "constraints", "sampler", "pruning", "seeds", "settings")

log = logging.getLogger(__name__)


def open_or_begin(plan: Plan) -> "Study":
    """The study of the plan's folder, mended if need be and of the same definition.

    Raises:
        UserError: it began with another definition, or its storage cannot be used.
    """
    refuse_change(plan)
    if not (plan.folder / DEFINITION).exists() and (other := run_id_of(plan.folder)) is not None:
        raise UserError(f"hydra.sweep.dir={plan.folder}: holds run {other} already; choose another folder")
    end_workers(plan.folder)
    damaged = plan.sweep.storage is None and storage.mend(plan.folder)
    study = storage.create(plan.folder, plan.sweep.storage, plan.objectives)
    attrs = study.user_attrs
    if "definition" in attrs:
        elsewhere = plan.sweep.storage is not None and attrs.get("folder") != str(plan.folder)
        if elsewhere:
            raise UserError(
                f"sweep.name={plan.folder.name}: sweep.storage holds a study of that name whose folder is "
                f"{attrs.get('folder')}; choose another sweep.name"
            )
        _refuse_change(plan, {**attrs["definition"], "settings": attrs.get("settings")})
    lost = damaged or not study.get_trials(deepcopy=False)
    if lost and (count := record.restore(study, plan.folder)):
        log.warning("%d trials were put back from their own folders", count)
    _describe(plan, study)
    return study


def refuse_change(plan: Plan) -> None:
    """Compare with the definition in the folder, which is there even when the storage was lost.

    Raises:
        UserError: what the study began with differs.
    """
    _refuse_change(plan, _written(plan.folder))


def clear(study: "Study", plan: Plan) -> None:
    """Settle what a sweeper that was killed or stopped left: no trial is running when this returns."""
    for trial in running_of(study, None):
        settle(plan, study, trial, LEFT_BEHIND, outcomes.MACHINE, excused=True)
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        attrs = trial.user_attrs
        if trial.state == TrialState.FAIL and attrs.get("kind") == outcomes.STOPPED:
            outcomes.try_again(study, trial, study.get_trials(deepcopy=False))


def running_of(study: "Study", worker: str | None) -> "list[FrozenTrial]":
    """The trials that a worker is at; of all workers for None."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if worker is None or trial.user_attrs.get("worker") == worker
    ]


def settle(
    plan: Plan, study: "Study", trial: "FrozenTrial", cause: str, kind: str, excused: bool = False
) -> None:
    """End a trial whose worker is dead: with its result, if it got that far, else as failed.

    Args:
        plan: of the sweep.
        study: of the trial.
        trial: a running one that nobody is at.
        cause: why its worker is dead, in one line.
        kind: of the failure.
        excused: the failure does not count against its retries.
    """
    handle = outcomes.running(study, trial)
    folder = trial.user_attrs.get("folder")
    report = None if folder is None else record.report_in(Path(folder))
    if report is not None:
        outcomes.complete(handle, report, plan.objectives, plan.constraints)
    else:
        outcomes.fail(handle, kind, cause, plan.sweep.retries, excused)
    if folder is not None:
        record.write(Path(folder), study.get_trials(deepcopy=False)[trial.number])
        tracker.close_run(Path(folder), plan.uri)


def end_workers(folder: Path) -> None:
    """End workers that outlived their sweeper: at once on this host, elsewhere they notice by themselves."""
    paths = (folder / WORKERS).glob("w*.json")
    by_path = {p: found for p in paths if (found := lease.read(p)) is not None and found["ended"] is None}
    leases = by_path.values()
    for found in leases:
        if lease.runs_here(found):
            log.warning("worker %s of a sweep that is gone was still at work: ended", found["id"])
            kill_tree(found["pid"])
    watch = lease.Watch()
    deadline = time.monotonic() + 10
    while any(lease.runs_here(found) for found in leases) and time.monotonic() < deadline:
        time.sleep(0.05)
    elsewhere = [path for path, found in by_path.items() if found["host"] != socket.gethostname()]
    while any((now := lease.read(p)) and now["ended"] is None and watch.lives(now) for p in elsewhere):
        time.sleep(1.0)
    remove_pickles(folder)


def _written(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / DEFINITION).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_change(plan: Plan, began: dict[str, Any] | None) -> None:
    """Compare by what trials are made from; two ways to write the same settings are the same."""
    if began is None:
        return
    now = json.loads(json.dumps({**plan.definition, "settings": plan.settings}))
    for key in _FIXED:
        if key not in began or (began[key] is None and key == "settings"):
            continue
        if (change := _difference(key, began[key], now[key])) is not None:
            where, before, after = change
            shown = where if key == "settings" else f"sweep.{where}" if key != "seeds" else where
            shown = shown.removeprefix("settings.")
            raise UserError(
                f"sweep.name={plan.folder.name}: began with {shown}={_shown(before)}, found {_shown(after)}; "
                "choose another sweep.name"
            )


def _difference(where: str, began: Any, now: Any) -> tuple[str, Any, Any] | None:
    """The first key that differs, with both values."""
    if isinstance(began, dict) and isinstance(now, dict):
        for key in [*began, *(k for k in now if k not in began)]:
            found = _difference(f"{where}.{key}", began.get(key), now.get(key))
            if found is not None:
                return found
        # The order of objectives is the order of a trial's values.
        return (where, began, now) if list(began) != list(now) and where == "objectives" else None
    return None if began == now else (where, began, now)


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)


def _describe(plan: Plan, study: "Study") -> None:
    """Write down what the study is and how it was called."""
    known = study.user_attrs
    uri = mask(store_of(plan.folder) or resolve_uri(plan.uri))
    tags = provenance.code_tags()
    values = {
        "definition": plan.definition,
        "settings": plan.settings,
        "folder": str(plan.folder),
        "uri": uri,
        "commit": tags.get("mlflow.source.git.commit", "unknown"),
        "command": plan.command_to_go_on,
        "host": socket.gethostname(),
        "n_trials": plan.target,
    }
    for key, value in values.items():
        if known.get(key) != json.loads(json.dumps(value)):
            study.set_user_attr(key, value)
    found = {**plan.definition, "settings": plan.settings, "command": plan.shown_command}
    write_text(plan.folder / DEFINITION, json.dumps(found, indent=2) + "\n")
