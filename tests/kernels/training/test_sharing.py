"""Tiles by hand, and threads that wait for each other."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from ccsweep.kernels.compiling import jit
from ccsweep.kernels.training.sharing import SPINS, meet, part, tiles


@pytest.mark.parametrize(
    ("width", "edges"),
    [
        (16, [0, 16]),
        (128, [0, 128]),
        (144, [0, 80, 144]),
        (256, [0, 128, 256]),
        (400, [0, 128, 208, 336, 400]),
        (624, [0, 128, 256, 320, 448, 576, 624]),
        (1008, [0, 128, 256, 384, 512, 640, 768, 896, 1008]),
    ],
)
def test_both_halves_are_in_tiles(width: int, edges: list[int]) -> None:
    assert tiles(width).tolist() == edges


@pytest.mark.parametrize("width", [16, 128, 144, 400, 624, 1008, 4096])
@pytest.mark.parametrize("parts", [1, 2, 3, 16])
def test_parts_follow_on_each_other(width: int, parts: int) -> None:
    edges = tiles(width)
    found = [part(edges, p, parts) for p in range(parts)]
    assert found[0][0] == 0
    assert found[-1][1] == len(edges) - 1
    assert all(a[1] == b[0] for a, b in pairwise(found))
    if parts == 2 and width > 128:
        half = edges[found[0][1]]
        assert 0 <= half - (width - half) <= 32


@jit
def _passed_on(counter, places, rounds, share, shares):
    """Each round every share takes its left neighbour's number of the round before, and adds one."""
    for k in range(rounds):
        before = places[k % 2, (share - 1) % shares]
        places[(k + 1) % 2, share] = before + 1
        if share == k % shares:  # somebody is late each time, for longer than the others spin
            for _ in range(20 * SPINS):
                before += places[k % 2, share] % 2
            places[2, share] = before
        meet(counter, k + 1, shares)


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_what_others_wrote_is_there_after_meeting_them(shares: int) -> None:
    rounds, counter, places = 200, np.zeros(1, np.int64), np.zeros((3, shares), np.int64)
    run = [
        threading.Thread(target=_passed_on, args=(counter, places, rounds, k, shares)) for k in range(shares)
    ]
    for thread in run:
        thread.start()
    for thread in run:
        thread.join()
    assert places[0].tolist() == [rounds] * shares
