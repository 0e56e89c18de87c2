"""How arrays lie in memory: whole vectors, rows that start at a cache line, blocks that fit the cache."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import carray
from numba.core import types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import jit
from ccsweep.kernels.simd import LANES

TILE = 8 * LANES
"""Units whose sums are kept in registers together."""
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN = 2**20
"""What a second-level cache is taken to hold where nothing says it: a small one of today."""


def second_level(caches: Path = CACHES) -> int:
    """Bytes of this machine's second-level cache, as Linux tells it."""
    for cache in sorted(caches.glob("index*")):
        with suppress(OSError, ValueError):
            if int((cache / "level").read_text()) == 2:
                return 1024 * int((cache / "size").read_text().strip().removesuffix("K"))
    return UNKNOWN


# Weights that all samples go through together: as much as stays in the cache meanwhile.
BLOCK_BYTES = second_level()


def whole(width: int, size: int) -> int:
    """``width``, up to the next multiple."""
    return -(-width // size) * size


def vectors(width: int) -> int:
    """So many floats in whole vectors."""
    return whole(width, LANES)


def spaced(width: int) -> int:
    """Whole vectors, and an odd number of them where rows are long.

    Rows at a power of two from each other would fall into the same few lines of the cache.
    """
    width = vectors(width)
    return width + LANES if width >= 256 and width % (2 * LANES) == 0 else width


def block(length: int, rows: int, cached: int | None = None, size: int = 4) -> int:
    """How many of ``rows`` weights of ``length`` numbers fit the cache: a multiple of a tile.

    ``cached``: its bytes; None for those of the engine. ``size``: bytes of a number.
    """
    fitting = (cached or BLOCK_BYTES) // (size * max(length, 1)) // TILE * TILE
    return min(max(fitting, TILE), -(-rows // TILE) * TILE)


def aligned(rows: int, width: int, kind: type[np.number] = np.float32) -> np.ndarray:
    """An array (rows, width) that starts at a cache line, not filled."""
    line, size = 64, rows * width * np.dtype(kind).itemsize
    raw = np.empty(size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + size].view(kind).reshape(rows, width)


@intrinsic
def pointer(typing, address):
    """The pointer to an address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), codegen


@jit
def floats(address, size):
    """The float32 array at an address.

    Numba counts who holds a slice, in one place that all threads write to: this nobody counts.
    """
    return carray(pointer(address), (size,), np.float32)


@jit
def ints(address, size):
    """The int32 array at an address; see :func:`floats`."""
    return carray(pointer(address), (size,), np.int32)


@jit
def line_bytes(rows, width):
    """uint8 (rows, width), not filled, that starts at a cache line: loads across two take twice as long."""
    line = 64
    raw = np.empty(rows * width + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + rows * width].reshape(rows, width)


@jit
def zero_bytes(rows, width):
    """The same, of zeros."""
    made = line_bytes(rows, width)
    made[:] = 0
    return made
