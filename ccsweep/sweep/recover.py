"""Before the first worker starts: what all trials share is there, the storage in order, nothing left over."""

import json
import logging
import socket
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep import data
from ccsweep.config.schema import TASKS, Config
from ccsweep.errors import UserError
from ccsweep.files import read_json_if_whole, remove_leftovers, write_text
from ccsweep.study import record, storage
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import Kind, StudyNotes, note_study, notes, study_notes
from ccsweep.study.trials import Completed, Ending, Failed, handle, sort, tell, try_again
from ccsweep.sweep import lease, mlflow
from ccsweep.sweep.cluster.claim import refuse_other
from ccsweep.sweep.crew import kill_tree, remove_pickles
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import find_run, prepare, provenance, resolve_uri
from ccsweep.tracking.client import connect
from ccsweep.tracking.find import noted_run, store_of
from ccsweep.tracking.mask import mask
from ccsweep.tracking.model import check_registry
from ccsweep.tracking.store import sqlite_path

if TYPE_CHECKING:
    from optuna import Study

LEFT_BEHIND = Failed(Kind.MACHINE, "its sweeper was gone", excused=True)
# What a study is compared by: ``base`` is in the settings, and may be written in several ways.
_UNCOMPARED = "the command is not compared with what the study began with"
_COMPARED = ("objectives", "space", "conditions", "constraints", "sampler", "pruning", "seeds", "settings")
_LOST = {"kind": Kind.STOPPED, "cause": "lost with the storage; it had no result of its own"}

log = logging.getLogger(__name__)


def open_or_begin(plan: Plan) -> "Study":
    """The study of the plan's folder, mended if need be and of the same definition.

    Raises:
        UserError: it began with another definition, or its storage cannot be used.
    """
    folder = plan.folder
    try:
        refuse_change(plan)
    except UserError:
        if not _set_aside(folder, plan.sweep.storage):
            raise
    if not folder.definition.exists() and (other := noted_run(folder.path)) is not None:
        raise UserError(f"hydra.sweep.dir={folder.path}: holds run {other} already; choose another folder")
    end_workers(folder)
    remove_leftovers(folder.path)
    damaged = plan.sweep.storage is None and record.mend(folder)
    study = storage.create(folder, plan.sweep.storage, plan.objectives)
    if "definition" in study.user_attrs:
        known = study_notes(study)
        if plan.sweep.storage is not None and not _is_of(folder, known):
            raise UserError(
                f"sweep.name={folder.name}: sweep.storage holds a study of that name whose folder is "
                f"{known.folder} on {known.host}; choose another sweep.name"
            )
        if plan.sweep.storage is not None:
            refuse_other(study)
        refuse_change_of(plan, known)
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
    began = read_json_if_whole(plan.folder.definition, _UNCOMPARED)
    if began is not None:
        _refuse_change(plan, began)


def refuse_change_of(plan: Plan, known: StudyNotes) -> None:
    """Compare with what the storage knows of the study.

    Raises:
        UserError: what it began with differs.
    """
    _refuse_change(plan, {**asdict(known.definition), "settings": known.settings})


def _set_aside(folder: StudyFolder, url: str | None) -> bool:
    """Make room for a study begun anew, if all trials of the one before failed; whether they did.

    What failed for a cause that the command mends, as a setting that cannot be, should not cost its name.
    """
    end_workers(folder)
    try:
        study = storage.open_study(folder, url)
    except UserError:
        return False
    if url is not None and not _is_of(folder, study_notes(study)):
        return False
    now = sort(study.get_trials(deepcopy=False))
    if not now.failed or now.complete or now.pruned or now.reused:
        return False
    if url is not None:
        optuna.delete_study(study_name=study.study_name, storage=study._storage)
    number = 1
    while (aside := folder.path / f"failed-{number}").exists():
        number += 1
    aside.mkdir()
    for path in list(folder.path.iterdir()):
        if not path.name.startswith((".", "failed-")):
            path.rename(aside / path.name)
    log.warning("all %d trials had failed: begun anew; what they left is in %s", len(now.failed), aside)
    return True


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
    ending = otherwise if report is None else Completed(report)
    storage.persistently(lambda: tell(handle(study, trial), ending, plan.rules))
    if folder is not None:
        with suppress(OSError):  # a full disk: the storage knows
            record.write(folder, study.get_trials(deepcopy=False)[trial.number])
        mlflow.settle_run(folder, plan.uri)


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
    if known.id not in (None, id_of(folder)):
        return False
    if known.folder in (None, str(folder.path)):
        return True
    return folder.definition.exists() and not StudyFolder(Path(str(known.folder))).definition.exists()


def id_of(folder: StudyFolder) -> str | None:
    """What was drawn when the study of ``folder`` began."""
    found = (read_json_if_whole(folder.definition, _UNCOMPARED) or {}).get("id")
    return found if isinstance(found, str) else None


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
    drawn = id_of(plan.folder) or uuid.uuid4().hex
    note_study(
        study,
        StudyNotes(
            id=drawn,
            definition=plan.definition,
            settings=plan.settings,
            folder=str(plan.folder.path),
            uri=mask(store_of(plan.folder.path) or resolve_uri(plan.uri)),
            commit=provenance.code_tags().get("mlflow.source.git.commit", "unknown"),
            command=plan.command_to_go_on,
            host=socket.gethostname(),
            n_trials=plan.target,
            timing_on=plan.sweep.timing_on,
        ),
    )
    content = {"id": drawn, **asdict(plan.definition), "settings": plan.settings}
    content["command"] = plan.shown_command
    write_text(plan.folder.definition, json.dumps(content, indent=2) + "\n")


def look_up(config: Config, searched: Collection[str], run: str | None) -> None:
    """Refuse what would make every trial fail, one after the other.

    Args:
        config: what all trials begin from.
        searched: the keys that trials differ in, which are not looked at.
        run: that all trials are about, if it was typed: Hydra reads an id like 123e4567 as a number.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    uri = resolve_uri(config.tracking.uri)
    groups = {key.partition(".")[0] for key in searched}
    if TASKS[config.task].run and "run" not in searched:
        _look_up_run(run or str(config.run), uri)
    if not TASKS[config.task].run and "data" not in groups:
        _look_up_data(config)
    if config.training.device == "cuda" and "training.device" not in searched:
        _look_up_gpu()
    if sqlite_path(uri) is None:
        prepare(uri)
    if config.tracking.register is not None:
        prepare(uri)
        check_registry(connect(uri), uri, config.tracking.register)


def _look_up_run(run: str, uri: str) -> None:
    folder = TrialFolder(find_run(store_of(Path(run)) or uri, run).folder)
    if not folder.settings.is_file():
        raise UserError(
            f"run={run}: {folder.settings} is missing; expected a run id or the folder of a ccsweep run"
        )
    if not (best := folder.checkpoints / "best.ckpt").is_file():
        raise UserError(f"{best}: no such checkpoint; the run may have stopped before its first epoch ended")


def _look_up_data(config: Config) -> None:
    """Files that are missing and cannot be downloaded; a set that has a stand-in can always be had."""
    wanted = config.data
    embedded = {name for name, _ in data.STAND_INS.values()}
    if wanted.name not in embedded and wanted.stand_in is None:
        data.load(
            wanted.name,
            directory=wanted.dir,
            verify=wanted.verify,
            extra=wanted.extra,
            samples=wanted.samples,
            **wanted.own,
        )


def _look_up_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "training.device=cuda: no CUDA GPU is visible to torch here; use training.device=cpu or auto"
        )
