"""Leases in the study's storage: two hosts may share a database and no disk.

The sweeper's, and those of guests, workers that no sweeper started. A thread of its own keeps each fresh,
because a storage may take its time, by a counter, because two hosts' clocks need not agree. Only a study that
is not in a file of its own folder needs them.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ccsweep.errors import UserError
from ccsweep.study.notes import Kind, StudyNotes, note_study, notes, study_notes
from ccsweep.study.trials import Failed
from ccsweep.sweep import lease
from ccsweep.tracking.outcome import describe

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

EVERY = 10.0
"""Seconds between two beats."""
SILENCE = 60.0
"""Seconds without a beat after which an owner on another host counts as dead."""
GUEST = "guest:"
"""Begins the name of a guest's lease among the study's attributes."""
_TOO_LONG = "ran longer than sweep.trial_timeout"

log = logging.getLogger(__name__)


def refuse_other(study: "Study") -> None:
    """Return if no other sweeper is at work on the study; takes a minute if one of another host may be.

    Raises:
        UserError: there is one.
    """
    held = study_notes(study).sweeper
    if held is None or held["ended"]:
        return
    if _is_of_this_host(held):
        alive = lease.runs_here(held)
    else:
        log.warning("a sweeper on %s held this study: looking whether it still does", held["host"])
        alive = _beats(study, held)
    if alive:
        raise UserError(
            f"sweep.name={study.study_name}: another sweep is at work on that study, on {held['host']}; "
            "wait for it, stop it, or choose another sweep.name"
        )


def too_long(minutes: float | None) -> Failed:
    """How a trial ends that takes longer than ``sweep.trial_timeout``."""
    return Failed(Kind.TRIAL, f"{_TOO_LONG}={minutes:g} minutes")


@contextmanager
def claimed(study: "Study", name: str, began: float) -> Iterator[None]:
    """Hold the study in its storage, as the sweeper ``name`` whose command was given at ``began``."""
    with _kept(lambda held: note_study(study, StudyNotes(sweeper=held)), name, began=began):
        yield


@contextmanager
def joined(study: "Study", name: str) -> Iterator[None]:
    """Be known in the study's storage as the guest ``name``."""
    with _kept(lambda held: study.set_user_attr(f"{GUEST}{name}", held), name):
        yield


def leave(study: "Study", name: str) -> None:
    """Let go of the lease of a guest whose process goes on as another."""
    key = f"{GUEST}{name}"
    study.set_user_attr(key, {**study.user_attrs[key], "ended": True})


def sweeping(study: "Study") -> str | None:
    """The host of a study's sweeper that is at work, by the storage alone and as far as one look tells."""
    held = study_notes(study).sweeper
    if held is None or held["ended"] or time.time() - held.get("seen", 0.0) > SILENCE:
        return None
    return str(held["host"])


class Guests:
    """The guests of a study, as its sweeper sees them.

    Args:
        study: of the sweep.
    """

    def __init__(self, study: "Study") -> None:
        self._study = study
        self._looked = -EVERY
        self._beats: dict[str, tuple[int, float]] = {}
        self._since: dict[int, float] = {}

    def look(self, now: bool = False) -> list[str]:
        """See who is there, at once or if it is time to; returns those who have gone without a word."""
        if not now and time.monotonic() - self._looked < EVERY:
            return []
        self._looked = time.monotonic()
        dead = []
        for key, held in self._study.user_attrs.items():
            if not key.startswith(GUEST):
                continue
            name = key.removeprefix(GUEST)
            beat, heard = self._beats.get(name, (-1, 0.0))
            if held["ended"]:
                self._beats.pop(name, None)
            elif held["beat"] != beat:
                self._beats[name] = held["beat"], self._looked
            elif self._looked - heard > SILENCE:
                del self._beats[name]
                self._study.set_user_attr(key, {**held, "ended": True})
                dead.append(name)
        return dead

    @property
    def names(self) -> list[str]:
        """Of those that were there at the last look."""
        return list(self._beats)

    def overdue(self, running: "Sequence[FrozenTrial]", seconds: float) -> "list[FrozenTrial]":
        """Those of the running trials that are a guest's and were first seen here so long ago."""
        now, known = time.monotonic(), self._since
        mine = [
            trial for trial in running if notes(trial).worker in self._beats and notes(trial).held is None
        ]
        self._since = {trial.number: known.get(trial.number, now) for trial in mine}
        return [trial for trial in mine if now - self._since[trial.number] > seconds]

    def see_out(self) -> None:
        """Return when none is there: those of a sweeper that is gone notice it by themselves."""
        self.look(now=True)
        if self.names:
            log.warning("waiting for %s to leave, whose sweeper is gone", ", ".join(self.names))
        while self.names:
            time.sleep(min(1.0, EVERY))
            self.look(now=True)


