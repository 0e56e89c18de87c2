"""The backward pass of a training step, and the descent, in one pass over the weights.

Each row of weights is read for the gradient of what comes in, its own gradient is summed up in registers,
and then it takes its step: gradients of weights never reach the memory. Inputs that no sample has cost
only the step, for momentum and L2 act all the same.

``delta`` is the gradient of a level's activations before dropout, float32 (batch, width in whole vectors), 0
where a unit is not active. ``descent`` is (learning rate, momentum, L2).
"""

import numpy as np

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.float32 import add_rows
from ccsweep.kernels.lists import turn
from ccsweep.kernels.memory import TILE, floats, ints
from ccsweep.kernels.simd import (
    LANES,
    add_and_dot_1,
    add_and_dot_2,
    add_and_dot_4,
    add_and_dot_8,
    transpose,
)


@jit
def _add_and_dot(indices, values, count, rows, stride, weights, sums, dot, width):
    """Of one tile ``sums[:width] = values @ rows[indices]`` and ``dot = rows[indices] @ weights``."""
    k = 0
    dot[:count] = 0
    if width == TILE:
        add_and_dot_8(indices, values, count, rows, stride, weights, sums, 0, dot)
        return
    if k + 64 <= width:
        add_and_dot_4(indices, values, count, rows, stride, weights, sums, 0, dot)
        k += 64
    if k + 32 <= width:
        add_and_dot_2(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dot)
        k += 32
    if k < width:
        add_and_dot_1(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dot)


@jit
def _descend(weights, momenta, gradient, squares, width, descent):
    """One step of SGD as torch takes it, weights and momenta at addresses; adds up the new squares."""
    rate, momentum, decay = descent
    w, m = floats(weights, width), floats(momenta, width)
    for j in range(width):
        m[j] = momentum * m[j] + (gradient[j] + decay * w[j])
        w[j] -= rate * m[j]
        squares[j] += w[j] * w[j]


@jit
def _descend_biases(delta, batch, biases, descent, low, high):
    """The columns' biases take their step."""
    bias, momenta = biases
    start, stride = delta.ctypes.data + 4 * low, delta.shape[1]
    gradient, squares = np.zeros(high - low, np.float32), np.zeros(high - low, np.float32)
    for s in range(batch):
        part = floats(start + 4 * stride * s, high - low)
        for j in range(high - low):
            gradient[j] += part[j]
    rate, momentum, _ = descent
    weights, momenta = bias.ctypes.data + 4 * low, momenta.ctypes.data + 4 * low
    _descend(weights, momenta, gradient, squares, high - low, (rate, momentum, np.float32(0)))


@jit
def _limit(rows, squares, max_norm):
    """Scales columns of weights that are longer than ``max_norm``, by ``squares``, up to rounding.

    That is seldom: the weights of a unit may lie apart.
    """
    for j in range(squares.size):
        if not squares[j] < 0.999 * max_norm * max_norm:
            square = 0.0
            for i in range(len(rows)):
                square += np.float64(rows[i, j]) ** 2
            norm = np.sqrt(square)
            if not norm <= max_norm:
                for i in range(len(rows)):
                    rows[i, j] *= np.float32(max_norm / norm)


