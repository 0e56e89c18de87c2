"""Before the first worker starts: storage in order, the study the one that is meant, nothing left over."""

import json
import logging
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.errors import UserError
from ccsweep.files import write_text
from ccsweep.study import record, storage
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import Kind, StudyNotes, note_study, notes, study_notes
from ccsweep.study.trials import Completed, Ending, Failed, handle, tell, try_again
from ccsweep.sweep import lease, mlflow
from ccsweep.sweep.crew import kill_tree, remove_pickles
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import provenance, resolve_uri
from ccsweep.tracking.find import noted_run, store_of
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from optuna import Study

LEFT_BEHIND = Failed(Kind.MACHINE, "its sweeper was gone", excused=True)
# What a study is compared by: ``base`` is in the settings, and may be written in several ways.
_COMPARED = ("objectives", "space", "conditions", "constraints", "sampler", "pruning", "seeds", "settings")
_LOST = {"kind": Kind.STOPPED, "cause": "lost with the storage; it had no result of its own"}

log = logging.getLogger(__name__)


def open_or_begin(plan: Plan) -> "Study":
    """The study of the plan's folder, mended if need be and of the same definition.

    Raises:
        UserError: it began with another definition, or its storage cannot be used.
    """
    folder = plan.folder
    refuse_change(plan)
    if not folder.definition.exists() and (other := noted_run(folder.path)) is not None:
        raise UserError(f"hydra.sweep.dir={folder.path}: holds run {other} already; choose another folder")
    end_workers(folder)
    damaged = plan.sweep.storage is None and storage.mend(folder)
    study = storage.create(folder, plan.sweep.storage, plan.objectives)
    if "definition" in study.user_attrs:
        known = study_notes(study)
        if plan.sweep.storage is not None and not _is_of(folder, known):
            raise UserError(
                f"sweep.name={folder.name}: sweep.storage holds a study of that name whose folder is "
                f"{known.folder}; choose another sweep.name"
            )
        _refuse_change(plan, {**asdict(known.definition), "settings": known.settings})
    lost = damaged or not study.get_trials(deepcopy=False)
    if lost and (count := restore(study, folder)):
        log.warning("%d trials were put back from their own folders", count)
    _describe(plan, study)
    return study


def refuse_change(plan: Plan) -> None:
    """Compare with the definition in the folder, which is there even when the storage was lost.

    Raises:
        UserError: what the study began with differs.
    """
    try:
        began = json.loads(plan.folder.definition.read_text())
    except (OSError, ValueError):
        return
    if isinstance(began, dict):
        _refuse_change(plan, began)


def clear(study: "Study", plan: Plan) -> None:
    """Settle what a sweeper that was killed or stopped left: no trial is running when this returns."""
    for trial in running_of(study, None):
        settle(plan, study, trial, LEFT_BEHIND)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.FAIL and notes(trial).kind == Kind.STOPPED:
            try_again(study, trial, study.get_trials(deepcopy=False))


