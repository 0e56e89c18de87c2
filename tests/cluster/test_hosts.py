"""Hosts that share the database and the MLflow server, and no disk."""

import json
import re
import signal
import subprocess
import sys
import threading
from typing import Any

from ccsweep.study.notes import notes
from ccsweep.study.storage import create
from ccsweep.sweep.cluster.turn import turn
from ccsweep.worker import LEFT
from tests.cluster.conftest import Lab, until

SWEEP = "from tests.sweep.tasks import main; main()"
JOIN = "from tests.sweep.tasks import joined; joined()"


def elsewhere(lab: Lab, code: str, *words: str, kept: str = "") -> "subprocess.Popen[Any]":
    """Start Python on another host: it has a name and a disk of its own, the working directory included.

    Args:
        lab: whose services it reaches.
        code: of the program.
        words: its arguments.
        kept: what is in the study's folder there as ``study.json``.
    """
    own = f'hostname other && mount -t tmpfs tmpfs "{lab.folder}" && mkdir -p "{lab.study.path}"'
    own += f' && if [ "$1" ]; then echo "$1" > "{lab.study.definition}"; fi'
    own += f' && shift && cd "{lab.folder}" && exec "$@"'
    words = ("unshare", "--mount", "--uts", "sh", "-c", own, "sh", kept, sys.executable, "-c", code, *words)
    return subprocess.Popen(
        words, env=lab.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_second_host_is_refused_and_ends_nothing(lab: Lab) -> None:
    grid = ["-m", "training.l1=range(0,6)", "training.source='until told'", "sweep.workers=2"]
    place = [f"hydra.sweep.dir={lab.study.path}", f"sweep.storage={lab.services.database}"]
    with lab.start(*grid[1:]) as first:
        until(lambda: len(lab.computed()) == 2)
        with elsewhere(lab, SWEEP, *grid, *place) as second:
            said = second.communicate(timeout=200)[0]
        assert second.returncode == 2
        host = lab.stored().user_attrs["host"]
        assert said.splitlines()[-1] == (
            f"ccsweep: sweep.name={lab.name}: sweep.storage holds a study of that name whose folder is "
            f"{lab.study.path} on {host}; choose another sweep.name"
        )
        with elsewhere(lab, SWEEP, *grid, *place, kept=lab.study.definition.read_text()) as copy:
            said = copy.communicate(timeout=200)[0]
        assert copy.returncode == 2
        assert said.splitlines()[-1] == (
            f"ccsweep: sweep.name={lab.name}: another sweep is at work on that study, on {host}; "
            "wait for it, stop it, or choose another sweep.name"
        )
        (lab.folder / "told").touch()
        out, _ = first.communicate(timeout=200)
    assert first.returncode == 0, out
    assert lab.states() == {"COMPLETE": 6}
    assert len(set(lab.computed())) == len(lab.computed()) == 6


def test_a_worker_without_the_disk_joins_and_leaves(lab: Lab) -> None:
    lab.environment["TRACKED"] = "1"

    def of_guest(*states: str) -> list[int]:
        trials = [trial for trial in lab.trials() if str(notes(trial).worker).startswith("other-")]
        return [trial.number for trial in trials if trial.state.name in states]

    with lab.start("training.l1=range(0,10)", "training.source='2'", "sweep.workers=1") as sweep:
        until(lab.in_a_run)
        with elsewhere(lab, JOIN, lab.services.database, lab.name) as guest:
            until(lambda: of_guest("COMPLETE") and of_guest("RUNNING"))
            guest.send_signal(signal.SIGTERM)
            said = guest.communicate(timeout=60)[0]
        assert guest.returncode == 130, said
        out, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, out
    assert lab.states()["COMPLETE"] == 10
    assert lab.causes() in ([LEFT], [])  # none, if it came between two trials
    assert all(notes(trial).excused for trial in lab.trials() if trial.state.name == "FAIL")
    table = json.loads(lab.study.table_data.read_text())["runs"]
    assert [found["report"]["validation_error"] for found in table] == list(range(1, 11))
    runs = lab.runs()
    assert runs["sweep"] == ["FINISHED"]
    assert runs["trial"].count("FINISHED") == 10
    assert set(runs["trial"]) <= {"FINISHED", "KILLED"}


def test_a_guest_leaves_a_trial_that_takes_too_long(lab: Lab) -> None:
    """Its limit is known to the sweeper alone, as it may stand in a profile."""
    lab.environment["TRACKED"] = "1"
    options = ["training.l1=range(0,24)", "training.source='no end at first, elsewhere'", "sweep.workers=1"]
    with lab.start(*options, "sweep.trial_timeout=0.15") as sweep:
        until(lab.in_a_run)
        with elsewhere(lab, JOIN, lab.services.database, lab.name, "sweep.trial_timeout=null") as guest:
            out, _ = sweep.communicate(timeout=300)
            said = guest.communicate(timeout=60)[0]
    assert guest.returncode == 0, said
    assert sweep.returncode == 2, out
    (ended,) = [t for t in lab.trials() if t.state.name == "FAIL" and not notes(t).excused]
    assert notes(ended).cause == "ran longer than sweep.trial_timeout=0.15 minutes"
    assert lab.states()["COMPLETE"] == 23
    before, told, after = said.partition(f"trial {ended.number}: {notes(ended).cause}")
    assert told, said
    (first,), (second,) = (re.findall(r"worker (\S+) has joined", part) for part in (before, after))
    assert notes(ended).worker == first
    assert any(notes(trial).worker == second for trial in lab.trials())
    assert all(lab.stored().user_attrs[f"guest:{name}"]["ended"] for name in (first, second))
    runs = lab.runs()
    assert runs["sweep"] == ["FAILED"]
    assert runs["trial"].count("FINISHED") == 23
    assert set(runs["trial"]) == {"FINISHED", "KILLED"}


def test_whose_turn_it_is_stands_in_the_database(lab: Lab) -> None:
    url, first = (
        lab.services.database,
        create(lab.study, lab.services.database, {"validation_error": "minimize"}),
    )
    second, entered, leave = lab.stored(), threading.Event(), threading.Event()

    def enter() -> None:
        with turn(second, lab.study, url):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=enter)
    with turn(first, lab.study, url):
        thread.start()
        assert not entered.wait(1)
        first.ask()  # Optuna's own locks are others
        lab.services.sql(  # the first one's connection is lost, and its turn with it
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND datname = 'studies'"
        )
        assert entered.wait(30)
    leave.set()
    thread.join()
    with turn(second, lab.study, url):
        pass
    first._storage._backend._backend.engine.dispose()
