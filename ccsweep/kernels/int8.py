"""The int8 kernels: the ways of :mod:`ccsweep.kernels.float32` on bytes; their sums are exact in int32.

Weights are signed bytes with a scale for each unit. Inputs are unsigned bytes with a scale for each sample,
its largest magnitude over 255: after a ReLU nothing is negative. Where something is there are 127 levels on
each side, whatever the way, so that all of them round to the same numbers and give the same sums:

- input-sparse: negative inputs are listed first, by magnitude, and their products are subtracted.
- others: levels around ``OFFSET``, whose share of a sum, OFFSET times the total of the weights, is taken off.

Of the estimator's two products the first takes the same bytes, and its result goes on as bytes around OFFSET.
Two-sided leaves out every chunk of 64 inputs that holds only zeros.
"""

import numpy as np

from ccsweep.kernels import float32
from ccsweep.kernels.compiling import jit
from ccsweep.kernels.lists import append_positive, below, four_rows, within
from ccsweep.kernels.memory import TILE, floats, ints, zero_bytes
from ccsweep.kernels.simd import LANES, keep_positive, keep_positive_indices
from ccsweep.kernels.table import TWO_SIDED
from ccsweep.kernels.vnni import (
    BYTES,
    GROUP,
    add_rows_1,
    add_rows_2,
    add_rows_3,
    add_rows_4,
    four_byte_dots,
    occupied,
    reach,
    rescale,
    round_to_bytes,
    score_four,
    score_one,
)

OFFSET = 128
"""What stands for 0 where inputs may be negative."""
TINY = np.float32(1e-30)
"""A sample with nothing larger counts as zeros: one over it would be infinite."""
MOST = 2**16
"""Inputs of a layer: as many largest products still fit an int32."""


@jit
def quantise(values, count, largest, signed, offset, quantised):
    """Bytes of floats around an offset, 0 or ``OFFSET``; returns what one step is worth.

    ``values`` and ``quantised`` are addresses, of whole vectors; ``largest``: the largest magnitude;
    ``signed``: whether the levels are for both signs.
    """
    levels = np.float32(127 if signed else 255)
    factor = levels / largest if largest > TINY else np.float32(0)
    for j in range(0, count, LANES):
        round_to_bytes(values + 4 * j, factor, np.int32(offset), quantised + j)
    return np.float32(0) if largest <= TINY else largest / levels


@jit
def split(index, value, count):
    """Turns a list round so that negatives come first, by magnitude, each part filled up to fours.

    Returns where the others begin, and where they end.
    """
    held, magnitudes = index[:count].copy(), value[:count].copy()
    end = begin = 0
    for sign in (np.float32(-1), np.float32(1)):
        begin = end
        for p in range(count):
            if (magnitudes[p] < 0) == (sign < 0):
                index[end], value[end] = held[p], sign * magnitudes[p]
                end += 1
        while end % GROUP:
            index[end], value[end] = 0, 0
            end += 1
    return begin, end


