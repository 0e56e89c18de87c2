"""The sweeper's lease in the study's storage: two hosts may share a database and no disk.

It is kept fresh by a thread of its own, because a storage may take its time, and by a counter, because two
hosts' clocks need not agree. Only a study that is not in a file of its own folder needs one.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ccsweep.errors import UserError
from ccsweep.study.notes import StudyNotes, note_study, study_notes
from ccsweep.sweep import lease
from ccsweep.tracking.outcome import describe

if TYPE_CHECKING:
    from optuna import Study

EVERY = 10.0
"""Seconds between two beats."""
SILENCE = 60.0
"""Seconds without a beat after which a sweeper of another host counts as dead."""

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


@contextmanager
def claimed(study: "Study", name: str) -> Iterator[None]:
    """Hold the study in its storage, as the sweeper ``name``."""
    over = threading.Event()
    pid = os.getpid()
    held: dict[str, Any] = {"id": name, "host": socket.gethostname(), "pid": pid, "beat": 0, "ended": False}
    held["pid_started"] = lease.started(pid)
    note_study(study, StudyNotes(sweeper=held))

    def keep() -> None:
        while not over.wait(EVERY):
            held["beat"] += 1
            try:
                note_study(study, StudyNotes(sweeper=held))
            except Exception as error:  # the sweeper itself will meet it
                log.debug("the study's lease: %s", describe(error))

    thread = threading.Thread(target=keep, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try:
            note_study(study, StudyNotes(sweeper={**held, "ended": True}))
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
