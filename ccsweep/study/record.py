"""For the day on which a storage is damaged: a second account of each trial, in its own folder, and mending.

A journal that was cut off (a full disk, a crash of the machine) is mended before a sweep goes on; what the
lost lines said is in the trials' own folders.
"""

import json
import logging
import shutil
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.files import read_json_if_whole, whole, write_text
from ccsweep.study.folder import StudyFolder, TrialFolder

log = logging.getLogger(__name__)


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
        account = read_json_if_whole(place.record, "its trial is taken from the storage alone")
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # whole, and of no trial
            trials.extend([] if account is None else [_read(account)])
    return sorted(trials, key=lambda trial: trial.number)


def mend(folder: StudyFolder) -> bool:
    """Cut the journal off before the first line that cannot be read, keeping a copy; whether there was one.

    What comes after such a line may speak of other trials than it did: trials are counted in the order of
    their lines. Nobody else may be using the file.
    """
    path = folder.journal
    for lock in path.parent.glob(f"{path.name}.lock*"):  # of a process that was killed while it wrote
        lock.unlink(missing_ok=True)
    if not path.is_file():
        return False
    good = []
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            ok = line.endswith(b"\n") and isinstance(json.loads(line), dict)
        except ValueError:
            ok = False
        if not ok:
            break
        good.append(line)
    if not _plays(good):  # a line may be whole, and say what cannot be
        good = good[: bisect_left(range(len(good)), True, key=lambda count: not _plays(good[: count + 1]))]
    if len(good) == len(lines):
        return False
    copy = _free(path.with_name(f"{path.name}.damaged"))
    shutil.copy2(path, copy)
    with whole(path) as partial:
        partial.write_bytes(b"".join(good))
    log.warning(
        "%s: the last %d of %d lines are damaged and were dropped; the file as it was is kept in %s",
        path,
        len(lines) - len(good),
        len(lines),
        copy.name,
    )
    return True


def _plays(lines: list[bytes]) -> bool:
    """Whether Optuna can read a journal of these lines."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    class Lines(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            return map(json.loads, lines[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise OSError("a journal that is tried is only read")

    try:
        for study in (storage := JournalStorage(Lines())).get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
        return True
    except Exception:
        return False


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


def _free(path: Path) -> Path:
    free, count = path, 1
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}{count}")
    return free
