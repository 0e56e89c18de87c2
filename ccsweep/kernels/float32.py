"""The float32 kernels: a layer that skips work.

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

from ccsweep.kernels.compiling import jit
from ccsweep.kernels.lists import (
    append_positive,
    below,
    four_rows,
    list_chunks,
    list_occupied_chunks,
    within,
)
from ccsweep.kernels.memory import TILE
from ccsweep.kernels.simd import LANES, add_1, add_2, add_4, add_8, float_at, four_dots, keep_positive_indices
from ccsweep.kernels.table import TWO_SIDED


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
def input_sparse(layer, numbers, samples, lists, new, out):
    """A layer whose inputs come as lists; its outputs go on as lists, or to ``out`` without a ReLU."""
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
def project(layer, samples, lists):
    """t = x U, in rows of whole vectors."""
    indices, values, counts = lists
    width = -(-layer.rank // LANES) * LANES
    zeros = np.zeros(width, np.float32)
    t = np.empty((samples, width), np.float32)
    for s in range(samples):
        add_rows(indices[s], values[s], counts[s], layer.u, width, zeros.ctypes.data, t[s], width)
    return t


@jit
def gate(layer, numbers, samples, t, on, counts_on):
    """Lists the units of each sample that the estimator does not call negative."""
    stride = layer.gate_stride
    scores = np.empty(TILE, np.float32)
    counts_on[:samples] = 0
    for first in range(0, stride, TILE):
        width = min(TILE, stride - first)
        v, bias = layer.v + 4 * first, layer.gate_bias + 4 * first
        for s in range(samples):
            add_rows(numbers, t[s], layer.rank, v, stride, bias, scores, width)
            c = counts_on[s]
            for j in range(0, width, LANES):
                c += keep_positive_indices(numbers[first:], scores, j, on[s], c)
            counts_on[s] = within(on[s], c, layer.units)


@jit
def gated(layer, numbers, samples, x, t, lists, new):
    """A layer with an estimator, of rows x in whole vectors; t = x U is known already."""
    new_indices, new_values, new_counts = new
    units, stride = layer.units, layer.stride
    on = np.empty((samples, layer.gate_stride + LANES), np.int32)
    counts_on = np.empty(samples, np.int64)
    chunks = np.empty((samples, stride // LANES + 1), np.int32)
    counts_chunks = np.empty(samples, np.int64)
    gate(layer, numbers, samples, t, on, counts_on)
    if layer.way == TWO_SIDED:
        list_occupied_chunks(samples, lists, chunks, counts_chunks)
    else:
        list_chunks(layer.inputs, samples, chunks, counts_chunks)
    dots = np.empty(units + LANES, np.float32)
    place = np.zeros(samples, np.int64)
    new_counts[:samples] = 0
    for end in range(layer.block, units + layer.block, layer.block):
        for s in range(samples):
            listed, first = on[s], place[s]
            place[s] = last = below(listed, first, counts_on[s], end)
            count = last - first
            for p in range(0, count, 4):
                a, b, c, d = four_rows(layer.rows, 4 * stride, listed, first + p, last)
                four_dots(x[s], chunks[s], counts_chunks[s], a, b, c, d, dots, p)
            for p in range(count):
                dots[p] += float_at(layer.bias, listed[first + p])
            dots[count : count + LANES] = 0
            index, value = new_indices[s], new_values[s]
            new_counts[s] = append_positive(listed[first:], dots, count, index, value, new_counts[s])
