"""Timing fairly: one timing at a time on a host, candidates in turns.

Two timings would measure each other; a busy moment of the machine should hit all candidates.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import comb
from statistics import median
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import psutil

log = logging.getLogger("ccsweep.engine")


class Pace(NamedTuple):
    """Seconds of a turn, each at least one call."""

    untimed: float
    timed: float


STEADY = Pace(4e-3, 2e-3)
"""To know how fast candidates are: for so long after other work, products in tiles (AMX) get faster."""
GLANCE = Pace(5e-4, 1e-3)
"""To choose among many."""

Name = TypeVar("Name")
LEAST = 7  # turns of each candidate, however long they take
FEW = 3  # the same, to choose among many
LONGEST = 600.0  # seconds to wait for another timing to end
LOCK = "\0ccsweep timing"  # of a socket of the host without a file, which one process at a time has
CONFIDENCE = 0.95
NARROW = 0.02  # half an interval's width over its value, with which a race has seen enough


@dataclass(frozen=True)
class Interval:
    """A value with the ends between which the true one lies, in 95 of 100 cases or more."""

    value: float
    low: float
    high: float

    @property
    def is_narrow(self) -> bool:
        """Whether more timing would hardly tell more."""
        return self.high - self.low <= 2 * NARROW * self.value


def around_median(values: Sequence[float]) -> Interval:
    """The median of independent values with its interval, whatever their distribution.

    Between the r-th least and the r-th greatest of n values lies the true median, but for two tails of a
    binomial distribution with one half (David & Nagaraja, "Order Statistics", section 7.1); r is the
    greatest with which they come to 5 % at most. With fewer than six values that is never so: then the
    ends are the least and the greatest.
    """
    ordered = sorted(values)
    n, rank, tail = len(ordered), 0, 0.0
    while rank < n // 2 and 2 * (tail + comb(n, rank) / 2**n) <= 1 - CONFIDENCE:
        tail += comb(n, rank) / 2**n
        rank += 1
    rank = max(rank, 1)
    return Interval(median(ordered), ordered[rank - 1], ordered[-rank])


Turn = dict[Name, list[float]]
"""Microseconds of each candidate's calls in one turn."""


@runtime_checkable
class Remote(Protocol):
    """What runs in another process, and has to be timed there."""

    def turn(self) -> list[float]:
        """See :func:`turn`."""


def race(candidates: Mapping[Name, Callable[[], object]], seconds: float) -> dict[Name, list[float]]:
    """Microseconds of each candidate's calls, all :func:`turns` together, at a ``GLANCE``."""
    timed = turns(candidates, seconds, pace=GLANCE, least=FEW)
    return {name: list(chain.from_iterable(turn[name] for turn in timed)) for name in candidates}


def turns(
    candidates: Mapping[Name, Callable[[], object] | Remote],
    seconds: float,
    enough: Callable[[Sequence[Turn[Name]]], bool] = lambda timed: False,
    pace: Pace = STEADY,
    least: int = LEAST,
) -> list[Turn[Name]]:
    """Turns of all candidates, one after the other, until the time is over or they are enough.

    A turn begins with calls that are not timed: what ran before has left its own weights in the cache,
    which in use nothing would. One call of a dense network brings all of its weights back, one of a
    network that skips work only those that its input needs: so each gets the same time, not the same calls.

    Args:
        candidates: what to time; each call should bring inputs that the last one did not have.
        seconds: for all candidates together.
        enough: asked after each turn, once there are so many as at least.
        pace: of their turns.
        least: turns, however long they take.
    """
    timed: list[Turn[Name]] = []
    clock = time.perf_counter
    stop = clock() + seconds
    while len(timed) < least or (clock() < stop and not enough(timed)):
        timed.append({})
        for name, run in candidates.items():
            timed[-1][name] = run.turn() if isinstance(run, Remote) else turn(run, pace)
    return timed


def turn(run: Callable[[], object], pace: Pace = STEADY) -> list[float]:
    """Microseconds of the calls of one turn."""
    clock, took = time.perf_counter, []
    begun = clock()
    while True:
        run()
        first = start = clock()
        if first - begun > pace.untimed:
            break
    while True:
        run()
        end = clock()
        took.append(1e6 * (end - start))
        if end - first > pace.timed:
            return took
        start = end


class Load:
    """How many of the machine's cores others keep busy meanwhile; ``cores`` says it afterwards."""

    cores = 0.0

    def __enter__(self) -> "Load":
        self._began, self._busy, self._own = time.perf_counter(), _busy_seconds(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        spent = time.perf_counter() - self._began
        others = (_busy_seconds() - self._busy) - (time.process_time() - self._own)
        self.cores = round(max(0.0, others / spent), 2) if spent > 0 else 0.0


def _busy_seconds() -> float:
    """Of all cores together, since the machine started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread on one core, the one that did least lately; where the system lets it."""
    allowed = os.sched_getaffinity(0)
    shares = psutil.cpu_percent(interval=0.05, percpu=True)
    core = min(allowed, key=lambda k: shares[k] if k < len(shares) else 0.0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def alone() -> Iterator[None]:
    """Time nothing else on this host meanwhile; says so when it has to wait.

    What is held is a name, not a file: each job of a cluster may have a temporary folder of its own. It falls
    with the process, however that ends, and keeps timings apart, not a timing and a training beside it.
    Whoever has waited for ten minutes times beside the others, and says so. Any user can hold a name, as they
    could a file that all may lock: who has waited in vain waits a tenth of it the next time, until it is had.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        _take(held)
        yield


_patience = 1.0  # share of LONGEST


def _take(held: socket.socket) -> None:
    global _patience
    began, told = time.monotonic(), False
    beside = "other runs may be timed at the same time"
    while True:
        try:
            held.bind(LOCK)
            _patience = 1.0
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.warning("%s: %s", beside, error)
                return
        if time.monotonic() - began > _patience * LONGEST:
            log.warning("%s: one on this host has not ended for %.0f s", beside, time.monotonic() - began)
            _patience /= 10
            return
        if not told:
            log.info("waiting for another run on this host to end its timing")
        told = True
        time.sleep(0.05)
