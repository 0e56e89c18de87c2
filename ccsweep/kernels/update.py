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
def _add_and_dot(indices, values, count, rows, stride, weights, sums, dots, width):
    """``sums[:width] = values @ rows[indices]``, ``dots += rows[indices] @ weights``; addresses."""
    k = 0
    while k + 128 <= width:
        add_and_dot_8(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dots)
        k += 128
    if k + 64 <= width:
        add_and_dot_4(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dots)
        k += 64
    if k + 32 <= width:
        add_and_dot_2(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dots)
        k += 32
    if k < width:
        add_and_dot_1(indices, values, count, rows + 4 * k, stride, weights + 4 * k, sums, k, dots)


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
def _descend_biases(delta, batch, biases, descent, share, shares):
    """A share of the biases takes its step."""
    bias, momenta = biases
    vectors = bias.size // LANES
    low, high = vectors * share // shares * LANES, vectors * (share + 1) // shares * LANES
    start, stride = delta.ctypes.data + 4 * low, delta.shape[1]
    gradient, squares = np.zeros(high - low, np.float32), np.zeros(high - low, np.float32)
    for s in range(batch):
        part = floats(start + 4 * stride * s, high - low)
        for j in range(high - low):
            gradient[j] += part[j]
    rate, momentum, _ = descent
    weights, momenta = bias.ctypes.data + 4 * low, momenta.ctypes.data + 4 * low
    _descend(weights, momenta, gradient, squares, high - low, (rate, momentum, np.float32(0)))


@kernel
def by_input(
    lists, delta, batch, weights, biases, squares, descent, below, penalty, scale, block, room, share, shares
):
    """A layer without a gate: the gradients of its inputs, and its step.

    Args:
        lists: the level that comes in.
        delta: of the level that goes out.
        weights: float32 (inputs, units in whole vectors), and their momenta.
        biases: float32 (units in whole vectors,), and theirs.
        squares: float32 (shares, units in whole vectors or more): filled with the sums of the squares of the
            stepped weights, over the share's inputs.
        below: delta of the level that comes in, filled where that is active; (0, 0) where it is not wanted.
        penalty: what L1 adds to it.
        scale: 1/keep of that level.
        block: units that all inputs go through together, so that their deltas stay in the cache.
        room: starts int64 (shares, inputs + 1 or more), and, one for each pair that is listed, samples int32,
            values float32, dots float32; overwritten.
        share: of the inputs, and of the biases.
        shares: how many there are.
    """
    inputs, stride = weights[0].shape
    starts, samples, values, dots = room[0][share, : inputs + 1], room[1], room[2], room[3]
    low, high = turn(lists, 0, batch, starts, samples, values, share, shares)
    wanted = below.size > 0
    dots[starts[low] : starts[high]] = 0
    squares[share, :stride] = 0
    gradient, nothing = np.empty(block, np.float32), np.zeros(block, np.float32).ctypes
    rows, momenta = weights[0].ctypes.data, weights[1].ctypes.data
    total = squares.ctypes.data + 4 * squares.shape[1] * share
    at_samples, at_values, at_dots = samples.ctypes.data, values.ctypes.data, dots.ctypes.data
    for f in range(0, stride, block):
        width = min(block, stride - f)
        deltas, part = delta.ctypes.data + 4 * f, floats(total + 4 * f, width)
        for i in range(low, high):
            a, n = 4 * starts[i], starts[i + 1] - starts[i]
            listed, value, row = ints(at_samples + a, n), floats(at_values + a, n), 4 * (i * stride + f)
            if wanted:
                dot = floats(at_dots + a, n)
                _add_and_dot(listed, value, n, deltas, stride, rows + row, gradient, dot, width)
            else:
                add_rows(listed, value, n, deltas, stride, nothing.data, gradient, width)
            _descend(rows + row, momenta + row, gradient, part, width, descent)
    if wanted:
        for i in range(low, high):
            for q in range(starts[i], starts[i + 1]):
                below[samples[q], i] = (dots[q] + penalty) * scale
    _descend_biases(delta, batch, biases, descent, share, shares)


@kernel
def gradients_by_sample(new, delta, rows, lists, below, penalty, scale, block, first, last):
    """A gated layer's gradients of its inputs, for the samples from ``first`` to ``last``.

    Args:
        new: the level that goes out.
        delta: of that level.
        rows: the weights, float32 (units, inputs in whole vectors).
        block: inputs that all samples go through together.
        lists, below, penalty, scale: as in :func:`by_input`; ``below`` is wanted.
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
def by_unit(new, delta, batch, x, weights, biases, descent, max_norm, room, share, shares):
    """A gated layer's step, max-norm included.

    Args:
        new: the level that goes out.
        delta: of that level.
        x: float32 (batch, inputs in whole vectors), the level that comes in.
        weights: float32 (units, inputs in whole vectors), and their momenta.
        max_norm: no unit's incoming weights are longer than this afterwards.
        biases, descent, room, share, shares: as in :func:`by_input`, the shares of units.
    """
    units, stride = weights[0].shape
    starts, samples, values = room[0][share, : units + 1], room[1], room[2]
    low, high = turn(new, 0, batch, starts, samples, values, share, shares)
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
    _descend_biases(delta, batch, biases, descent, share, shares)


@kernel
def across(new, delta, batch, x, weights, units, biases, squares, descent, room, share, shares):
    """The first layer's step, without a gate, where few of its units are active.

    Gradients are summed up by unit, as in :func:`by_unit`, and turned round, for the weights lie by input.

    Args:
        x: float32 (batch, inputs in whole vectors), the level that comes in.
        weights: float32 (inputs, units in whole vectors), and their momenta.
        units: how many there really are.
        new, delta, biases, squares, descent, room, share, shares: as in :func:`by_unit` and :func:`by_input`.
    """
    (inputs, stride), long = weights[0].shape, x.shape[1]
    starts, samples, values = room[0][share, : units + 1], room[1], room[2]
    low, high = turn(new, 0, batch, starts, samples, values, share, shares)
    squares[share, :stride] = 0
    gradients, tile = np.empty((TILE, long), np.float32), np.empty((LANES, TILE), np.float32)
    by_unit, by_input, nothing = gradients.ctypes, tile.ctypes, np.zeros(long, np.float32).ctypes
    rows, momenta, images = weights[0].ctypes.data, weights[1].ctypes.data, x.ctypes.data
    total = squares.ctypes.data + 4 * squares.shape[1] * share
    at_samples, at_values = samples.ctypes.data, values.ctypes.data
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
        part = floats(total + 4 * f, width)
        for i in range(0, inputs, LANES):
            for k in range(0, width, LANES):
                transpose(by_unit.data + 4 * (long * k + i), long, by_input.data + 4 * k, TILE)
            for k in range(min(LANES, inputs - i)):
                gradient, place = floats(by_input.data + 4 * TILE * k, width), 4 * (stride * (i + k) + f)
                _descend(rows + place, momenta + place, gradient, part, width, descent)
    _descend_biases(delta, batch, biases, descent, share, shares)
