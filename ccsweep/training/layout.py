"""A network's layers as the skipping step has them: weights and momenta laid out for its kernels."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ccsweep.estimator.factors import Factors
from ccsweep.kernels import training, update
from ccsweep.kernels.dropout import ALL
from ccsweep.kernels.memory import TILE, aligned, block, spaced, vectors
from ccsweep.kernels.simd import LANES
from ccsweep.network import ConditionalLinear, ConditionalMLP

Array = np.ndarray
Kept = tuple[np.uint32, np.float32]
Dropout = tuple[np.uint64, int, np.uint32, np.float32]
Below = tuple[Array, np.float32, np.float32]
"""delta of a level, or nothing where it is not wanted; what L1 adds to it; 1/keep."""
Descent = tuple[np.float32, np.float32, np.float32]
Gate = tuple[Array, Array, Array]
CACHED = 3 * 2**19
"""Weights, or deltas, that all of a batch goes through together: they stay in the second-level cache."""
TURNING = 4
"""What it takes to turn round a gradient, in multiply-adds for each weight."""
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
    """The same, zeros and all, where a gated layer follows."""
    delta: Array
    """The gradient of the loss."""

    @classmethod
    def of(cls, batch: int, width: int) -> "Level":
        """A level of so many units, with nothing in it."""
        shape = batch, spaced(width) + LANES  # what is written last is a whole vector
        lists = np.empty(shape, np.int32), np.empty(shape, np.float32), np.zeros(batch, np.int64)
        return cls(lists, aligned(batch, spaced(width)), aligned(batch, spaced(width)))


class Room:
    """What passes write to, made once, for batches of at most so many samples."""

    def __init__(self, batch: int, network: ConditionalMLP, threads: int) -> None:
        widths = [*(linear.in_features for linear in network.linears()), network.output.out_features]
        widest = max(widths)
        self.batch = batch
        self.levels = [Level.of(batch, width) for width in widths]
        self.losses, self.wrong = np.zeros(batch), np.zeros(batch, np.bool_)
        self.numbers = np.arange(widest + 2 * TILE, dtype=np.int32)
        pairs = [np.empty(batch * widest, kind) for kind in (np.int32, np.float32, np.float32)]
        self.turned = (np.empty((threads, widest + 1), np.int64), *pairs)
        self.squares = np.empty((threads, spaced(widest)), np.float32)


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


Passed = tuple[int, Level, Level, Below]
"""Samples, the level before a layer and the one behind it, and what is wanted of the first."""


class Layer:
    """Weights and momenta: a row for each input, or for each unit."""

    def __init__(self, linear: nn.Linear, by_unit: bool) -> None:
        self.units, inputs = linear.weight.shape
        count, width = (self.units, inputs) if by_unit else (inputs, self.units)
        self.block = block(count, spaced(width), CACHED)
        self.rows, self.row_momenta = (_padded(np.zeros((count, 0)), spaced(width)) for _ in range(2))
        self.bias, self.bias_momenta = _padded(np.zeros((2, 0)), spaced(self.units))
        weight, momenta = (part[:, :width] for part in (self.rows, self.row_momenta))
        self._weight, self._momenta = (weight, momenta) if by_unit else (weight.T, momenta.T)

    def load(self, linear: nn.Linear, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take the weights and, of an optimizer, the momenta."""
        state = {} if optimizer is None else optimizer.state
        for parameter, values, momenta in self._parts(linear):
            values[:] = parameter.detach().numpy()
            momentum = state.get(parameter, {}).get("momentum_buffer")
            momenta[:] = 0 if momentum is None else momentum.numpy()

    def store(self, linear: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        """Give both back."""
        for parameter, values, momenta in self._parts(linear):
            parameter.detach().copy_(torch.from_numpy(values))
            optimizer.state[parameter]["momentum_buffer"] = torch.from_numpy(momenta.copy(order="C"))

    def _parts(self, linear: nn.Linear) -> list[tuple[Tensor, Array, Array]]:
        bias, momenta = self.bias[: self.units], self.bias_momenta[: self.units]
        return [(linear.weight, self._weight, self._momenta), (linear.bias, bias, momenta)]


class ByInput(Layer):
    """Each active input adds its row of weights; backward, it sums up that row's gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear, by_unit=False)
        self._gate = NO_GATE

    def take_gate(self, factors: Factors | None) -> None:
        """Gate with these factors; None: not at all."""
        self._gate = NO_GATE if factors is None else _gate_of_some(factors, self.bias.size)

    def forward(
        self, room: Room, level: Level, new: Level, dropout: Dropout, penalty: np.float32, *part: int
    ) -> None:
        """Makes the new level, for the samples from ``part[0]`` to ``part[1]``."""
        weights = self.rows, self.bias, self.units, self.block, self._gate
        made = new.lists, penalty, room.losses, new.delta
        training.forward(level.lists, room.numbers, *weights, dropout, *made, *part)
        if level is room.levels[0]:  # in case its gradient is summed up by unit
            training.spread(level.lists, level.rows, *part)

    def finish(self, room: Room, labels: Array, share: float, *part: int) -> None:
        """As the output layer: the losses, and where they are ``share`` of the batch's, the gradient."""
        level, last = room.levels[-2:]
        weights, made = (self.rows, self.bias, self.units), (last.delta, room.losses, room.wrong)
        training.finish(level.lists, *weights, labels, np.float32(share), *made, *part)

    def backward(
        self, threads: Threads, room: Room, passed: Passed, descent: Descent, max_norm: float | None
    ) -> None:
        """The gradient of the level before, and the layer's step."""
        batch, level, new, below = passed
        weights, biases = (self.rows, self.row_momenta), (self.bias, self.bias_momenta)
        if not below[0].size and self._across_is_less(level, new, batch):
            given = (
                new.lists,
                new.delta,
                batch,
                level.rows,
                weights,
                self.units,
                biases,
                room.squares,
                descent,
            )
            threads.share(lambda share: update.across(*given, room.turned, share, threads.count))
        else:
            part = block(batch, self.bias.size, CACHED)
            taken = level.lists, new.delta, batch, weights, biases, room.squares, descent, *below, part
            threads.share(lambda share: update.by_input(*taken, room.turned, share, threads.count))
        if max_norm is not None:
            self._limit(room.squares[: threads.count, : self.units].sum(0), max_norm)

    def _across_is_less(self, level: Level, new: Level, batch: int) -> bool:
        """Whether a gradient of the weights alone takes fewer operations by unit."""
        (inputs, units), pairs = self.rows.shape, level.lists[2][:batch].sum()
        return new.lists[2][:batch].sum() * inputs + TURNING * inputs * units < pairs * units

    def _limit(self, squares: Array, max_norm: float) -> None:
        """Scale each unit's incoming weights so that their norm is at most ``max_norm``.

        Args:
            squares: the norms' squares, up to rounding, which depends on the threads.
            max_norm: seldom reached: the weights of the units concerned may lie anywhere.
        """
        near = np.flatnonzero(~(squares < 0.999 * max_norm**2))
        if near.size:
            with np.errstate(invalid="ignore"):  # what is not finite stays so
                norms = np.linalg.norm(self.rows[:, near].astype(np.float64), axis=0)
                self.rows[:, near] *= np.minimum(max_norm / norms, 1).astype(np.float32)


class ByUnit(Layer):
    """With a gate: each unit that is on takes its dot product; backward, it sums up its row's gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear, by_unit=True)

    def take_gate(self, factors: Factors | None) -> None:
        """Gate with these factors."""
        assert factors is not None
        self._gate = gate(factors, self.bias.size)

    def forward(
        self, room: Room, level: Level, new: Level, dropout: Dropout, penalty: np.float32, *part: int
    ) -> None:
        """As :meth:`ByInput.forward`."""
        weights = self.rows, self.bias, self._gate
        made = new.lists, room.turned[1:3], penalty, room.losses, new.delta
        training.forward_by_unit(level.lists, room.numbers, level.rows, *weights, dropout, *made, *part)

    def backward(
        self, threads: Threads, room: Room, passed: Passed, descent: Descent, max_norm: float | None
    ) -> None:
        """As :meth:`ByInput.backward`."""
        batch, level, new, below = passed
        if below[0].size:
            given = new.lists, new.delta, self.rows, level.lists, *below, self.block
            threads.split(batch, lambda *part: update.gradients_by_sample(*given, *part))
        state = (self.rows, self.row_momenta), (self.bias, self.bias_momenta)
        longest = np.float32(np.inf if max_norm is None else max_norm)
        taken = new.lists, new.delta, batch, level.rows, *state, descent, longest, room.turned
        threads.share(lambda share: update.by_unit(*taken, share, threads.count))
