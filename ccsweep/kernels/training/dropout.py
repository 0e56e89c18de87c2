"""Which units dropout keeps: a pure function of (key of the step, level, sample, unit).

So neither blocks nor threads nor a resumed run change a mask. Each (key, level, sample) gets 64 bits by
splitmix64's finaliser, and under them each unit 32 bits by murmur3's, which are compared with the share kept.
"""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.lists import append_positive
from ccsweep.kernels.simd import (
    COMPRESSES,
    FLOATS,
    INTS,
    LANES,
    element,
    load,
    pack,
    splat,
)

ALL = 0xFFFFFFFF
"""The limit where nothing is dropped."""
FACTORS = 0x85EBCA6B, 0xC2B2AE35


@jit
def hashed(index, low, high):
    """32 random bits: murmur3's finaliser of ``index + low``, ``high`` mixed in before the second product."""
    x = np.uint32(index + low)
    x = np.uint32((x ^ (x >> 16)) * FACTORS[0])
    x = np.uint32((x ^ (x >> 13) ^ high) * FACTORS[1])
    return np.uint32(x ^ (x >> 16))


@jit
def sample_key(key, level, sample):
    """Two words for each (step, level, sample): what splitmix64 gives after so many steps from ``key``."""
    steps = (np.uint64(level) << np.uint64(32)) + np.uint64(sample)
    x = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15) * (steps + np.uint64(1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.uint32(x & np.uint64(ALL)), np.uint32(x >> np.uint64(32))


def compress_dropped(comparison: str):
    """As ``simd.compress``, less the pairs that dropout silences; the others' values are times ``scale``.

    A pair stays where its index, :func:`hashed` under the key (low, high), is at most ``limit``.
    """

    def keep(typing, from_indices, from_values, start, indices, values, at, low, high, limit, scale):
        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            i = load(builder, element(context, builder, kinds[0], arguments[0], arguments[2]), INTS)
            v = load(builder, element(context, builder, kinds[1], arguments[1], arguments[2]), FLOATS)
            mask = builder.fcmp_unordered(comparison, v, ir.Constant(FLOATS, [0.0] * LANES))
            low, high, limit, scale = (splat(builder, argument) for argument in arguments[6:])
            x = builder.add(i, low)
            for shift, factor, key in ((16, FACTORS[0], None), (13, FACTORS[1], high)):
                x = builder.xor(x, builder.lshr(x, ir.Constant(INTS, [shift] * LANES)))
                x = x if key is None else builder.xor(x, key)
                x = builder.mul(x, ir.Constant(INTS, [factor] * LANES))
            x = builder.xor(x, builder.lshr(x, ir.Constant(INTS, [16] * LANES)))
            mask = builder.and_(mask, builder.icmp_unsigned("<=", x, limit))
            return pack(context, builder, kinds, arguments, mask, (i, builder.fmul(v, scale)))

        size, word = types.intp, types.uint32
        arguments = from_indices, from_values, size, indices, values, size, word, word, word, types.float32
        return size(*arguments), codegen

    return intrinsic(keep)


def plain_drop(positive: bool):
    """The twin of :func:`compress_dropped`, for the comparison ``>``, or ``!=``."""

    @jit
    def keep(from_indices, from_values, start, indices, values, at, low, high, limit, scale):
        count = 0
        for j in range(start, start + LANES):
            indices[at + count], values[at + count] = from_indices[j], from_values[j] * scale
            stays = hashed(from_indices[j], low, high) <= limit
            count += stays and (not from_values[j] <= 0 if positive else from_values[j] != 0)
        return count

    return keep


drop_nonzero = compress_dropped("!=") if COMPRESSES else plain_drop(positive=False)
drop_positive = compress_dropped(">") if COMPRESSES else plain_drop(positive=True)


@jit
def append_kept(numbers, sums, width, indices, values, count, key, limit, scale):
    """Appends those of ``sums[:width]`` that are positive or NaN, and stay, to a list; returns its length."""
    if limit == ALL:
        return append_positive(numbers, sums, width, indices, values, count)
    low, high = key
    for j in range(0, width, LANES):
        count += drop_positive(numbers, sums, j, indices, values, count, low, high, limit, scale)
    return count


@jit
def list_kept(x, rest, numbers, indices, values, key, limit, scale):
    """Lists those of the inputs x that are not zero, and stay; returns how many.

    ``rest``: 16 floats, overwritten.
    """
    low, high = key
    count = 0
    whole = x.size - x.size % LANES
    for j in range(0, whole, LANES):
        count += drop_nonzero(numbers, x, j, indices, values, count, low, high, limit, scale)
    if whole < x.size:
        rest[:] = 0
        rest[: x.size - whole] = x[whole:]
        count += drop_nonzero(numbers[whole:], rest, 0, indices, values, count, low, high, limit, scale)
    return count


@kernel
def write_mask(key, level, limit, scale, mask):
    """Fills ``mask``, float32 (batch, width): ``scale`` where a unit stays, else 0."""
    for s in range(mask.shape[0]):
        low, high = sample_key(key, level, s)
        for j in range(mask.shape[1]):
            mask[s, j] = scale if hashed(np.uint32(j), low, high) <= limit else 0
