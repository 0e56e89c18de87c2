"""One timing at a time on a host; candidates in turns, on a clock that the test drives."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np
import pytest

from ccsweep.engine import clock
from ccsweep.engine.clock import Interval, Load, alone, around_median, pinned, race, turns


@pytest.fixture(autouse=True)
def _lock_of_its_own(monkeypatch):
    monkeypatch.setattr(clock, "LOCK", f"\0ccsweep tests {os.getpid()}")


@contextmanager
def held_elsewhere() -> Iterator[subprocess.Popen]:
    """Another process of this host holds the lock, whatever its temporary folder, until it is killed."""
    hold = "import socket, sys, time; held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    hold += f"held.bind({clock.LOCK!r}); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_timing_waits_and_says_so(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    began = Event()

    def second():
        with alone():
            began.set()

    thread = Thread(target=second)
    with held_elsewhere() as process:
        thread.start()
        assert not began.wait(0.2)
        process.kill()  # and the lock falls with it
        thread.join(timeout=20)
    assert began.is_set()
    assert caplog.messages == ["waiting for another run on this host to end its timing"]


def test_nobody_else_is_timing(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    for _ in range(2):
        with alone():
            pass
    assert caplog.messages == []


def test_the_lock_falls_with_an_error(caplog):
    with pytest.raises(ZeroDivisionError), alone():
        _ = 1 / 0
    caplog.set_level(logging.INFO, "ccsweep.engine")
    with alone():
        pass
    assert caplog.messages == []


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


def test_what_runs_in_another_process_times_itself(machine):
    class Other:
        def turn(self):
            machine.now += 4
            return [1.5, 2.5]

    timed = turns({"here": machine.takes("h", 5), "there": Other()}, seconds=0)
    assert timed == [{"here": [pytest.approx(5e3)], "there": [1.5, 2.5]}] * clock.LEAST


def test_candidates_take_turns_of_the_same_time(machine):
    took = race({"slow": machine.takes("s", 5), "fast": machine.takes("f", 0.4)}, seconds=0)
    # Untimed for more than 0.5 ms: one slow call, or two; then timed for more than 1 ms: one, or three.
    assert "".join(machine.log) == "ssfffff" * 3
    assert took == {"slow": pytest.approx([5000] * 3), "fast": pytest.approx([400] * 9)}


def test_a_race_lasts_as_long_as_it_was_given(machine):
    machine.now = 1e6
    took = race({"a": machine.takes("a", 5), "b": machine.takes("b", 5)}, seconds=0.2)
    assert machine.now == 1e6 + 200  # ten turns of 20 ms
    assert [len(times) for times in took.values()] == [10, 10]


def test_turns_end_when_they_are_enough():
    counted = []

    def enough(timed):
        counted.append(len(timed))
        return len(timed) == 9

    timed = turns({"a": lambda: None, "b": lambda: None}, 60.0, enough)
    assert counted == [7, 8, 9]
    assert len(timed) == 9
    assert all(set(turn) == {"a", "b"} and turn["a"] and turn["b"] for turn in timed)


@pytest.mark.parametrize(
    ("n", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (8, 0, 7), (9, 1, 7), (12, 2, 9), (20, 5, 14)]
)
def test_the_interval_of_a_median_is_between_two_of_the_values(n, low, high):
    """Ranks as in the tables of the sign test, two-sided at 5 %."""
    found = around_median([float(k) for k in reversed(range(n))])
    assert found == Interval((n - 1) / 2, float(low), float(high))


@pytest.mark.parametrize("n", [6, 9, 25])
def test_the_interval_of_a_median_holds_as_often_as_it_says(n):
    """Also where one value in ten is far off, as a timing is that was disturbed."""
    rng = np.random.default_rng(n)
    values = rng.lognormal(1.0, 0.05, (1000, n)) * np.where(rng.random((1000, n)) < 0.1, 3.0, 1.0)
    truth = float(np.quantile(rng.lognormal(1.0, 0.05, 10**6), 0.5 / 0.9))
    held = [found.low <= truth <= found.high for found in map(around_median, values)]
    assert 0.94 <= np.mean(held) <= 0.995


def test_a_narrow_interval_needs_no_more_timing():
    assert Interval(2.0, 1.97, 2.04).is_narrow
    assert not Interval(2.0, 1.95, 2.04).is_narrow


def test_a_pinned_thread_has_one_core_and_gets_the_others_back():
    before = os.sched_getaffinity(0)
    with pinned():
        assert len(os.sched_getaffinity(0)) == 1
        assert os.sched_getaffinity(0) <= before
    assert os.sched_getaffinity(0) == before


def test_the_load_is_that_of_others(monkeypatch):
    busy, own, now = iter([100.0, 112.0]), iter([1.0, 5.0]), iter([0.0, 4.0])
    monkeypatch.setattr(clock, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(clock.time, "process_time", lambda: next(own))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    with Load() as load:
        pass
    assert load.cores == 2.0  # 12 s of cores in 4 s, of which this process had 4


def test_a_timing_that_waited_too_long_says_so_and_begins(monkeypatch, caplog):
    """A name that somebody keeps costs one long wait, and not one for each timing."""
    monkeypatch.setattr(clock, "LONGEST", 0.1)
    with alone():
        for _ in range(3):
            with alone():
                pass
        assert clock._patience == pytest.approx(0.001)
    assert (
        caplog.messages
        == ["other runs may be timed at the same time: one on this host has not ended for 0 s"] * 3
    )
    with alone():
        assert clock._patience == 1


def test_a_lock_that_cannot_be_had_costs_no_timing(monkeypatch, caplog):
    monkeypatch.setattr(clock, "LOCK", "/nonexistent/lock")  # as where sockets without a file are not known
    with alone():
        pass
    assert caplog.messages == [
        "other runs may be timed at the same time: [Errno 2] No such file or directory"
    ]
