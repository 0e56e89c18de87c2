"""How threads that run one kernel together wait for each other, without asking the system."""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.memory import TILE
from ccsweep.kernels.simd import LANES

SPINS = 2000
"""Looks before a thread that waits lets others have its core: they may be what it waits for."""
_give_way = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _arrive(typing, counter):
    """Adds one to the int64 at an address, which other threads see."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def _arrived(typing, counter):
    """The int64 at an address, as other threads left it."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.intp), codegen


@jit
def meet(counter, times, shares):
    """Waits until all shares came here for the ``times``-th time; what each wrote before, all see.

    ``counter``: int64 (1,), 0 before the first time.
    """
    if shares == 1:
        return
    address, spins = counter.ctypes, 0
    _arrive(address.data)
    while _arrived(address.data) < times * shares:
        spins += 1
        if spins > SPINS:
            _give_way()


@kernel
def tiles(width):
    """Where each tile of so many columns begins, and the last one ends; what adds up does so tile by tile.

    Both halves of the width are in tiles, so that two threads have as much to do as one another, and sums
    do not hang on how many there are.
    """
    half = width if width <= TILE else -(-width // (2 * LANES)) * LANES
    first = -(-half // TILE)
    edges = np.empty(first - (half - width) // TILE + 1, np.int64)
    for t in range(edges.size):
        edges[t] = t * TILE if t < first else min(half + (t - first) * TILE, width)
    return edges


@kernel
def part(edges, p, parts):
    """Of so many parts one: from its first tile to its last."""
    count = edges.size - 1
    return -(-count * p // parts), -(-count * (p + 1) // parts)
