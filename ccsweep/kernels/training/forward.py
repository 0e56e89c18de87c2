"""The forward pass of a training step: what is zero, gated off or dropped is left out.

A level is what lies between two layers: level 0 the inputs, level k the activations of layer k. It is kept
as lists of (index, value) pairs, ascending, one for each sample, dropout done and 1/keep multiplied in:
``lists`` is (indices int32, values float32, counts int64), the first two (batch, width + room for a vector).

What is said to do the samples from ``first`` to ``last``, or the columns from ``low`` to ``high``, touches no
others: threads share the work that way, each with columns of its own, so that no core waits for weights that
another one wrote. ``dropout`` is (key of the step, level, limit, 1/keep), see ``dropout``.

Where an address is taken of an array made here, its ``ctypes`` is kept, or numba would free it at once.
"""

import numpy as np

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.float32 import add_rows
from ccsweep.kernels.lists import append_positive, turn, within
from ccsweep.kernels.memory import TILE, floats, ints
from ccsweep.kernels.simd import LANES, four_dots
from ccsweep.kernels.training.dropout import append_kept, list_kept, sample_key


@jit
def addresses(lists):
    """Where lists begin, and how far one is from the next."""
    return lists[0].ctypes.data, lists[1].ctypes.data, lists[0].shape[1]


@jit
def listed(at, s):
    """The list of a sample: indices and values."""
    indices, values, wide = at
    return ints(indices + 4 * wide * s, wide), floats(values + 4 * wide * s, wide)


@kernel
def take(x, numbers, dropout, lists, losses, first, last):
    """Level 0: lists the inputs x, float32 (batch, features), that are not zero and that dropout keeps.

    ``losses`` (batch,) start at 0; at NaN for a sample that is not finite, which gates could hide.
    """
    counts = lists[2]
    key, level, limit, scale = dropout
    rest, images, features = np.empty(LANES, np.float32), x.ctypes.data, x.shape[1]
    at = addresses(lists)
    for s in range(first, last):
        index, value = listed(at, s)
        words, row = sample_key(key, level, s), floats(images + 4 * features * s, features)
        counts[s] = list_kept(row, rest, numbers, index, value, words, limit, scale)
        losses[s] = 0 * value[: counts[s]].sum()


@jit
def close(new, penalty, losses, delta, first, last):
    """Ends a level: adds the L1 norm of what it keeps to the losses, and empties its gradient."""
    counts, at = new[2], addresses(new)
    delta[first:last] = 0
    for s in range(first, last):
        losses[s] += penalty * listed(at, s)[1][: counts[s]].sum()


@jit
def merge(staged, new, first, last):
    """Joins the lists that shares of the columns made, (shares, batch, width), into the level's."""
    indices, values, counts = staged
    for s in range(first, last):
        c = 0
        for share in range(len(counts)):
            for p in range(counts[share, s]):
                new[0][s, c], new[1][s, c] = indices[share, s, p], values[share, s, p]
                c += 1
        new[2][s] = c


@jit
def spread(lists, x, first, last):
    """Writes a level out as rows of x, float32 (batch, width in whole vectors), zeros and all."""
    indices, values, counts = lists
    x[first:last] = 0
    for s in range(first, last):
        for p in range(counts[s]):
            x[s, indices[s, p]] = values[s, p]


@jit
def _gate_off(lists, gate, bias, new, first, last):
    """Takes off the lists what the estimator calls negative: it is asked about no others."""
    u, v, shift = gate
    counts, after, wide = new[2], addresses(new), v.shape[1]
    t, shifted = _project(lists, u, first, last), bias + shift
    projected, rows = t.ctypes, v.ctypes.data
    chunks, dots = np.arange(0, wide, LANES).astype(np.int32), np.empty(4, np.float32)
    for s in range(first, last):
        index, value = listed(after, s)
        row, count, c = floats(projected.data + 4 * wide * (s - first), wide), counts[s], 0
        for p in range(0, count, 4):
            a, b, d, e = (
                rows + 4 * wide * index[p],
                rows + 4 * wide * index[min(p + 1, count - 1)],
                rows + 4 * wide * index[min(p + 2, count - 1)],
                rows + 4 * wide * index[min(p + 3, count - 1)],
            )
            four_dots(row, chunks, chunks.size, a, b, d, e, dots, 0)
            for q in range(min(4, count - p)):
                j = index[p + q]
                index[c], value[c] = j, value[p + q]
                c += not dots[q] + shifted[j] <= 0
        counts[s] = c


