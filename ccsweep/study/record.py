"""A second account of each trial, in its own folder, for the day on which the storage is damaged."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.files import write_text
from ccsweep.study.folder import RECORD, TRIALS

if TYPE_CHECKING:
    from optuna import Study

REPORT = "report.json"
_LOST = {"kind": "stopped", "cause": "lost with the storage; it had no result of its own"}


def write(folder: Path, trial: FrozenTrial) -> None:
    """Write down a trial as it is now, into its own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "number": trial.number,
        "state": trial.state.name,
        "params": trial.params,
        "distributions": {k: distribution_to_json(d) for k, d in trial.distributions.items()},
        "values": trial.values,
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "started": _text(trial.datetime_start),
        "ended": _text(trial.datetime_complete),
    }
    write_text(folder / RECORD, json.dumps(found, indent=1) + "\n")


def report_in(folder: Path) -> dict[str, Any] | None:
    """What a run left as its report in its folder, if it got that far."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / REPORT).read_text())
        return found if isinstance(found, dict) else None
    return None


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Keep what a task handed over, where it did not write that down itself."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / REPORT, json.dumps(report, indent=2, default=str) + "\n")


def restore(study: "Study", folder: Path) -> int:
    """Put back what records say and the study has lost; returns how many trials that were.

    A trial that was under way when its record was written is put back as running: whether it came to
    an end is for who settles the trials of dead workers.

    Args:
        study: nobody is at work on it.
        folder: of the study.
    """
    count = 0
    for trial in sorted(_records(folder), key=lambda trial: trial.number):
        trials = study.get_trials(deepcopy=False)
        if trial.number >= len(trials):
            for _ in range(
                trial.number - len(trials)
            ):  # that left no record: numbers must go on to mean the same
                study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=_LOST))
            study.add_trial(trial)
            count += 1
        elif trials[trial.number].state == TrialState.WAITING or (
            trials[trial.number].state == TrialState.RUNNING and trial.state.is_finished()
        ):
            _apply(study, trials[trial.number], trial)
            count += 1
    return count


def _apply(study: "Study", trial: FrozenTrial, record: FrozenTrial) -> None:
    storage, trial_id = study._storage, trial._trial_id
    if trial.state == TrialState.WAITING:
        storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    for name, distribution in record.distributions.items():
        if name not in trial.params:
            value = distribution.to_internal_repr(record.params[name])
            storage.set_trial_param(trial_id, name, value, distribution)
    for name, value in record.user_attrs.items():
        storage.set_trial_user_attr(trial_id, name, value)
    for name, value in record.system_attrs.items():
        storage.set_trial_system_attr(trial_id, name, value)
    if record.state.is_finished():
        storage.set_trial_state_values(trial_id, record.state, record.values)


def _records(folder: Path) -> list[FrozenTrial]:
    found = []
    for path in (folder / TRIALS).glob(f"*/{RECORD}"):
        with suppress(OSError, ValueError, KeyError):
            found.append(_read(json.loads(path.read_text())))
    return found


def _read(record: dict[str, Any]) -> FrozenTrial:
    state = TrialState[record["state"]]
    trial = create_trial(
        state=state,
        values=record["values"] if state == TrialState.COMPLETE else None,
        params=record["params"],
        distributions={k: json_to_distribution(d) for k, d in record["distributions"].items()},
        user_attrs=record["user_attrs"],
        system_attrs=record["system_attrs"],
    )
    trial.number = record["number"]
    trial.datetime_start = _time(record["started"])
    trial.datetime_complete = _time(record["ended"])
    return trial


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
