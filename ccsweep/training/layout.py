"""A network's layers as the skipping step has them: weights and momenta laid out for its kernels."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ccsweep.estimator.factors import Factors
from ccsweep.kernels.memory import TILE, aligned, block, spaced, vectors
from ccsweep.kernels.simd import LANES
from ccsweep.kernels.training.dropout import ALL
from ccsweep.kernels.training.sharing import part, tiles
from ccsweep.kernels.training.step import LEVEL, TURNING
from ccsweep.network import ConditionalLinear, ConditionalMLP

Array = np.ndarray
Kept = tuple[np.uint32, np.float32]
Gate = tuple[Array, Array, Array]
Parts = list[tuple[slice, Array]]
CACHED = 3 * 2**19
"""Weights, or deltas, that all of a batch goes through together: they stay in the second-level cache."""
NOTHING = np.zeros((0, 0), np.float32)
NO_GATE: Gate = (NOTHING, NOTHING, NOTHING.ravel())


def kept(dropped: float) -> Kept:
    """Of what dropout keeps: the highest hash, and 1/share."""
    return np.uint32(round((1 - dropped) * (ALL + 1)) - 1), np.float32(1 / (1 - dropped))


def _padded(values: Array, width: int) -> Array:
    made = aligned(len(values), width)
    made[:] = 0
    made[:, : values.shape[1]] = values
    return made


def gate(factors: Factors, width: int) -> Gate:
    """The estimator as the kernels want it that ask about all units, so many in whole vectors."""
    u, v, shift = (part.numpy() for part in factors)
    rank = vectors(max(u.shape[1], 1))
    return _padded(u, rank), _padded(v, width), _padded(shift[None], width)[0]


def _gate_of_some(factors: Factors, width: int) -> Gate:
    """And as those want it that ask about single units."""
    u, _, shift = gate(factors, width)
    return u, _padded(factors.v.T.numpy(), u.shape[1]), shift


def by_unit_is_less(layer: ConditionalLinear, before: float, on: float, first: bool, batch: int) -> bool:
    """Whether a gated layer takes fewer multiply-adds by unit than by input; forward and backward.

    Counted for each of its weights and each sample: by input a weight is used where its input is active; by
    unit, where the unit is on, besides the estimator's V.

    Args:
        layer: what is gated.
        before: share of its inputs that are active, dropout done.
        on: share of its units that are on, dropout done.
        first: whether nobody wants the gradient of its inputs.
        batch: samples in a step.
    """
    estimator = (layer.rank or 0) / layer.in_features
    if first:
        return estimator + 2 * on < before + min(before, on + TURNING / batch)
    return estimator + 3 * on < 3 * before


class Level(NamedTuple):
    """What lies between two layers, for one batch."""

    lists: tuple[Array, Array, Array]
    rows: Array
    """The same, zeros and all, where it is wanted."""
    delta: Array
    """The gradient of the loss."""

    @classmethod
    def of(cls, batch: int, width: int) -> "Level":
        """A level of so many units, with nothing in it."""
        return cls(_lists(batch, width), *(aligned(batch, spaced(width)) for _ in range(2)))

    def record(self) -> tuple[int, ...]:
        """As ``kernels.training.step.LEVEL`` has it."""
        lists = (part.ctypes.data for part in self.lists)
        addresses = self.rows.ctypes.data, self.delta.ctypes.data
        return self.lists[0].shape[-1], *lists, self.rows.shape[1], *addresses


def _lists(batch: int, width: int) -> tuple[Array, Array, Array]:
    shape = batch, spaced(width) + LANES  # what is written last is a whole vector
    return np.empty(shape, np.int32), np.empty(shape, np.float32), np.zeros(batch, np.int64)


class Room:
    """What passes write to, made once, for batches of at most so many samples."""

    def __init__(self, batch: int, network: ConditionalMLP, threads: int) -> None:
        widths = [*(linear.in_features for linear in network.linears()), network.output.out_features]
        widest = max(widths)
        self.batch = batch
        self.levels = [Level.of(batch, width) for width in widths]
        self.records = np.array([level.record() for level in self.levels], LEVEL)
        staged = Level(_lists(batch * threads if threads > 1 else 0, widest), NOTHING, NOTHING)
        self.staging = np.array([staged.record()], LEVEL)
        self._staged = staged  # whose addresses these are
        self.losses, self.wrong = np.zeros(batch), np.zeros(batch, np.bool_)
        self.numbers = np.arange(widest + 2 * TILE, dtype=np.int32)
        pairs = [np.empty(batch * widest, kind) for kind in (np.int32, np.float32)]
        found = [d * len(tiles(spaced(h))) for d, h in pairwise(widths[1:])]
        dots = np.empty(batch * max(found, default=0), np.float32)
        starts = np.empty((threads, widest + 1), np.int64)
        self.rest = (self.numbers, starts, *pairs, dots, CACHED)
        """What ``kernels.training.step.step`` calls its room."""
        self.counter = np.zeros(1, np.int64)


TRIES = 3
"""Pieces of work that are timed with one thread, and with all of them."""


class Threads:
    """Work in equal shares, one of them done by the caller; by one thread or all, whichever is quicker.

    Results are the same to the last bit, so nothing hangs on what the clock says. All cores share what
    one of them wrote, and wait for it: small networks, and few cores, may be quicker alone.
    """

    def __init__(self, most: int) -> None:
        self.most = self.count = most
        self._pool = ThreadPoolExecutor(most - 1) if most > 1 else None
        self._due: list[int] = []
        self._took: dict[int, float] = {}

    def compare(self) -> None:
        """Find out anew, from the next pieces of work."""
        if self.most > 1:
            self._due, self._took = [1, self.most] * TRIES, {1: math.inf, self.most: math.inf}

    @contextmanager
    def piece(self) -> Iterator[None]:
        """One piece of work, timed if that is due."""
        if not self._due:
            yield
            return
        self.count, began = self._due.pop(), time.perf_counter()
        yield
        self._took[self.count] = min(self._took[self.count], time.perf_counter() - began)
        if not self._due:
            self.count = min(self._took, key=lambda count: self._took[count])

    def share(self, work: Callable[[int], None]) -> None:
        """Call ``work(share)`` for each share; returns when all are done."""
        others = [] if self._pool is None else [self._pool.submit(work, k) for k in range(1, self.count)]
        work(0)
        for other in others:
            other.result()

    def split(self, batch: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(first, last)`` for parts of a batch."""
        self.share(lambda k: work(batch * k // self.count, batch * (k + 1) // self.count))


class Layer:
    """Weights, momenta and gate, with a row for each input, or for each unit.

    By input, each active one adds its row of weights. By unit, each that is on takes its dot product.

    Args:
        linear: of these sizes.
        by_unit: rows of units.
        parts: threads have a part of the units each. By input the weights of each part are a matrix of their
            own: cores that write next to each other wait for each other's lines of the cache.
    """

    def __init__(self, linear: nn.Linear, by_unit: bool = False, parts: int = 1) -> None:
        self.by_unit, self.parts = by_unit, parts
        self.units, self.inputs = linear.weight.shape
        self.width = spaced(self.units)
        count, self.stride = (self.units, spaced(self.inputs)) if by_unit else (self.inputs, self.width)
        self.block = block(count, self.stride, CACHED)
        self.rows, self.row_momenta = (_padded(np.zeros((count, 0)), self.stride) for _ in range(2))
        self.bias, self.bias_momenta = _padded(np.zeros((2, 0)), self.width)
        self.gate = NO_GATE

    def load(self, linear: nn.Linear, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take the weights and, of an optimizer, the momenta."""
        state = {} if optimizer is None else optimizer.state
        for parameter, given, taken in self._parts(linear):
            momentum = state.get(parameter, {}).get("momentum_buffer")
            for source, array in ((parameter.detach(), given), (momentum, taken)):
                for units, own in array:
                    own[:] = 0 if source is None else source[units].numpy()

    def take_gate(self, factors: Factors | None) -> None:
        """Gate with these factors; None: not at all."""
        lay_out = gate if self.by_unit else _gate_of_some
        self.gate = NO_GATE if factors is None else lay_out(factors, self.width)

    def store(self, linear: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        """Give both back."""
        for parameter, given, taken in self._parts(linear):
            momentum = optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter)
            for target, array in ((parameter.detach(), given), (momentum, taken)):
                for units, own in array:
                    target[units] = torch.from_numpy(own)

    def record(self) -> tuple[int, ...]:
        """As ``kernels.training.step.LAYER`` has it."""
        sizes = self.inputs, self.units, self.width, self.stride, self.parts, self.block
        state = self.rows, self.row_momenta, self.bias, self.bias_momenta
        u, v, shift = self.gate
        estimator = u.shape[1], u.ctypes.data, v.ctypes.data, len(v), shift.ctypes.data
        return int(self.by_unit), *sizes, *(part.ctypes.data for part in state), *estimator

    def _parts(self, linear: nn.Linear) -> list[tuple[Tensor, Parts, Parts]]:
        weights, momenta = (list(self._of_units(rows)) for rows in (self.rows, self.row_momenta))
        whole = slice(0, self.units)
        biases, theirs = ([(whole, bias[whole])] for bias in (self.bias, self.bias_momenta))
        return [(linear.weight, weights, momenta), (linear.bias, biases, theirs)]

    def _of_units(self, rows: Array) -> Iterator[tuple[slice, Array]]:
        """Views of rows, (units, inputs), and which units each has."""
        if self.by_unit:
            yield slice(0, self.units), rows[:, : self.inputs]
            return
        edges = tiles(self.width)
        for p in range(self.parts):
            low, high = edges[list(part(edges, p, self.parts))]
            place, last = self.inputs * low, min(high, self.units)
            columns = rows.reshape(-1)[place : place + self.inputs * (high - low)].reshape(self.inputs, -1)
            if last > low:
                yield slice(low, last), columns[:, : last - low].T