@kernel
def by_input(delta, batch, weights, biases, turned, descent, max_norm, dots, block, edges, first, last):
    """A layer by input: the step of its tiles from ``first`` to ``last``.

    And what they add to the gradients of its inputs.

    Args:
        delta: of the level that goes out.
        batch: samples.
        weights: of the tiles, float32 (inputs, columns), and their momenta.
        biases: float32 (width,), and theirs.
        turned: starts, samples and values of the level that comes in, see ``lists.turn``.
        max_norm: no unit's incoming weights are longer than this afterwards.
        dots: float32 (tiles of the layer * pairs that are listed,) or more; filled for these tiles; empty
            where the gradient of the inputs is not wanted.
        block: columns that all inputs go through together, so that their deltas stay in the cache.
        edges: of the layer's tiles, see ``sharing.tiles``.
    """
    (inputs, stride), (starts, samples, values) = weights[0].shape, turned
    pairs, wanted, low = starts[inputs], dots.size > 0, edges[first]
    gradient, nothing = np.empty(stride, np.float32), np.zeros(stride, np.float32).ctypes
    squares, summed = np.zeros(stride, np.float32), gradient.ctypes
    rows, momenta, totals = weights[0].ctypes.data, weights[1].ctypes.data, squares.ctypes
    at_samples, at_values, at_dots = samples.ctypes.data, values.ctypes.data, dots.ctypes.data
    deltas, wide = delta.ctypes.data, delta.shape[1]
    begin = first
    while begin < last:
        end = begin + 1
        while end < last and edges[end + 1] - edges[begin] <= block:
            end += 1
        for i in range(inputs):
            a, n = starts[i], starts[i + 1] - starts[i]
            listed, value = ints(at_samples + 4 * a, n), floats(at_values + 4 * a, n)
            for t in range(begin, end):
                f, g = edges[t], edges[t + 1]
                row, sums = rows + 4 * (i * stride + f - low), floats(summed.data + 4 * (f - low), g - f)
                if wanted:
                    dot = floats(at_dots + 4 * (t * pairs + a), n)
                    _add_and_dot(listed, value, n, deltas + 4 * f, wide, row, sums, dot, g - f)
                else:
                    add_rows(listed, value, n, deltas + 4 * f, wide, nothing.data, sums, g - f)
            f, columns = edges[begin] - low, edges[end] - edges[begin]
            sums, part = floats(summed.data + 4 * f, columns), floats(totals.data + 4 * f, columns)
            place = 4 * (i * stride + f)
            _descend(rows + place, momenta + place, sums, part, columns, descent)
        begin = end
    if max_norm < np.inf:
        _limit(weights[0], squares, max_norm)
    _descend_biases(delta, batch, biases, descent, low, low + stride)


@kernel
def pass_down(turned, dots, count, below, penalty, scale, low, high):
    """The gradients of a layer's inputs from ``low`` to ``high``, from what each tile of its columns found.

    Args:
        turned, dots: as in :func:`by_input`, for all tiles.
        count: of tiles.
        below: delta of the level that comes in, filled where that is active.
        penalty: what L1 adds to it.
        scale: 1/keep of that level.
    """
    starts, samples, _ = turned
    pairs = starts[-1]
    for i in range(low, high):
        for q in range(starts[i], starts[i + 1]):
            total = dots[q]
            for t in range(1, count):
                total += dots[t * pairs + q]
            below[samples[q], i] = (total + penalty) * scale


@kernel
def gradients_by_sample(new, delta, rows, lists, below, penalty, scale, block, first, last):
    """A gated layer's gradients of its inputs, for the samples from ``first`` to ``last``.

    Args:
        new: the level that goes out.
        delta: of that level.
        rows: the weights, float32 (units, inputs in whole vectors).
        block: inputs that all samples go through together.
        lists: the level that comes in.
        below, penalty, scale: as in :func:`pass_down`.
    """
    stride = rows.shape[1]
    found, nothing = np.empty(max(delta.shape[1], stride), np.float32), np.zeros(block, np.float32).ctypes
    sums, listed, wide = below.ctypes.data, new[0].ctypes.data, new[0].shape[1]
    for f in range(0, stride, block):
        width, address = min(block, stride - f), rows.ctypes.data + 4 * f
        for s in range(first, last):
            indices, count = ints(listed + 4 * wide * s, wide), new[2][s]
            for p in range(count):
                found[p] = delta[s, indices[p]]
            out = floats(sums + 4 * (stride * s + f), width)
            add_rows(indices, found, count, address, stride, nothing.data, out, width)
    active, counts = lists[0], lists[2]
    for s in range(first, last):
        for p in range(counts[s]):
            found[p] = (below[s, active[s, p]] + penalty) * scale
        floats(sums + 4 * stride * s, stride)[:] = 0
        for p in range(counts[s]):
            below[s, active[s, p]] = found[p]


