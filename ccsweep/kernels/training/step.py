"""A whole training step in one call, forward and backward, which threads share out among themselves.

Each share has samples of its own and, in every layer, columns of its own: what a core reads of the weights it
wrote itself. Shares meet wherever one needs what another made. The results are the same to the last bit
for any number of shares: what is summed up, and in which order, depends on samples and tiles alone.
"""

import numpy as np
from numba import carray

from ccsweep.kernels.compiling import jit, kernel
from ccsweep.kernels.lists import turn
from ccsweep.kernels.memory import pointer
from ccsweep.kernels.training.forward import close, finish, forward, forward_by_unit, merge, spread, take
from ccsweep.kernels.training.sharing import meet, part, tiles
from ccsweep.kernels.training.update import across, by_input, by_unit, gradients_by_sample, pass_down

TURNING = 4
"""What it takes to turn round a gradient, in multiply-adds for each weight."""

LAYER = np.dtype(
    [
        ("by_unit", np.int64),
        ("inputs", np.int64),
        ("units", np.int64),
        ("width", np.int64),  # units in whole vectors
        ("stride", np.int64),  # by unit: floats from one row of weights to the next
        ("parts", np.int64),  # by input: the columns' weights lie apart, a matrix for each part of them
        ("block", np.int64),  # columns that all samples go through together
        # Addresses of float32 arrays.
        ("rows", np.int64),  # a row for each input, or by unit for each unit
        ("row_momenta", np.int64),
        ("bias", np.int64),
        ("bias_momenta", np.int64),
        # Of the estimator; rank 0 where there is none.
        ("rank", np.int64),  # in whole vectors
        ("u", np.int64),
        ("v", np.int64),  # by input (units, rank in whole vectors), by unit (rank, width)
        ("v_rows", np.int64),
        ("shift", np.int64),
    ]
)
"""A layer."""

LEVEL = np.dtype(
    [
        ("wide", np.int64),  # pairs that a list has room for
        ("indices", np.int64),
        ("values", np.int64),
        ("counts", np.int64),
        ("width", np.int64),  # floats from one row to the next
        ("rows", np.int64),
        ("delta", np.int64),
    ]
)
"""What lies between two layers: the addresses of its lists, of the same as rows, and of its gradient."""


@jit
def _lists(level, batch):
    shape = (batch, level.wide)
    indices = carray(pointer(level.indices), shape, np.int32)
    values = carray(pointer(level.values), shape, np.float32)
    return indices, values, carray(pointer(level.counts), (batch,), np.int64)


@jit
def _staged(level, batch, shares):
    """The lists that shares make of a level, before they are joined."""
    shape = (shares, batch, level.wide)
    indices = carray(pointer(level.indices), shape, np.int32)
    values = carray(pointer(level.values), shape, np.float32)
    return indices, values, carray(pointer(level.counts), (shares, batch), np.int64)


@jit
def _matrix(address, rows, width):
    return carray(pointer(address), (rows, width), np.float32)


@jit
def _vector(address, width):
    return carray(pointer(address), (width,), np.float32)


@jit
def _part(layer, low, high):
    """Weights of these columns, and their momenta."""
    place, width = 4 * layer.inputs * low, high - low
    rows, momenta = layer.rows + place, layer.row_momenta + place
    return _matrix(rows, layer.inputs, width), _matrix(momenta, layer.inputs, width)


@jit
def _by_unit(layer):
    return (
        _matrix(layer.rows, layer.units, layer.stride),
        _matrix(layer.row_momenta, layer.units, layer.stride),
    )


@jit
def _gate(layer):
    wide = layer.width if layer.by_unit else layer.rank
    return (
        _matrix(layer.u, layer.inputs, layer.rank),
        _matrix(layer.v, layer.v_rows, wide),
        _vector(layer.shift, layer.width if layer.rank else 0),
    )