@kernel
def forward(lists, numbers, rows, bias, units, block, gate, dropout, new, low, high, first, last):
    """A layer by input: each active one adds its row of weights; its gate is asked about what is positive.

    Args:
        rows: the columns' weights, float32 (inputs, high - low).
        bias: float32 (units in whole vectors,).
        units: how many there really are.
        block: columns that all samples go through together, so that their weights stay in the cache.
        gate: U (inputs, rank in whole vectors), V^T (units, rank in whole vectors), and the shift (units in
            whole vectors,); three empty ones where there is none.
        new: lists of what the columns make.
    """
    counts, new_counts = lists[2], new[2]
    key, level, limit, scale = dropout
    stride = rows.shape[1]
    sums = np.empty(block, np.float32)
    before, after = addresses(lists), addresses(new)
    new_counts[first:last] = 0
    for f in range(0, high - low, block):
        width, named = min(block, high - low - f), numbers[low + f :]
        weights, biases = rows.ctypes.data + 4 * f, bias.ctypes.data + 4 * (low + f)
        for s in range(first, last):
            index, value = listed(before, s)
            add_rows(index, value, counts[s], weights, stride, biases, sums, width)
            index, value = listed(after, s)
            words = sample_key(key, level, s)
            c = append_kept(named, sums, width, index, value, new_counts[s], words, limit, scale)
            new_counts[s] = within(index, c, units)
    if gate[2].size:
        _gate_off(lists, gate, bias, new, first, last)


@jit
def _project(lists, u, first, last):
    """t = x U, (samples, rank in whole vectors), from lists."""
    counts, at, width = lists[2], addresses(lists), u.shape[1]
    nothing, t = np.zeros(width, np.float32).ctypes, np.empty((last - first, width), np.float32)
    rows, out = u.ctypes.data, t.ctypes.data
    for s in range(first, last):
        index, value = listed(at, s)
        row = floats(out + 4 * width * (s - first), width)
        add_rows(index, value, counts[s], rows, width, nothing.data, row, width)
    return t


@jit
def _candidates(lists, numbers, bias, gate, dropout, units, new, low, high, first, last):
    """Lists the units of each sample that neither the estimator nor dropout leaves out, with their scores."""
    u, v, shift = gate
    new_counts, after = new[2], addresses(new)
    key, level, limit, _ = dropout
    rank, stride = v.shape
    t = _project(lists, u, first, last)
    projected, wide = t.ctypes, t.shape[1]
    scores, shifted = np.empty(TILE, np.float32), (bias + shift).ctypes
    new_counts[first:last] = 0
    for f in range(low, high, TILE):
        width, named = min(TILE, high - f), numbers[f:]
        part, biases = v.ctypes.data + 4 * f, shifted.data + 4 * f
        for s in range(first, last):
            row = floats(projected.data + 4 * wide * (s - first), wide)
            add_rows(numbers, row, rank, part, stride, biases, scores, width)
            index, value = listed(after, s)
            words = sample_key(key, level, s)
            c = append_kept(named, scores, width, index, value, new_counts[s], words, limit, np.float32(1))
            new_counts[s] = within(index, c, units)


@kernel
def forward_by_unit(lists, numbers, x, rows, bias, gate, dropout, new, starts, room, low, high, first, last):
    """A layer with a gate, by unit: only those that its estimator and dropout leave on are computed.

    Each is a dot product with its row of weights, which serves all its samples while it is in the cache.

    Args:
        x: float32 (batch, inputs in whole vectors): the level as rows.
        rows: the weights, float32 (units, inputs in whole vectors).
        gate: U (inputs, rank in whole vectors), V (rank, units in whole vectors), and the shift (units in
            whole vectors,).
        starts: int64 (units + 1,) or more; overwritten.
        room: samples int32 and values float32, (batch * units,) or more; of the columns' part overwritten.
        bias, new: as in :func:`forward`.
    """
    new_indices, new_values, new_counts = new
    units, stride = rows.shape
    _candidates(lists, numbers, bias, gate, dropout, units, new, low, high, first, last)
    high, place = min(high, units), (last - first) * low
    samples, unused = room[0][place:], room[1][place:]
    starts = starts[: units + 1]
    turn(new, first, last, starts, samples, unused, low, high)
    new_counts[first:last] = 0
    chunks = np.arange(0, stride, LANES).astype(np.int32)
    start, weights, dots = x.ctypes.data, rows.ctypes.data, np.empty(4, np.float32)
    for j in range(low, high):
        end, row = starts[j + 1], floats(weights + 4 * stride * j, stride)
        for p in range(starts[j], end, 4):
            # At the end of the list one sample fills up the four: its row is in the cache already.
            a, b, c, d = (
                start + 4 * stride * samples[p],
                start + 4 * stride * samples[min(p + 1, end - 1)],
                start + 4 * stride * samples[min(p + 2, end - 1)],
                start + 4 * stride * samples[min(p + 3, end - 1)],
            )
            four_dots(row, chunks, chunks.size, a, b, c, d, dots, 0)
            for q in range(min(4, end - p)):
                s, z = samples[p + q], dots[q] + bias[j]
                new_indices[s, new_counts[s]], new_values[s, new_counts[s]] = j, z * dropout[3]
                new_counts[s] += not z <= 0