@jit
def quantise_list(index, value, count, quantised):
    """Bytes of a list; returns how many to subtract, how many in all, both in fours, and the scale."""
    negatives = 0
    value[count : count + LANES] = 0
    largest = reach(value.ctypes.data, count)
    if largest < 0:
        negatives, count = split(index, value, count)
        value[count : count + LANES] = 0
    for p in range(count, count + GROUP):
        index[p] = 0
    scale = quantise(value.ctypes.data, count, abs(largest), largest < 0, 0, quantised)
    return negatives, -(-count // GROUP) * GROUP, scale


@jit
def add_rows(indices, quantised, negatives, count, rows, stride, sums, width):
    """int32 ``sums[:width]``, whole chunks: bytes times the listed rows; all are addresses."""
    k = 0
    while k + 4 * BYTES <= width:
        add_rows_4(indices, quantised, negatives, count, rows + k, stride, sums + 4 * k)
        k += 4 * BYTES
    if k + 3 * BYTES == width:
        add_rows_3(indices, quantised, negatives, count, rows + k, stride, sums + 4 * k)
    elif k + 2 * BYTES == width:
        add_rows_2(indices, quantised, negatives, count, rows + k, stride, sums + 4 * k)
    elif k + BYTES == width:
        add_rows_1(indices, quantised, negatives, count, rows + k, stride, sums + 4 * k)


@jit
def input_sparse(layer, numbers, samples, lists, new, out):
    """A layer whose inputs come as lists; its outputs go on as lists, or to ``out`` without a ReLU."""
    indices, values, counts = lists
    new_indices, new_values, new_counts = new
    wide = indices.shape[1]
    quantised = np.empty((samples, wide), np.uint8)
    begins, ends, scales = (
        np.empty(samples, np.int64),
        np.empty(samples, np.int64),
        np.empty(samples, np.float32),
    )
    for s in range(samples):
        begins[s], ends[s], scales[s] = quantise_list(
            indices[s], values[s], counts[s], quantised.ctypes.data + s * wide
        )
    sums, made = np.empty(layer.block, np.int32), np.empty(layer.block, np.float32)
    new_counts[:samples] = 0
    for first in range(0, layer.stride, layer.block):
        width = min(layer.block, layer.stride - first)
        for s in range(samples):
            index, byte = indices.ctypes.data + 4 * s * wide, quantised.ctypes.data + s * wide
            add_rows(
                index, byte, begins[s], ends[s], layer.rows + first, layer.stride, sums.ctypes.data, width
            )
            count, index, value = new_counts[s], new_indices[s], new_values[s]
            for j in range(0, width, LANES):
                at = 4 * (first + j)
                rescale(
                    sums.ctypes.data + 4 * j,
                    scales[s],
                    layer.scales + at,
                    layer.bias + at,
                    made.ctypes.data + 4 * j,
                )
                if layer.relu:
                    count += keep_positive(numbers[first:], made, j, index, value, count)
            if layer.relu:
                new_counts[s] = within(index, count, layer.units)
            else:
                last = min(layer.units - first, width)
                out[s, first : first + last] = made[:last]


@jit
def quantise_rows(layer, samples, x, quantised, offsets, scales):
    """Bytes of rows x in whole vectors; returns whether all of x was finite."""
    inputs, finite = -(-layer.inputs // LANES) * LANES, True
    for s in range(samples):
        row = x.ctypes.data + s * x.strides[0]
        largest = reach(row, inputs)
        finite &= np.isfinite(largest)
        offsets[s] = OFFSET if largest < 0 else 0
        byte = quantised.ctypes.data + s * quantised.strides[0]
        scales[s] = quantise(row, inputs, abs(largest), largest < 0, offsets[s], byte)
    return finite


@jit
def _list_chunks(layer, offset, quantised, chunks):
    """Lists where chunks of 64 bytes start; of those that hold more than zeros, where that is asked for."""
    count = 0
    every = offset != 0 or layer.way != TWO_SIDED
    for start in range(0, layer.stride, BYTES):
        chunks[count] = start
        count += every or occupied(quantised + start)
    return count


@jit
def _estimate(layer, quantised, chunks, count, offset, scale, sums, t):
    """t = x U, from bytes; returns its largest magnitude."""
    scales, totals = floats(layer.u_scales, layer.rank), ints(layer.u_totals, layer.rank)
    for r in range(0, layer.rank, GROUP):
        a = layer.u + r * layer.stride  # rows come in fours, the last ones zero
        b, c, d = a + layer.stride, a + 2 * layer.stride, a + 3 * layer.stride
        four_byte_dots(quantised, chunks, count, a, b, c, d, sums.ctypes.data + 4 * r)
    for r in range(layer.rank):
        t[r] = np.float32(sums[r] - offset * totals[r]) * (scale * scales[r])
    return abs(reach(t.ctypes.data, t.size))


@jit
def _gate(layer, numbers, samples, estimates, scales, on, counts_on):
    """Lists the units of each sample that the estimator does not call negative."""
    wide = estimates.shape[1]
    groups, units = -(-layer.rank // GROUP), layer.gate_stride
    sums, made = np.empty((GROUP, TILE), np.int32), np.empty(TILE, np.float32)
    counts_on[:samples] = 0
    for s in range(0, samples, GROUP):
        together = min(GROUP, samples - s)
        t = estimates.ctypes.data + s * wide
        for first in range(0, units, TILE):
            width = min(TILE, units - first)
            v, start = layer.v + GROUP * first, layer.v_start + 4 * first
            if together == 1:
                score_one(t, wide, groups, v, GROUP * units, start, sums.ctypes.data, 4 * TILE)
            else:
                for j in range(0, width, 2 * LANES):
                    score_four(
                        t,
                        wide,
                        groups,
                        v + GROUP * j,
                        GROUP * units,
                        start + 4 * j,
                        sums.ctypes.data + 4 * j,
                        4 * TILE,
                    )
            named = ints(numbers.ctypes.data + 4 * first, width)
            for i in range(together):
                count, listed = (
                    counts_on[s + i],
                    ints(on.ctypes.data + 4 * (s + i) * on.shape[1], on.shape[1]),
                )
                for j in range(0, width, LANES):
                    at = 4 * (first + j)
                    rescale(
                        sums.ctypes.data + 4 * (i * TILE + j),
                        scales[s + i],
                        layer.v_scales + at,
                        layer.gate_bias + at,
                        made.ctypes.data + 4 * j,
                    )
                    count += keep_positive_indices(named, made, j, listed, count)
                counts_on[s + i] = within(listed, count, layer.units)


@jit
def _list_units(layer, numbers, samples, quantised, listed, offsets, scales, on, counts_on):
    """Lists the units of each sample that the estimator, from bytes, does not call negative."""
    chunks, counts_chunks = listed
    t = np.zeros(-(-layer.rank // LANES) * LANES, np.float32)
    sums = np.empty(layer.rank + LANES, np.int32)
    estimates, steps = np.zeros((samples + GROUP, t.size), np.uint8), np.empty(samples, np.float32)
    for s in range(samples):
        byte, chunk = quantised.ctypes.data + s * quantised.shape[1], chunks[s].ctypes.data
        largest = _estimate(layer, byte, chunk, counts_chunks[s], offsets[s], scales[s], sums, t)
        byte = estimates.ctypes.data + s * t.size
        steps[s] = quantise(t.ctypes.data, t.size, largest, True, OFFSET, byte)
    _gate(layer, numbers, samples, estimates, steps, on, counts_on)


@jit
def gated(layer, numbers, samples, x, t, new):
    """A layer with an estimator, of rows x in whole vectors; returns whether all of x was finite.

    t: x U, where the gate is in float32.
    """
    new_indices, new_values, new_counts = new
    units, stride = layer.units, layer.stride
    quantised = zero_bytes(samples, stride)
    chunks, counts_chunks = np.empty((samples, stride // BYTES + 1), np.int32), np.empty(samples, np.int64)
    offsets, scales = np.empty(samples, np.int64), np.empty(samples, np.float32)
    sums, dots = np.empty(units + LANES, np.int32), np.empty(units + LANES, np.float32)
    on, counts_on = np.empty((samples, layer.gate_stride + LANES), np.int32), np.empty(samples, np.int64)
    finite = quantise_rows(layer, samples, x, quantised, offsets, scales)
    for s in range(samples):
        counts_chunks[s] = _list_chunks(layer, offsets[s], quantised.ctypes.data + s * stride, chunks[s])
    if layer.mixed:
        float32.gate(layer, numbers, samples, t, on, counts_on)
    else:
        occupied_ones = chunks, counts_chunks
        _list_units(layer, numbers, samples, quantised, occupied_ones, offsets, scales, on, counts_on)
    unit_scales, bias = floats(layer.scales, units), floats(layer.bias, units)
    totals = ints(layer.totals, units)
    place = np.zeros(samples, np.int64)
    new_counts[:samples] = 0
    for end in range(layer.block, units + layer.block, layer.block):
        for s in range(samples):
            listed, first = on[s], place[s]
            place[s] = last = below(listed, first, counts_on[s], end)
            count = last - first
            byte, chunk = quantised.ctypes.data + s * stride, chunks[s].ctypes.data
            for p in range(0, count, GROUP):
                a, b, c, d = four_rows(layer.rows, stride, listed, first + p, last)
                four_byte_dots(byte, chunk, counts_chunks[s], a, b, c, d, sums.ctypes.data + 4 * p)
            for p in range(count):
                unit = listed[first + p]
                whole = np.float32(sums[p] - offsets[s] * totals[unit])
                dots[p] = whole * (scales[s] * unit_scales[unit]) + bias[unit]
            dots[count : count + LANES] = 0
            index, value = new_indices[s], new_values[s]
            new_counts[s] = append_positive(listed[first:], dots, count, index, value, new_counts[s])
    return finite
