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
from ccsweep.kernels.simd import LANES, add_and_dot_1, add_and_dot_2, add_and_dot_4, add_and_dot_8


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
def _descend(weights, momenta, gradient, width, descent):
    """One step of SGD as torch takes it."""
    rate, momentum, decay = descent
    for j in range(width):
        m = momentum * momenta[j] + (gradient[j] + decay * weights[j])
        momenta[j] = m
        weights[j] -= rate * m


@jit
def _descend_biases(delta, batch, bias, momenta, descent, share, shares):
    """The share's part of the biases takes its step."""
    vectors = bias.size // LANES
    low, high = vectors * share // shares * LANES, vectors * (share + 1) // shares * LANES
    gradient = np.zeros(high - low, np.float32)
    for s in range(batch):
        part = delta[s, low:high]
        for j in range(high - low):
            gradient[j] += part[j]
    rate, momentum, _ = descent
    _descend(bias[low:high], momenta[low:high], gradient, high - low, (rate, momentum, np.float32(0)))


@kernel
def by_input(
    lists, delta, batch, weights, momenta, norms, descent, below, penalty, scale, block, room, share, shares
):
    """A layer without a gate: the gradients of its inputs, and its step.

    Args:
        lists: the level that comes in.
        delta: of the level that goes out.
        weights: rows float32 (inputs, units in whole vectors), and bias (units in whole vectors,).
        momenta: of both.
        norms: float32 (shares, units in whole vectors or more): the sum of squares of the stepped weights.
        below: delta of the level that comes in, where it is active; (0, 0) where it is not wanted.
        penalty: what L1 adds to it.
        scale: 1/keep of that level.
        block: units that all inputs go through together, so that their deltas stay in the cache.
        room: starts int64 (shares, inputs + 1 or more), and, one for each pair that is listed, samples int32,
            values float32, dots float32; overwritten.
        share: of the inputs, and of the biases.
        shares: how many there are.
    """
    rows, bias = weights
    row_momenta, bias_momenta = momenta
    inputs, stride = rows.shape
    starts, samples, values, dots = room[0][share, : inputs + 1], room[1], room[2], room[3]
    low, high = turn(lists, 0, batch, starts, samples, values, share, shares)
    wanted = below.size > 0
    dots[starts[low] : starts[high]] = 0
    total = norms[share, :stride]
    total[:] = 0
    gradient, zeros = np.empty(block, np.float32), np.zeros(block, np.float32)
    for f in range(0, stride, block):
        width = min(block, stride - f)
        deltas = delta.ctypes.data + 4 * f
        for i in range(low, high):
            a, n = starts[i], starts[i + 1] - starts[i]
            row = rows[i, f : f + width]
            if wanted:
                address = row.ctypes.data
                _add_and_dot(samples[a:], values[a:], n, deltas, stride, address, gradient, dots[a:], width)
            else:
                add_rows(samples[a:], values[a:], n, deltas, stride, zeros.ctypes.data, gradient, width)
            _descend(row, row_momenta[i, f : f + width], gradient, width, descent)
            for j in range(width):
                total[f + j] += row[j] * row[j]
    if wanted:
        for i in range(low, high):
            for q in range(starts[i], starts[i + 1]):
                below[samples[q], i] = (dots[q] + penalty) * scale
    _descend_biases(delta, batch, bias, bias_momenta, descent, share, shares)


@kernel
def gradients_by_sample(new, delta, rows, lists, below, penalty, scale, block, first, last):
    """A gated layer's gradients of its inputs, for the samples from ``first`` to ``last``.

    Args:
        new: the level that goes out.
        delta: of that level.
        rows: the weights, float32 (units, inputs in whole vectors).
        block: inputs that all samples go through together.
        lists, below, penalty, scale: as in :func:`by_input`.
    """
    stride = rows.shape[1]
    wide = max(delta.shape[1], stride)
    found, zeros = np.empty(wide, np.float32), np.zeros(block, np.float32)
    for f in range(0, stride, block):
        width = min(block, stride - f)
        address = rows.ctypes.data + 4 * f
        for s in range(first, last):
            listed, count = new[0][s], new[2][s]
            for p in range(count):
                found[p] = delta[s, listed[p]]
            add_rows(listed, found, count, address, stride, zeros.ctypes.data, below[s, f:], width)
    for s in range(first, last):
        listed, count = lists[0][s], lists[2][s]
        for p in range(count):
            found[p] = (below[s, listed[p]] + penalty) * scale
        below[s] = 0
        for p in range(count):
            below[s, listed[p]] = found[p]


@kernel
def by_unit(new, delta, batch, x, weights, momenta, descent, max_norm, room, share, shares):
    """A gated layer's step, max-norm included.

    Args:
        new: the level that goes out.
        delta: of that level.
        x: float32 (batch, inputs in whole vectors), the level that comes in.
        weights: rows float32 (units, inputs in whole vectors), and bias.
        max_norm: no unit's incoming weights are longer than this afterwards.
        momenta, descent, room, share, shares: as in :func:`by_input`, the shares of units.
    """
    rows, bias = weights
    row_momenta, bias_momenta = momenta
    units, stride = rows.shape
    starts, samples, values = room[0][share, : units + 1], room[1], room[2]
    low, high = turn(new, 0, batch, starts, samples, values, share, shares)
    gradient, zeros = np.empty(stride, np.float32), np.zeros(stride, np.float32)
    for j in range(low, high):
        a, n = starts[j], starts[j + 1] - starts[j]
        for q in range(a, a + n):
            values[q] = delta[samples[q], j]
        add_rows(samples[a:], values[a:], n, x.ctypes.data, stride, zeros.ctypes.data, gradient, stride)
        row = rows[j]
        _descend(row, row_momenta[j], gradient, stride, descent)
        total = np.float32(0)
        for i in range(stride):
            total += row[i] * row[i]
        norm = np.sqrt(total)
        if not norm <= max_norm:
            for i in range(stride):
                row[i] *= max_norm / norm
    _descend_biases(delta, batch, bias, bias_momenta, descent, share, shares)
