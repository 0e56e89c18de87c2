"""A chain of layers in the place where a graph calls it: what runs there can change, its answers not."""

import logging
import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccsweep.engine.compiled import Compiled, warm_up
from ccsweep.engine.layers import Layer, chain
from ccsweep.engine.layout import Layout
from ccsweep.engine.tune import Tuner
from ccsweep.engine.ways import INT8, MASKED
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.estimator.factors import Factors

# One plan serves batches up to each of these, the last one larger ones too.
CLASSES = (1, 8, 32, 256, 1024)
MOST_MIXES = 16
"""Of what several chains compute in: all are verified, so with more of them all chains go together."""

CHOOSING = threading.RLock()
"""One plan is chosen at a time: two would time each other."""

log = logging.getLogger("ccsweep.engine")


class Arithmetic(NamedTuple):
    """What a chain's answers follow from; a plan may take any ways that have it in common."""

    gates: bool = False
    """Whether its gates are in use."""
    int8: bool = False
    """Whether the layers that may be are in int8."""


EXACT = Arithmetic()
"""Nothing but zeros is left out, in float32: the original's own answers."""


class Mode(threading.local):
    """Of this thread's calls, where close calls are computed again."""

    exactly = False
    """Whether all chains compute the original's own answers."""
    rounded = False
    """Whether one has computed others since this was set to False."""


MODE = Mode()