class Host:
    """The sweeper of a study, as a guest sees it.

    Args:
        study: of the guest.
        name: of the sweeper that was at work when it joined.
    """

    def __init__(self, study: "Study", name: str) -> None:
        self._study, self._name = study, name
        self._looked = self._seen = -EVERY
        self._beat, self._heard = -1, time.monotonic()
        self._there = True

    def is_there(self) -> bool:
        """Whether it is; a storage that is away says nothing about that."""
        if time.monotonic() - self._looked < EVERY:
            return self._there
        self._looked = time.monotonic()
        try:
            held = study_notes(self._study).sweeper or {"id": None}
        except Exception as error:
            log.debug("the sweeper's lease: %s", describe(error))
            return self._there
        if held["id"] != self._name or held["ended"]:
            self._there = False
        elif held["beat"] != self._beat:
            self._beat, self._heard = held["beat"], time.monotonic()
        else:
            self._there = time.monotonic() - self._heard < SILENCE
        return self._there

    def has_ended(self, number: int) -> str | None:
        """How it has ended a trial that the guest is still at and that takes too long; None if it has not."""
        if time.monotonic() - self._seen < EVERY:
            return None
        self._seen = time.monotonic()
        try:
            known = notes(self._study.get_trials(deepcopy=False)[number])
        except Exception as error:
            log.debug("trial %d: %s", number, describe(error))
            return None
        return known.cause if known.cause is not None and known.cause.startswith(_TOO_LONG) else None


@contextmanager
def _kept(write: Callable[[dict[str, Any]], None], name: str, **more: Any) -> Iterator[None]:
    """Write a lease of this process into the storage every few seconds."""
    over, pid = threading.Event(), os.getpid()
    held: dict[str, Any] = {"id": name, "host": socket.gethostname(), "pid": pid, "beat": 0, "ended": False}
    held |= {"pid_started": lease.started(pid), "seen": time.time(), **more}
    write(held)

    def keep() -> None:
        while not over.wait(EVERY):
            held.update(beat=held["beat"] + 1, seen=time.time())
            try:
                write(held)
            except Exception as error:  # whoever works on the study will meet it
                log.debug("the lease in the storage: %s", describe(error))

    thread = threading.Thread(target=keep, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try:
            write({**held, "ended": True})
        except Exception as error:
            log.warning("the study could not be let go: %s", describe(error))


def _is_of_this_host(held: dict[str, Any]) -> bool:
    """By its name and by when it was booted: containers may share the one, or the other."""
    own = str(lease.started(os.getpid())).partition(":")[0]
    return bool(held["host"] == socket.gethostname() and str(held["pid_started"]).startswith(own))


def _beats(study: "Study", held: dict[str, Any]) -> bool:
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline:
        time.sleep(min(1.0, SILENCE / 5))
        now = study_notes(study).sweeper
        if now is None or now["ended"]:
            return False
        if (now["id"], now["beat"]) != (held["id"], held["beat"]):
            return True
    return False
