"""A second account of each trial, in its own folder, for the day on which the storage is damaged."""

import json
from contextlib import suppress
from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.files import write_text
from ccsweep.study.folder import StudyFolder, TrialFolder


def write(folder: TrialFolder, trial: FrozenTrial) -> None:
    """Write down a trial as it is now, into its own folder."""
    folder.path.mkdir(parents=True, exist_ok=True)
    account = {
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
    write_text(folder.record, json.dumps(account, indent=1) + "\n")


def records(folder: StudyFolder) -> list[FrozenTrial]:
    """The trials that have such an account, in the order of their numbers."""
    trials = []
    for place in folder.trials():
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            trials.append(_read(json.loads(place.record.read_text())))
    return sorted(trials, key=lambda trial: trial.number)


def _read(account: dict[str, Any]) -> FrozenTrial:
    state = TrialState[account["state"]]
    trial = create_trial(
        state=state,
        values=account["values"] if state == TrialState.COMPLETE else None,
        params=account["params"],
        distributions={k: json_to_distribution(d) for k, d in account["distributions"].items()},
        user_attrs=account["user_attrs"],
        system_attrs=account["system_attrs"],
    )
    trial.number = account["number"]
    trial.datetime_start = _time(account["started"])
    trial.datetime_complete = _time(account["ended"])
    return trial


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
