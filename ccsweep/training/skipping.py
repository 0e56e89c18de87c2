"""A training step that skips what is zero, gated off or dropped, forward and backward: exact, on the CPU.

A dense step multiplies all of it and gets the same gradients. This one keeps weights and momenta laid out
as its kernels want them; in between they are the network's and the optimizer's own, so that whatever else
looks at those finds what dense steps leave there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.config.schema import RanksConfig, TrainingConfig
from ccsweep.kernels.compiling import announced
from ccsweep.kernels.training import forward
from ccsweep.kernels.training.dropout import write_mask
from ccsweep.kernels.training.step import LAYER, step
from ccsweep.network import ConditionalMLP
from ccsweep.training.layout import NO_GATE, Array, Layer, Room, Threads, by_unit_is_less, gate, kept

EXAMINED = 256
"""Samples that a validation pass takes through the network together: their lists stay in the cache."""


def step_key(seed: int, epoch: int, step: int) -> int:
    """Names the dropout masks of one step: 64 bits, unrelated for other seeds, epochs and steps."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0])


def dropout_mask(shape: torch.Size, key: int, level: int, dropped: float) -> Tensor:
    """The masks of a level, float32 (batch, width): 1/keep where a unit stays, else 0; for dense steps."""
    mask = torch.empty(shape)
    write_mask(np.uint64(key), level, *kept(dropped), mask.numpy())
    return mask


def warm_up(config: TrainingConfig) -> None:
    """Have the kernels of steps and examinations ready: from the disk, or compiled, which is logged."""
    with torch.random.fork_rng(devices=[]), announced(forward.examine):
        network, x, labels = (
            ConditionalMLP([1] * 4, RanksConfig([1, 1])),
            torch.ones(8, 1),
            torch.zeros(8).long(),
        )
        optimizer, skipping = torch.optim.SGD(network.parameters()), SkippingStep(network, config)
        network.initialise(weight_std=0.1, bias=-9.0)  # no unit is active: the first layer's step goes across
        for on in (1.0, 0.0):  # by input, and by unit
            skipping.load(optimizer, [Densities(before=1.0, on=on)] * 2)
            skipping.step(x, labels, 0, 0.0, 0.0)
        SkippingExamination(network)(x, labels)


class Densities(NamedTuple):
    """What was active about a layer, without dropout."""

    before: float
    """Share of its inputs."""
    on: float
    """Share of its units that the gate let be computed."""