@kernel
def by_unit(new, delta, batch, x, weights, biases, descent, max_norm, starts, room, low, high):
    """A gated layer's step, of its units from ``low`` to ``high``.

    Args:
        new: the level that goes out.
        delta: of that level.
        x: float32 (batch, inputs in whole vectors), the level that comes in.
        weights: float32 (units, inputs in whole vectors), and their momenta.
        starts: int64 (units + 1,) or more; overwritten.
        room: samples int32 and values float32, (batch * units,) or more; of the columns' part overwritten.
        batch, biases, descent, max_norm: as in :func:`by_input`.
    """
    units, stride = weights[0].shape
    _descend_biases(delta, batch, biases, descent, low, high)
    high, (samples, values) = min(high, units), room
    turn(new, 0, batch, starts[: units + 1], samples, values, low, high)
    gradient, squares = np.empty(stride, np.float32), np.zeros(stride, np.float32)
    nothing = np.zeros(stride, np.float32).ctypes
    rows, momenta, inputs = weights[0].ctypes.data, weights[1].ctypes.data, x.ctypes.data
    at_samples, at_values = samples.ctypes.data, values.ctypes.data
    for j in range(low, high):
        a, n, row = starts[j], starts[j + 1] - starts[j], 4 * j * stride
        listed, value = ints(at_samples + 4 * a, n), floats(at_values + 4 * a, n)
        for q in range(n):
            value[q] = delta[listed[q], j]
        add_rows(listed, value, n, inputs, stride, nothing.data, gradient, stride)
        squares[:] = 0
        _descend(rows + row, momenta + row, gradient, squares, stride, descent)
        norm = np.sqrt(squares.sum())
        if not norm <= max_norm:
            floats(rows + row, stride)[:] *= max_norm / norm


@kernel
def across(new, delta, batch, x, weights, units, biases, descent, max_norm, starts, room, low, high):
    """The first layer's step by input, of its columns, where few of its units are active.

    Gradients are summed up by unit, as in :func:`by_unit`, and turned round, for the weights lie by input.

    Args:
        x: float32 (batch, inputs in whole vectors), the level that comes in.
        weights: of the columns, float32 (inputs, high - low), and their momenta.
        units: how many there really are.
        new, delta, batch, biases, descent, max_norm, starts, room: as in :func:`by_unit`.
    """
    (inputs, stride), long = weights[0].shape, x.shape[1]
    _descend_biases(delta, batch, biases, descent, low, high)
    high, (samples, values) = min(high, units), room
    turn(new, 0, batch, starts[: units + 1], samples, values, low, high)
    gradients, turned = np.empty((TILE, long), np.float32), np.empty((LANES, TILE), np.float32)
    by_unit, by_input, nothing = gradients.ctypes, turned.ctypes, np.zeros(long, np.float32).ctypes
    squares = np.zeros(stride, np.float32)
    rows, momenta, images = weights[0].ctypes.data, weights[1].ctypes.data, x.ctypes.data
    at_samples, at_values, totals = samples.ctypes.data, values.ctypes.data, squares.ctypes
    for f in range(low, high, TILE):
        width = -(-min(TILE, high - f) // LANES) * LANES
        gradients[min(TILE, high - f) : width] = 0
        for j in range(f, min(f + TILE, high)):
            a, n = 4 * starts[j], starts[j + 1] - starts[j]
            listed, value = ints(at_samples + a, n), floats(at_values + a, n)
            for q in range(n):
                value[q] = delta[listed[q], j]
            row = floats(by_unit.data + 4 * long * (j - f), long)
            add_rows(listed, value, n, images, long, nothing.data, row, long)
        part = floats(totals.data + 4 * (f - low), width)
        for i in range(0, inputs, LANES):
            for k in range(0, width, LANES):
                transpose(by_unit.data + 4 * (long * k + i), long, by_input.data + 4 * k, TILE)
            for k in range(min(LANES, inputs - i)):
                gradient, place = (
                    floats(by_input.data + 4 * TILE * k, width),
                    4 * (stride * (i + k) + f - low),
                )
                _descend(rows + place, momenta + place, gradient, part, width, descent)
    if max_norm < np.inf:
        _limit(weights[0], squares, max_norm)