@kernel
def finish(lists, rows, bias, classes, labels, share, delta, losses, wrong, first, last):
    """The output layer, the cross entropy, and its gradient.

    Args:
        rows, bias: as in :func:`forward`.
        classes: units of the layer.
        labels: int64 (batch,).
        share: what a sample's loss counts in the batch's: 1/batch.
        delta: float32 (batch, classes in whole vectors): filled.
        losses: float64 (batch,), which the cross entropy is added to.
        wrong: bool (batch,): whether another class than the label's has the largest output.
    """
    counts, at = lists[2], addresses(lists)
    stride = rows.shape[1]
    weights, biases, out = rows.ctypes.data, bias.ctypes.data, delta.ctypes.data
    for s in range(first, last):
        index, value = listed(at, s)
        z = floats(out + 4 * stride * s, stride)
        add_rows(index, value, counts[s], weights, stride, biases, z, stride)
        z[classes:] = 0
        best = 0
        for j in range(1, classes):
            if z[j] > z[best]:
                best = j
        label, top, others = labels[s], z[best], np.float32(0)
        wrong[s] = best != label
        losses[s] += top - z[label]
        for j in range(classes):
            z[j] = np.exp(z[j] - top)
            if j != label:
                others += z[j]
        total = others + z[label]
        losses[s] += np.log(total)
        for j in range(classes):
            z[j] *= share / total
        z[label] = -others * (
            share / total
        )  # z[label] - share would lose all digits where the answer is sure


@kernel
def examine(lists, numbers, rows, bias, gate, units, block, new, counts, first, last):
    """A hidden layer in use, every unit of it computed, to see what its gate is worth.

    Args:
        rows, bias, units, block: as in :func:`forward`.
        gate: as in :func:`forward_by_unit`; three empty ones where there is none.
        new: the level that the layer makes, gated.
        counts: int64 (batch, 3), filled: units computed, positive, positive but gated off.
    """
    before, after, new_counts = addresses(lists), addresses(new), new[2]
    u, v, shift = gate
    gated, rank, stride = shift.size > 0, v.shape[0], rows.shape[1]
    shifted = (bias + shift if gated else bias).ctypes
    t = _project(lists, u, first, last)
    projected, wide = t.ctypes, t.shape[1]
    sums, scores = np.empty(block, np.float32), np.full(block, np.inf, np.float32)
    new_counts[first:last] = 0
    counts[first:last] = 0
    for f in range(0, stride, block):
        width, named = min(block, stride - f), numbers[f:]
        weights, biases = rows.ctypes.data + 4 * f, bias.ctypes.data + 4 * f
        part, others = v.ctypes.data + 4 * f, shifted.data + 4 * f
        for s in range(first, last):
            index, value = listed(before, s)
            add_rows(index, value, lists[2][s], weights, stride, biases, sums, width)
            if gated:
                row = floats(projected.data + 4 * wide * (s - first), wide)
                add_rows(numbers, row, rank, part, stride, others, scores, width)
            computed, active, missed = 0, 0, 0
            for j in range(min(width, units - f)):
                on, positive = scores[j] > 0, sums[j] > 0
                computed += on
                active += positive
                missed += positive and not on
                sums[j] = sums[j] if on else 0
            counts[s, 0] += computed
            counts[s, 1] += active
            counts[s, 2] += missed
            index, value = listed(after, s)
            c = append_positive(named, sums, width, index, value, new_counts[s])
            new_counts[s] = within(index, c, units)
