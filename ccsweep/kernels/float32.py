"""The float32 kernels: layers that skip work, a whole run of them in one call.

What is skipped, and how the rest is laid out:

- input-sparse: a sample is a list of its non-zero inputs. Each adds its row of W (one row per input)
  to the units' sums, 128 units at a time, which stay in registers.
- gated: t = x U from the same list, scores = t V + b + shift, and the units whose score is positive
  are listed. Each is a dot product with its row of W^T (one row per unit), four at a time.
- two-sided: gated, and the dot products leave out every chunk of 16 inputs that holds only zeros.

Layers hand (index, value) lists on, so only the first one looks for zeros. What remains runs at the
speed of the second-level cache, half that of a dense product: each weight is loaded for one sample.
"""

import numpy as np

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.lists import (
    append_positive,
    list_chunks,
    list_inputs,
    list_occupied_chunks,
    spread,
    within,
)
from ccsweep.kernels.memory import TILE
from ccsweep.kernels.simd import LANES, add_1, add_2, add_4, add_8, float_at, four_dots
from ccsweep.kernels.table import INPUT_SPARSE, LAYER, TWO_SIDED

SAMPLES = 64
"""Samples that go through a layer together: their lists stay in the cache."""


@jit
def add_rows(indices, values, count, rows, stride, bias, sums, width):
    """``sums[:width] = bias + values @ rows[indices]``; rows and bias are addresses."""
    k = 0
    while k + 128 <= width:
        add_8(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 128
    if k + 64 <= width:
        add_4(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 64
    if k + 32 <= width:
        add_2(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 32
    if k < width:
        add_1(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)


@jit
def _input_sparse(layer, numbers, samples, lists, new, out):
    indices, values, counts = lists
    new_indices, new_values, new_counts = new
    rows, stride, units, bias = layer.rows, layer.stride, layer.units, layer.bias
    sums = np.empty(layer.block, np.float32)
    new_counts[:samples] = 0
    for first in range(0, stride, layer.block):
        width = min(layer.block, stride - first)
        for s in range(samples):
            add_rows(
                indices[s], values[s], counts[s], rows + 4 * first, stride, bias + 4 * first, sums, width
            )
            if layer.relu:
                index, value = new_indices[s], new_values[s]
                c = append_positive(numbers[first:], sums, width, index, value, new_counts[s])
                new_counts[s] = within(index, c, units)
            else:
                last = min(units - first, width)
                out[s, first : first + last] = sums[:last]


@jit
def _project(layer, samples, lists):
    """t = x U, in rows of whole vectors."""
    indices, values, counts = lists
    width = -(-layer.rank // LANES) * LANES
    zeros = np.zeros(width, np.float32)
    t = np.empty((samples, width), np.float32)
    for s in range(samples):
        add_rows(indices[s], values[s], counts[s], layer.u, width, zeros.ctypes.data, t[s], width)
    return t


@jit
def _gate(layer, numbers, samples, t, on, counts_on):
    """Lists the units of each sample that the estimator does not call negative."""
    stride = layer.gate_stride
    scores = np.empty(TILE, np.float32)
    unused = np.empty(stride + LANES, np.float32)
    counts_on[:samples] = 0
    for first in range(0, stride, TILE):
        width = min(TILE, stride - first)
        v, bias = layer.v + 4 * first, layer.gate_bias + 4 * first
        for s in range(samples):
            add_rows(numbers, t[s], layer.rank, v, stride, bias, scores, width)
            c = append_positive(numbers[first:], scores, width, on[s], unused, counts_on[s])
            counts_on[s] = within(on[s], c, layer.units)


@jit
def _gated(layer, numbers, samples, x, t, lists, new):
    new_indices, new_values, new_counts = new
    units, stride = layer.units, layer.stride
    on = np.empty((samples, layer.gate_stride + LANES), np.int32)
    counts_on = np.empty(samples, np.int64)
    chunks = np.empty((samples, stride // LANES + 1), np.int32)
    counts_chunks = np.empty(samples, np.int64)
    _gate(layer, numbers, samples, t, on, counts_on)
    if layer.way == TWO_SIDED:
        list_occupied_chunks(samples, lists, chunks, counts_chunks)
    else:
        list_chunks(layer.inputs, samples, chunks, counts_chunks)
    dots = np.empty(units + LANES, np.float32)
    place = np.zeros(samples, np.int64)
    new_counts[:samples] = 0
    for end in range(layer.block, units + layer.block, layer.block):
        for s in range(samples):
            first = last = place[s]
            while last < counts_on[s] and on[s, last] < end:
                last += 1
            place[s] = last
            count = last - first
            # At the end of the list one unit fills up the four: its row is in the cache already.
            for p in range(0, count, 4):
                a, b, c, d = (
                    layer.rows + 4 * stride * on[s, first + p],
                    layer.rows + 4 * stride * on[s, min(first + p + 1, last - 1)],
                    layer.rows + 4 * stride * on[s, min(first + p + 2, last - 1)],
                    layer.rows + 4 * stride * on[s, min(first + p + 3, last - 1)],
                )
                four_dots(x[s], chunks[s], counts_chunks[s], a, b, c, d, dots, p)
            for p in range(count):
                dots[p] += float_at(layer.bias, on[s, first + p])
            dots[count : count + LANES] = 0
            index, value = new_indices[s], new_values[s]
            new_counts[s] = append_positive(on[s, first:], dots, count, index, value, new_counts[s])


@kernel
def run(x, projected, numbers, table, together, out):
    """Run consecutive layers, none of them dense.

    Args:
        x: float32 (batch, inputs of the first layer), contiguous.
        projected: float32 (batch, rank in whole vectors), x U for a gated first layer; or (0, 0) to
            have it computed here, which only pays for few samples or many zeros.
        numbers: int32, 0, 1, 2, ...
        table: int64, a ``LAYER`` after the other.
        together: samples that go through a layer together; their lists should fit the cache.
        out: float32 (batch, units of the last layer), contiguous; filled.

    Returns:
        Whether all inputs were finite; rows that were not are not to be used, where layers are gated.
    """
    layers = table.view(LAYER)
    batch, most = x.shape[0], min(x.shape[0], together)
    wide = max(layers.inputs.max(), layers.units.max()) + TILE + LANES
    indices = np.empty((2, most, wide), np.int32)
    values = np.empty((2, most, wide), np.float32)
    counts = np.empty((2, most), np.int64)
    finite = True
    for first in range(0, batch, together):
        samples = min(together, batch - first)
        part = x[first : first + samples]
        rest = out[first : first + samples]
        finite &= list_inputs(part, numbers, indices[0], values[0], counts[0])
        for k in range(layers.size):
            layer = layers[k]
            lists = indices[k % 2], values[k % 2], counts[k % 2]
            new = indices[1 - k % 2], values[1 - k % 2], counts[1 - k % 2]
            if layer.way == INPUT_SPARSE:
                _input_sparse(layer, numbers, samples, lists, new, rest)
            else:
                if k > 0 or layer.inputs % LANES:
                    part = np.zeros((samples, -(-layer.inputs // LANES) * LANES), np.float32)
                    spread(samples, layer.inputs, lists, part)
                known = k == 0 and projected.shape[1] > 0
                t = projected[first : first + samples] if known else _project(layer, samples, lists)
                _gated(layer, numbers, samples, part, t, lists, new)
        if layers[-1].relu:
            last = layers.size % 2
            spread(samples, layers[-1].units, (indices[last], values[last], counts[last]), rest)
    return finite