def running_of(study: "Study", worker: str | None) -> "list[FrozenTrial]":
    """The trials that a worker is at; of all workers for None."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if worker is None or notes(trial).worker == worker]


def settle(plan: Plan, study: "Study", trial: "FrozenTrial", otherwise: Ending) -> None:
    """End a running trial that nobody is at: with its result if it got that far, else as ``otherwise``."""
    folder = notes(trial).place(plan.folder)
    report = None if folder is None else folder.read_report()
    tell(handle(study, trial), otherwise if report is None else Completed(report), plan.rules)
    if folder is not None:
        record.write(folder, study.get_trials(deepcopy=False)[trial.number])
        mlflow.close_run(folder, plan.uri)


def end_workers(folder: StudyFolder) -> None:
    """End workers that outlived their sweeper: at once on this host, elsewhere they notice by themselves."""
    contents = {path: lease.read(path) for path in folder.leases()}
    unended = {path: read for path, read in contents.items() if read is not None and read["ended"] is None}
    for read in unended.values():
        if lease.is_worker(read):
            log.warning("worker %s of a sweep that is gone was still at work: ended", read["id"])
            kill_tree(read["pid"])
    deadline = time.monotonic() + 10
    while any(map(lease.is_worker, unended.values())) and time.monotonic() < deadline:
        time.sleep(0.05)
    elsewhere = [path for path, read in unended.items() if read["host"] != socket.gethostname()]
    heartbeats = lease.Heartbeats()
    while any((now := lease.read(p)) and now["ended"] is None and heartbeats.alive(now) for p in elsewhere):
        time.sleep(1.0)
    remove_pickles(folder)


def restore(study: "Study", folder: StudyFolder) -> int:
    """Put back what the trials' own folders say and the study has lost; returns how many trials that were.

    A trial that was under way when its record was written is put back as running: whether it came to
    an end is for who settles the trials of dead workers.

    Args:
        study: nobody is at work on it.
        folder: of the study.
    """
    count = 0
    for trial in record.records(folder):
        trials = study.get_trials(deepcopy=False)
        if trial.number >= len(trials):
            for _ in range(trial.number - len(trials)):  # numbers must go on to mean the same
                study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=_LOST))
            study.add_trial(trial)
            count += 1
        elif trials[trial.number].state == TrialState.WAITING or (
            trials[trial.number].state == TrialState.RUNNING and trial.state.is_finished()
        ):
            _apply(study, trials[trial.number], trial)
            count += 1
    return count


def _apply(study: "Study", trial: FrozenTrial, account: FrozenTrial) -> None:
    """Bring a trial of the storage to where its record has it."""
    store, trial_id = study._storage, trial._trial_id
    if trial.state == TrialState.WAITING:
        store.set_trial_state_values(trial_id, TrialState.RUNNING)
    for name, distribution in account.distributions.items():
        if name not in trial.params:
            value = distribution.to_internal_repr(account.params[name])
            store.set_trial_param(trial_id, name, value, distribution)
    for name, value in account.user_attrs.items():
        store.set_trial_user_attr(trial_id, name, value)
    for name, value in account.system_attrs.items():
        store.set_trial_system_attr(trial_id, name, value)
    if account.state.is_finished():
        store.set_trial_state_values(trial_id, account.state, account.values)


def _is_of(folder: StudyFolder, known: StudyNotes) -> bool:
    """Whether a study in a storage that many share is the one of ``folder``, which may have been moved."""
    if known.folder in (None, str(folder.path)):
        return True
    return folder.definition.exists() and not StudyFolder(Path(str(known.folder))).definition.exists()


def _refuse_change(plan: Plan, began: dict[str, Any]) -> None:
    """Compare by what trials are made from; two ways to write the same settings are the same."""
    now = json.loads(json.dumps({**asdict(plan.definition), "settings": plan.settings}))
    for key in _COMPARED:
        if key not in began or (began[key] is None and key == "settings"):
            continue
        if (change := _difference(key, began[key], now[key])) is not None:
            where, before, after = change
            shown = where if key in ("settings", "seeds") else f"sweep.{where}"
            shown = shown.removeprefix("settings.")
            raise UserError(
                f"sweep.name={plan.folder.name}: began with {shown}={_shown(before)}, found {_shown(after)}; "
                "choose another sweep.name"
            )


def _difference(where: str, began: Any, now: Any) -> tuple[str, Any, Any] | None:
    """The first key that differs, with both values."""
    if isinstance(began, dict) and isinstance(now, dict):
        for key in [*began, *(k for k in now if k not in began)]:
            change = _difference(f"{where}.{key}", began.get(key), now.get(key))
            if change is not None:
                return change
        # The order of objectives is the order of a trial's values.
        return (where, began, now) if list(began) != list(now) and where == "objectives" else None
    return None if began == now else (where, began, now)


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)


def _describe(plan: Plan, study: "Study") -> None:
    """Write down what the study is and how it was called."""
    note_study(
        study,
        StudyNotes(
            definition=plan.definition,
            settings=plan.settings,
            folder=str(plan.folder.path),
            uri=mask(store_of(plan.folder.path) or resolve_uri(plan.uri)),
            commit=provenance.code_tags().get("mlflow.source.git.commit", "unknown"),
            command=plan.command_to_go_on,
            host=socket.gethostname(),
            n_trials=plan.target,
        ),
    )
    content = {**asdict(plan.definition), "settings": plan.settings, "command": plan.shown_command}
    write_text(plan.folder.definition, json.dumps(content, indent=2) + "\n")
