"""Timing: candidates take turns, so that a busy moment of the machine hits all of them."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")
LEAST = 7  # turns of each candidate, however long they take
TURN = 2e-3  # seconds of a turn, at least one call


def race(candidates: Mapping[Name, Callable[[], object]], seconds: float) -> dict[Name, list[float]]:
    """Microseconds of each candidate's calls.

    A turn begins with a call that is not timed: what ran before has left its own weights in the cache,
    which in use nothing would.

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
            run()
            first = start = clock()
            while True:
                run()
                end = clock()
                took[name].append(1e6 * (end - start))
                if end - first > TURN:
                    break
                start = end
        turns += 1
    return took
