"""Timing fairly: one timing at a time on a host, candidates in turns.

Two timings would measure each other; a busy moment of the machine should hit all candidates.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ccsweep.files import in_turn

log = logging.getLogger("ccsweep.engine")

Name = TypeVar("Name")
LEAST = 7  # turns of each candidate, however long they take
WARM_UP = 1e-3  # seconds of a turn before it is timed, at least one call
TURN = 2e-3  # seconds of a turn, at least one call


def race(candidates: Mapping[Name, Callable[[], object]], seconds: float) -> dict[Name, list[float]]:
    """Microseconds of each candidate's calls.

    A turn begins with calls that are not timed: what ran before has left its own weights in the cache,
    which in use nothing would. One call of a dense network brings all of its weights back, one of a
    network that skips work only those that its input needs: so each gets the same time, not the same calls.

    Args:
        candidates: what to time; each call should bring inputs that the last one did not have.
        seconds: for all candidates together.
    """
    took: dict[Name, list[float]] = {name: [] for name in candidates}
    clock = time.perf_counter
    stop = clock() + seconds
    turns = 0
    while turns < LEAST or clock() < stop:
        for name, run in candidates.items():
            begun = clock()
            while True:
                run()
                first = start = clock()
                if first - begun > WARM_UP:
                    break
            while True:
                run()
                end = clock()
                took[name].append(1e6 * (end - start))
                if end - first > TURN:
                    break
                start = end
        turns += 1
    return took


def lock_file() -> Path:
    """What a process of this user holds while it times."""
    return Path(tempfile.gettempdir()) / f"ccsweep-timing-{os.getuid()}.lock"


@contextmanager
def alone() -> Iterator[None]:
    """Time nothing else of this user's on this host meanwhile; says so when it has to wait.

    The lock falls with the process, however that ends. It keeps timings apart, not a timing and a
    training beside it.
    """
    with in_turn(lock_file(), lambda: log.info("waiting for another run on this host to end its timing")):
        yield