class Chain(nn.Module):
    """Layers, run as ``run`` says: every product computed to begin with, in the engine once it is compiled.

    Args:
        name: where they are in the user's model.
        layers: with or without gates.
        flat: whether they take inputs (batch, features) only.
    """

    again: "Chain"
    """What computes close calls again, where there are any."""
    together: "Together | None" = None
    """With which other chains it has to agree, where there are many."""

    def __init__(self, name: str, layers: Sequence[Layer], flat: bool) -> None:
        super().__init__()
        self.name, self.layers, self.flat = name, list(layers), flat
        self.int8 = [False] * len(self.layers)
        self.run: Callable[[Tensor], Tensor] = self.exact
        self.compiled: dict[int, Compiled] = {}
        self.share_again = 0.0
        self._seen: dict[Arithmetic, Compiled] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., units) of x (..., in_features).

        Raises:
            UserError: x is not float32 on the CPU, or has other dimensions.
        """
        if x.dim() == 2 and x.dtype is torch.float32 and x.is_cpu:
            return self.run(x)
        if x.dtype is not torch.float32 or not x.is_cpu:
            raise UserError(
                f"{self.name} got {x.dtype} on {x.device}: an accelerated model computes in float32 on the "
                "CPU, "
                "give it such inputs"
            )
        if self.flat or not x.dim():
            raise UserError(
                f"{self.name} got {tuple(x.shape)}: its batch norm was folded for (batch, features)"
            )
        out = self.run(x.reshape(-1, x.shape[-1]))
        return out.reshape(*x.shape[:-1], out.shape[1])

    def allow(self, k: int, gate: Factors | None) -> None:
        """Let layer k have this gate, or be in int8 where it is None."""
        if gate is None:
            self.int8[k] = True
        else:
            self.layers[k] = self.layers[k]._replace(gate=gate)
        self._seen.clear()

    def disallow(self) -> None:
        """No gates, and no int8."""
        self.layers = [layer._replace(gate=None) for layer in self.layers]
        self.int8 = [False] * len(self.layers)
        self._seen.clear()

    @property
    def products(self) -> int:
        """Of one sample, dense."""
        return sum(layer.inputs * layer.units for layer in self.layers)

    @property
    def arithmetics(self) -> list[Arithmetic]:
        """Those that differ, of what is allowed; the exact one first."""
        gated = any(layer.gate is not None for layer in self.layers)
        return [
            Arithmetic(gates, int8)
            for gates in (False, True)[: 1 + gated]
            for int8 in (False, True)[: 1 + any(self.int8)]
        ]

    def ways(self, use: Arithmetic) -> list[tuple[str, ...]]:
        """By layer, all ways that give the same answers: bit for bit in int8, in float32 but for rounding."""
        found = []
        for layer, small in zip(self.layers, self.int8, strict=True):
            gated = use.gates and layer.gate is not None
            if use.int8 and small:
                kinds = (GATED, TWO_SIDED, MASKED) if gated else (INPUT_SPARSE, DENSE)
                found.append(tuple(kind + INT8 for kind in kinds))
            else:
                found.append((GATED, TWO_SIDED) if gated else (DENSE, INPUT_SPARSE))
        return found

    def exact(self, x: Tensor) -> Tensor:
        """Every product computed in float32; no gate."""
        return torch.from_numpy(chain(self.layers, x.detach().numpy(), gated=False)[-1])

    def computing(self, use: Arithmetic) -> Callable[[Tensor], Tensor]:
        """What gives the answers of this arithmetic, in no hurry."""
        if use == EXACT:
            return self.exact
        if use not in self._seen:
            warm_up()
            self._seen[use] = Compiled(Layout(self.layers), [ways[0] for ways in self.ways(use)])
        return self._seen[use]

    def fast(self, x: Tensor) -> Tensor:
        """The engine, by the plan for this size."""
        return self.at(x.shape[0])(x)

    def few(self, x: Tensor) -> Tensor:
        """The same for some samples of a batch, by the plan for one where that is the faster one for them."""
        one, more = self.at(1), self.at(x.shape[0])
        if one.plan and more.plan and len(x) * one.plan.microseconds < more.plan.microseconds:
            more = one
        return more(x)

    def watched(self, x: Tensor) -> Tensor:
        """The same, noting whether answers may differ from the original's; exactly those where it must."""
        if MODE.exactly:
            return self.again.few(x)
        compiled = self.at(x.shape[0])
        MODE.rounded |= compiled.rounded
        return compiled(x)

    def compile(self, inputs: Tensor, threads: int, share_again: float = 0.0) -> None:
        """From now on run in the engine.

        Args:
            inputs: (samples, in_features), what the chain gets, to choose plans by.
            threads: of the plans.
            share_again: of samples that are too close to call where it is not exact, and are computed again.
        """
        self._seen.clear()
        self.layout, self.inputs, self.threads = Layout(self.layers), inputs[: CLASSES[-1]], threads
        self.run, self.share_again = self.fast, share_again
        if share_again:
            self.run = self.watched
            again = Chain(self.name, [layer._replace(gate=None) for layer in self.layers], self.flat)
            again.compile(inputs, threads)
            vars(self)["again"] = again  # no module of the model's

    def at(self, batch_size: int) -> Compiled:
        """What serves batches of this size; chosen when the first one comes."""
        size = size_class(batch_size)
        found = self.compiled.get(size)
        if found is None:
            with CHOOSING:
                if size not in self.compiled:
                    self._plan(size)
                found = self.compiled[size]
        return found

    def _plan(self, size: int) -> None:
        possible = self.arithmetics
        if self.together is not None:
            if self.together.use is None and self.together.largest is not self:
                self.together.largest._plan(size)
            possible = [self.together.use] if self.together.use is not None else possible
        log.info("choosing a plan for batches of up to %d", size)
        # Its layout holds more than a plan needs.
        tuner = Tuner(Layout(self.layers), self.inputs, size, self.threads, libraries=True)
        choices = [self.ways(use) for use in possible]
        after = self._computing_again(size) if self.share_again else 0.0
        chosen, plan = tuner.among(choices, [0.0 if use == EXACT else after for use in possible])
        compiled = self.compiled[size] = Compiled(self.layout, chosen, tuner.workers, tuner.shared_from)
        compiled.plan = plan(compiled)
        if self.together is not None and self.together.use is None:
            fits = [all(map(tuple.__contains__, ways, chosen)) for ways in choices]
            self.together.use = possible[fits.index(True)] if any(fits) else EXACT  # a library's is exact

    def _computing_again(self, size: int) -> float:
        """Microseconds that a batch's close calls take, on average; for so many samples plans are made."""
        some = 1 - (1 - self.share_again) ** size
        expected = max(1.0, self.share_again * size / some)
        one, *_, more = (self.again.at(rows).plan for rows in (1, round(2 * expected), round(expected)))
        return some * min(expected * one.microseconds, more.microseconds) if one and more else 0.0


def size_class(batch_size: int) -> int:
    """Up to which number of samples the plan goes that serves so many."""
    for size in CLASSES:
        if batch_size <= size:
            break
    return size


class Together:
    """What chains of which too many mixes would have to be verified agree on.

    Args:
        largest: of them; its first plan decides for all.
        use: what was decided already.
    """

    def __init__(self, largest: Chain, use: Arithmetic | None = None) -> None:
        self.largest, self.use = largest, use


def agree(chains: Sequence[Chain], use: Arithmetic | None = None) -> None:
    """Have the chains go together, if there are too many mixes of what each may compute in.

    Args:
        chains: all of a model.
        use: what they agreed on already.
    """
    if prod(len(one.arithmetics) for one in chains) > MOST_MIXES:
        together = Together(max(chains, key=lambda one: (len(one.arithmetics), one.products)), use)
    else:
        together = None
    for one in chains:
        one.together = together
