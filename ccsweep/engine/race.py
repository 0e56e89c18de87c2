"""Timing: candidates take turns, so that a busy moment of the machine hits all of them."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

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