class SkippingStep:
    """Training steps of a network: SGD with momentum, L1, L2, max-norm and dropout, as the config says.

    Between :meth:`load` and :meth:`store` the weights are here, and the network's are out of date.

    L1 counts a hidden activation where dropout keeps it, times 1/keep: in expectation the same as counting
    all of them, and of those that are not kept nothing need be known.

    Args:
        network: float32, on the CPU.
        config: optimisation and regularisation.
        threads: at most so many work at a time.
    """

    def __init__(self, network: ConditionalMLP, config: TrainingConfig, threads: int = 1) -> None:
        self._network, self._config, self._threads = network, config, Threads(threads)
        self._layers = [*(Layer(linear, parts=threads) for linear in network.hidden), Layer(network.output)]
        dropped = [network.dropout_input, *[network.dropout_hidden] * len(network.hidden)]
        limits, scales = zip(*map(kept, dropped), strict=True)
        self._kept = np.array(limits), np.array(scales)
        self._room = Room(0, network, threads)
        self._batch = 0

    def load(self, optimizer: torch.optim.Optimizer, densities: Sequence[Densities] = ()) -> None:
        """Take the weights and the momenta; and the gates, if the network has them on in training.

        Args:
            optimizer: SGD over the network's parameters.
            densities: of each hidden layer, as the network was last seen in use: which way the gated ones
                go hangs on them. Without any all go by input.
        """
        for k, linear in enumerate(self._network.hidden):
            gated = linear.gated and self._network.gate_in_training
            by_unit = gated and bool(densities) and self._by_unit_is_less(k, densities[k])
            if self._layers[k].by_unit != by_unit:
                self._layers[k] = Layer(linear, by_unit, self._threads.most)
            self._layers[k].take_gate(linear.factors if gated else None)
        for layer, trained in zip(self._layers, self._network.linears(), strict=True):
            layer.load(trained, optimizer)
        self._records = np.array([layer.record() for layer in self._layers], LAYER)
        self._threads.compare()

    def store(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the weights back to the network, and the momenta to the optimizer."""
        for layer, linear in zip(self._layers, self._network.linears(), strict=True):
            layer.store(linear, optimizer)

    def step(self, images: Tensor, labels: Tensor, key: int, learning_rate: float, momentum: float) -> float:
        """One step of training.

        Args:
            images: float32 (batch, features).
            labels: int64 (batch,).
            key: of the dropout masks; see :func:`step_key`.
            learning_rate: of this step.
            momentum: of this step.

        Returns:
            The batch's loss before the step: mean cross entropy, and L1.
        """
        self._batch = len(labels)
        if self._batch > self._room.batch:
            self._room = Room(self._batch, self._network, self._threads.most)
        room, config = self._room, self._config
        room.counter[0] = 0
        levels = self._records, room.records, room.staging
        batch = images.contiguous().numpy(), labels.numpy()
        descent = np.float32(learning_rate), np.float32(momentum), np.float32(config.l2)
        longest = np.float32(np.inf if config.max_norm is None else config.max_norm)
        settings = (np.uint64(key), *self._kept), descent, config.l1, longest
        given = *levels, *batch, *settings, room.rest, room.losses, room.wrong, room.counter
        with self._threads.piece():
            self._threads.share(lambda share: step(*given, share, self._threads.count))
        return float(self._room.losses[: self._batch].mean())

    def layer_inputs(self, k: int) -> Tensor:
        """What layer k, counted from 0, got in the last step, after dropout: (batch, in_features)."""
        indices, values, counts = (part[: self._batch] for part in self._room.levels[k].lists)
        listed = np.arange(indices.shape[1]) < counts[:, None]
        x = np.zeros((self._batch, self._network.linears()[k].in_features), np.float32)
        x[np.nonzero(listed)[0], indices[listed]] = values[listed]
        return torch.from_numpy(x)

    def _by_unit_is_less(self, k: int, densities: Densities) -> bool:
        network = self._network
        before = densities.before * (1 - (network.dropout_hidden if k else network.dropout_input))
        on = densities.on * (1 - network.dropout_hidden)
        return by_unit_is_less(network.hidden[k], before, on, k == 0, self._config.batch_size)


class Examined(NamedTuple):
    """What a batch in use came to: sums over its samples."""

    loss: float
    """Cross entropy."""
    wrong: int
    """Samples of which another class than the label's has the largest output."""
    counts: Tensor
    """int64 (hidden layers, 4), each as ``estimator.statistics.count`` gives it."""
    nonzero: int
    """Inputs that are not zero."""


class SkippingExamination:
    """A validation pass that skips zeros: the network in use, and what its gates are worth.

    Args:
        network: float32, on the CPU; taken as it is now.
        threads: at most so many work at a time.
    """

    def __init__(self, network: ConditionalMLP, threads: int = 1) -> None:
        self._threads, self._room = Threads(threads), Room(EXAMINED, network, threads)
        self._layers = [Layer(linear) for linear in network.linears()]
        for layer, linear in zip(self._layers, network.linears(), strict=True):
            layer.load(linear)
        self._gates = [
            gate(linear.factors, layer.bias.size) if linear.gated else NO_GATE
            for layer, linear in zip(self._layers, network.hidden, strict=False)
        ]
        self._counts = np.zeros((len(self._gates), EXAMINED, 3), np.int64)

    def __call__(self, images: Tensor, labels: Tensor) -> Examined:
        """What images (batch, features) with labels, int64 (batch,), come to."""
        loss, wrong, nonzero, room = 0.0, 0, 0, self._room
        counts = torch.zeros(len(self._gates), 4, dtype=torch.int64)
        counts[:, 0] = len(labels) * torch.tensor([layer.units for layer in self._layers[:-1]])
        for some, theirs in zip(images.split(EXAMINED), labels.split(EXAMINED), strict=True):
            batch, x, y = len(theirs), some.contiguous().numpy(), theirs.numpy()
            self._threads.split(batch, lambda *part, x=x, y=y: self._pass(x, y, *part))
            loss += float(room.losses[:batch].sum())
            wrong += int(room.wrong[:batch].sum())
            nonzero += int(room.levels[0].lists[2][:batch].sum())
            counts[:, 1:] += torch.from_numpy(self._counts[:, :batch].sum(1))
        return Examined(loss, wrong, counts, nonzero)

    def _pass(self, x: Array, y: Array, first: int, last: int) -> None:
        room, levels = self._room, self._room.levels
        everything = (np.uint64(0), 0, *kept(0.0))
        forward.take(x, room.numbers, everything, levels[0].lists, room.losses, first, last)
        for k, factors in enumerate(self._gates):
            layer, new = self._layers[k], levels[k + 1].lists
            weights = layer.rows, layer.bias, factors, layer.units, layer.block
            forward.examine(levels[k].lists, room.numbers, *weights, new, self._counts[k], first, last)
        output, (before, behind) = self._layers[-1], levels[-2:]
        given = output.rows, output.bias, output.units, y, np.float32(1)
        forward.finish(before.lists, *given, behind.delta, room.losses, room.wrong, first, last)
