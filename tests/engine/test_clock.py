"""One timing at a time on a host; candidates in turns, on a clock that the test drives."""

import logging
import os
import tempfile
from threading import Event, Thread

import pytest
from filelock import FileLock

from ccsweep.engine import clock
from ccsweep.engine.clock import alone, lock_file, race


@pytest.fixture(autouse=True)
def _lock_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_second_timing_waits_and_says_so(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    began = Event()

    def second():
        with alone():
            began.set()

    thread = Thread(target=second)
    with FileLock(lock_file()):  # as another process holds it
        thread.start()
        assert not began.wait(0.2)
    thread.join(timeout=20)
    assert began.is_set()
    assert caplog.messages == ["waiting for another run on this host to end its timing"]


def test_nobody_else_is_timing(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    for _ in range(2):
        with alone():
            pass
    assert caplog.messages == []


def test_the_lock_falls_with_an_error():
    with pytest.raises(ZeroDivisionError), alone():
        _ = 1 / 0
    with FileLock(lock_file(), timeout=0):
        pass


class Machine:
    """Its clock goes on by what runs on it, in milliseconds."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []

    def perf_counter(self) -> float:
        return self.now / 1000

    def takes(self, name: str, milliseconds: float):
        def run() -> None:
            self.now += milliseconds
            self.log.append(name)

        return run


@pytest.fixture
def machine(monkeypatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(clock, "time", machine)
    return machine


def test_candidates_take_turns_of_the_same_time(machine):
    took = race({"slow": machine.takes("s", 5), "fast": machine.takes("f", 0.75)}, seconds=0)
    # Untimed for more than 1 ms: one slow call, or two; then timed for more than 2 ms: one, or three.
    assert "".join(machine.log) == "ssfffff" * 7
    assert took == {"slow": pytest.approx([5000] * 7), "fast": pytest.approx([750] * 21)}


def test_a_race_lasts_as_long_as_it_was_given(machine):
    machine.now = 1e6
    took = race({"a": machine.takes("a", 5), "b": machine.takes("b", 5)}, seconds=0.2)
    assert machine.now == 1e6 + 200  # ten turns of 20 ms
    assert [len(times) for times in took.values()] == [10, 10]


def test_the_lock_is_of_this_user():
    assert lock_file().name == f"ccsweep-timing-{os.getuid()}.lock"
