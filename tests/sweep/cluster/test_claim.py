"""Who holds a study that is in a database: looked up in the database, whoever's folder it is."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from optuna import Study, create_study

from ccsweep.errors import UserError
from ccsweep.study.notes import Kind, Notes, StudyNotes, note, note_study, study_notes
from ccsweep.study.trials import Failed, Rules, handle, tell
from ccsweep.sweep import lease
from ccsweep.sweep.cluster import claim
from ccsweep.sweep.cluster.claim import GUEST, Guests, Host, claimed, joined, refuse_other, too_long


@pytest.fixture
def study() -> Study:
    return create_study(study_name="digits")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SILENCE", 0.5)
    monkeypatch.setattr(claim, "EVERY", 0.05)


def held(study: Study, **changed: Any) -> None:
    own = {"id": "s", "host": socket.gethostname(), "pid": os.getpid(), "beat": 0, "ended": False}
    note_study(study, StudyNotes(sweeper={**own, "pid_started": lease.started(os.getpid()), **changed}))


def refused(study: Study) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other(study)
    return str(caught.value)


def test_a_study_that_nobody_holds(study: Study) -> None:
    refuse_other(study)
    with claimed(study, "s", 0.0):
        assert refused(study) == (
            f"sweep.name=digits: another sweep is at work on that study, on {socket.gethostname()}; "
            "wait for it, stop it, or choose another sweep.name"
        )
    refuse_other(study)


def test_a_sweeper_of_this_host_that_was_killed(study: Study) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    held(study, pid=int(ended.stdout))
    refuse_other(study)


@pytest.mark.parametrize("changed", [{"host": "elsewhere"}, {"pid_started": "another:boot"}])
def test_a_sweeper_elsewhere_is_alive_if_it_says_so(study: Study, changed: dict[str, str]) -> None:
    held(study, **changed)
    refuse_other(study)  # silent
    beat = threading.Timer(0.15, lambda: held(study, beat=1, **changed))
    beat.start()
    assert " is at work on that study, on " in refused(study)
    beat.join()


def test_a_sweeper_elsewhere_that_ends_meanwhile(study: Study) -> None:
    held(study, host="elsewhere")
    end = threading.Timer(0.15, lambda: held(study, host="elsewhere", beat=1, ended=True))
    end.start()
    refuse_other(study)
    end.join()


def test_a_lease_is_kept_fresh_and_let_go(study: Study, wait: Callable[..., None]) -> None:
    with claimed(study, "s", 0.0):
        wait(lambda: (study_notes(study).sweeper or {})["beat"] > 1)
    sweeper = study_notes(study).sweeper
    assert sweeper is not None
    assert (sweeper["id"], sweeper["ended"]) == ("s", True)


def test_a_guest_is_seen_while_it_is_there(study: Study) -> None:
    guests = Guests(study)
    with joined(study, "far-1"):
        assert guests.look(now=True) == []
        assert guests.names == ["far-1"]
    assert guests.look(now=True) == []
    assert guests.names == []
    guests.see_out()


def test_a_guest_that_was_killed_is_missed_once(study: Study, wait: Callable[..., None]) -> None:
    study.set_user_attr(f"{GUEST}far-1", {"id": "far-1", "beat": 3, "ended": False})
    guests, dead = Guests(study), []
    began = time.monotonic()
    wait(lambda: dead.extend(guests.look()) or dead)
    assert time.monotonic() - began > claim.SILENCE
    assert (dead, guests.names) == (["far-1"], [])
    assert Guests(study).look(now=True) == []
    assert study.user_attrs[f"{GUEST}far-1"]["ended"]


def test_a_guests_trial_that_takes_too_long(study: Study, wait: Callable[..., None]) -> None:
    with joined(study, "far-1"):
        guests, host = Guests(study), Host(study, "s")
        guests.look(now=True)
        for known in (Notes(worker="far-1"), Notes(worker="far-1", held=0), Notes(worker="w0")):
            note(study.ask(), known)
        running = study.get_trials()
        assert guests.overdue(running, 0.2) == []
        assert host.has_ended(0) is None
        wait(lambda: guests.overdue(running, 0.2))
        assert guests.overdue(running, 0.2) == running[:1]
        end = too_long(0.5)
        assert end == Failed(Kind.TRIAL, "ran longer than sweep.trial_timeout=0.5 minutes")
        tell(handle(study, running[0]), end, Rules({}, [], 0))
        wait(lambda: host.has_ended(0) == end.cause)
        assert host.has_ended(1) is None


def test_a_guest_knows_its_sweeper_from_the_storage(study: Study, wait: Callable[..., None]) -> None:
    held(study, id="first", host="elsewhere")
    host = Host(study, "first")
    assert host.is_there()
    wait(lambda: not host.is_there())  # silent for too long
    host = Host(study, "first")
    assert host.is_there()
    held(study, id="first", beat=1, ended=True)
    wait(lambda: not host.is_there())
    with claimed(study, "second", 0.0):
        wait(lambda: not host.is_there())
        assert Host(study, "second").is_there()


def test_a_storage_that_is_away_says_nothing_of_the_sweeper(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(study: Study) -> None:
        raise OSError("no route to host")

    held(study, id="first")
    monkeypatch.setattr(claim, "study_notes", away)
    assert Host(study, "first").is_there()


@pytest.fixture
def wait() -> Callable[..., None]:
    def wait(what: Callable[[], object]) -> None:
        for _ in range(500):
            if what():
                return
            threading.Event().wait(0.02)
        raise AssertionError("waited in vain")

    return wait