@kernel
def step(
    layers,
    levels,
    staging,
    x,
    labels,
    dropout,
    descent,
    l1,
    max_norm,
    room,
    losses,
    wrong,
    counter,
    share,
    shares,
):
    """One share of a step of SGD.

    Args:
        layers: records of ``LAYER``, the output layer last.
        levels: records of ``LEVEL``, one more.
        staging: one record of ``LEVEL`` whose lists have room for all shares of any level.
        x: float32 (batch, features).
        labels: int64 (batch,).
        dropout: key of the step; limits uint32 and 1/keep float32, (levels,) each.
        descent: learning rate, momentum, L2.
        l1: on the sum of a sample's activations.
        max_norm: of a unit's incoming weights; infinite for none.
        room: numbers (0, 1, 2, ... int32); and, overwritten, starts int64 (shares, widest + 1), samples int32
            and values float32 (batch * widest,), dots float32 (batch * widest * tiles,). Last the bytes of
            deltas that all inputs go through together.
        losses: float64 (batch,), filled: of each sample.
        wrong: bool (batch,), filled; see ``forward.finish``.
        counter: int64 (1,), 0; see ``sharing.meet``.
        share: of the work.
        shares: how many there are: as many threads run this at the same time.
    """
    batch, depth, times = len(x), layers.size, 0
    first, last = batch * share // shares, batch * (share + 1) // shares
    key, limits, scales = dropout
    numbers, starts, samples, values, dots = room[0], room[1][share], room[2], room[3], room[4]
    turned, l1 = (samples, values), np.float32(l1)

    lists = _lists(levels[0], batch)
    take(x, numbers, (key, 0, limits[0], scales[0]), lists, losses, first, last)
    spread(lists, _matrix(levels[0].rows, batch, levels[0].width), first, last)
    for k in range(depth - 1):
        times += 1
        meet(counter, times, shares)
        layer, level = layers[k], levels[k + 1]
        lists, new, parts = _lists(levels[k], batch), _lists(level, batch), layer.parts
        bias, gate, drop = (
            _vector(layer.bias, layer.width),
            _gate(layer),
            (key, k + 1, limits[k + 1], scales[k + 1]),
        )
        staged, edges = _staged(staging[0], batch, parts), tiles(layer.width)
        for p in range(parts * share // shares, parts * (share + 1) // shares):
            f, g = part(edges, p, parts)
            low, high = edges[f], edges[g]
            made = new if parts == 1 else (staged[0][p], staged[1][p], staged[2][p])
            if layer.by_unit:
                rows, weights = _matrix(levels[k].rows, batch, levels[k].width), _by_unit(layer)[0]
                forward_by_unit(
                    lists, numbers, rows, weights, bias, gate, drop, made, starts, turned, low, high, 0, batch
                )
            else:
                weights = _part(layer, low, high)[0]
                block, units = layer.block, layer.units
                forward(lists, numbers, weights, bias, units, block, gate, drop, made, low, high, 0, batch)
        times += 1
        meet(counter, times, shares)
        if parts > 1:
            merge(staged, new, first, last)
        close(new, l1, losses, _matrix(level.delta, batch, level.width), first, last)
        if layers[k + 1].by_unit:
            spread(new, _matrix(level.rows, batch, level.width), first, last)
    layer, level = layers[depth - 1], levels[depth]
    weights, bias = _part(layer, 0, layer.width)[0], _vector(layer.bias, layer.width)
    lists, delta = _lists(levels[depth - 1], batch), _matrix(level.delta, batch, level.width)
    of_batch = np.float32(1 / batch)
    finish(lists, weights, bias, layer.units, labels, of_batch, delta, losses, wrong, first, last)
    for k in range(depth - 1, -1, -1):
        times += 1
        meet(counter, times, shares)
        layer, before, after, parts = layers[k], levels[k], levels[k + 1], layers[k].parts
        own = parts * share // shares, parts * (share + 1) // shares
        lists, new, width = _lists(before, batch), _lists(after, batch), layer.width
        delta, rows = _matrix(after.delta, batch, after.width), _matrix(before.rows, batch, before.width)
        below = _matrix(before.delta, batch if k else 0, before.width)
        biases = _vector(layer.bias, width), _vector(layer.bias_momenta, width)
        penalty, edges = l1 / np.float32(batch), tiles(width)
        if layer.by_unit:
            weights = _by_unit(layer)
            if k:
                block = layer.block
                gradients_by_sample(
                    new, delta, weights[0], lists, below, penalty, scales[k], block, first, last
                )
                times += 1
                meet(counter, times, shares)
            for p in range(*own):
                f, g = part(edges, p, parts)
                low, high = edges[f], edges[g]
                by_unit(
                    new, delta, batch, rows, weights, biases, descent, max_norm, starts, turned, low, high
                )
            continue
        if k == 0 and _across_is_less(layer, lists, new):
            for p in range(*own):
                f, g = part(edges, p, parts)
                low, high = edges[f], edges[g]
                weights, units = _part(layer, low, high), layer.units
                across(
                    new,
                    delta,
                    batch,
                    rows,
                    weights,
                    units,
                    biases,
                    descent,
                    max_norm,
                    starts,
                    turned,
                    low,
                    high,
                )
            continue
        of_inputs = starts[: layer.inputs + 1]
        low, high = layer.inputs * share // shares, layer.inputs * (share + 1) // shares
        turn(lists, 0, batch, of_inputs, samples, values, low, high)
        times += 1
        meet(counter, times, shares)
        listed, wanted = (of_inputs, samples, values), dots if k else dots[:0]
        block = room[5] // (4 * batch)
        for p in range(*own):
            f, g = part(edges, p, parts)
            if g > f:
                weights = _part(layer, edges[f], edges[g])
                by_input(delta, batch, weights, biases, listed, descent, max_norm, wanted, block, edges, f, g)
        if k:
            times += 1
            meet(counter, times, shares)
            pass_down(listed, dots, edges.size - 1, below, penalty, scales[k], low, high)


@jit
def _across_is_less(layer, lists, new):
    """Whether a gradient of the weights alone takes fewer operations by unit."""
    inputs, units = layer.inputs, layer.units
    return new[2].sum() * inputs + TURNING * inputs * units < lists[2].sum() * units
