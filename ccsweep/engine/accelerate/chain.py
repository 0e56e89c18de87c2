"""A chain of layers in the place where a graph calls it: what runs there can change, its answers not."""

import logging
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ccsweep.engine.compiled import Compiled
from ccsweep.engine.layers import Layer, chain
from ccsweep.engine.layout import Layout
from ccsweep.engine.plan import Plan
from ccsweep.engine.tune import MARGIN, Tuner
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, INPUT_SPARSE

# One plan serves batches up to each of these, the last one larger ones too.
CLASSES = (1, 8, 32, 256, 1024)

log = logging.getLogger("ccsweep.engine")


class Chain(nn.Module):
    """Layers, run as ``run`` says: every product computed to begin with, in the engine once it is compiled.

    Args:
        name: where they are in the user's model.
        layers: with or without gates.
        flat: whether they take inputs (batch, features) only.
    """

    def __init__(self, name: str, layers: Sequence[Layer], flat: bool) -> None:
        super().__init__()
        self.name, self.layers, self.flat = name, list(layers), flat
        self.run: Callable[[Tensor], Tensor] = self.ungated
        self.compiled: dict[int, Compiled] = {}

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

    def ungated(self, x: Tensor) -> Tensor:
        """Every product computed; no gate."""
        return torch.from_numpy(chain(self.layers, x.detach().numpy(), gated=False)[-1])

    def gated(self, x: Tensor) -> Tensor:
        """Every product computed, then the gates."""
        return torch.from_numpy(chain(self.layers, x.detach().numpy())[-1])

    def fast(self, x: Tensor) -> Tensor:
        """The engine, by the plan for this size."""
        return self.at(x.shape[0])(x)

    def compile(self, inputs: Tensor, threads: int) -> None:
        """From now on run in the engine.

        Args:
            inputs: (samples, in_features), what the chain gets, to choose plans by.
            threads: of the plans.
        """
        self.layout, self.inputs, self.threads = Layout(self.layers), inputs[: CLASSES[-1]], threads
        self.run = self.fast

    def at(self, batch_size: int) -> Compiled:
        """What serves batches of this size; chosen when the first one comes."""
        size = next((size for size in CLASSES if batch_size <= size), CLASSES[-1])
        found = self.compiled.get(size)
        if found is None:
            with _Choosing.lock:
                if size not in self.compiled:
                    self.compiled[size] = self._compile(size)
                found = self.compiled[size]
        return found

    def _compile(self, size: int) -> Compiled:
        log.info("choosing a plan for batches of up to %d", size)
        # Bytes were not verified.
        tuner = Tuner(self.layout, self.inputs, size, self.threads, gated=False, int8=False)

        def planned(engine: str | Sequence[str]) -> tuple[Plan, Compiled]:
            tuner.workers = self.threads
            ways, plan = tuner.plan(engine, max_disagreement=1.0)
            compiled = Compiled(self.layout, ways, tuner.workers)
            compiled.plan = plan(compiled)
            return compiled.plan, compiled

        # What was verified is all gates together, and none at all gives the original's own answers.
        best = planned("gated")
        if any(layer.gate for layer in self.layers):
            exact = [
                min((DENSE, INPUT_SPARSE), key=layer.microseconds.__getitem__) for layer in best[0].layers
            ]
            best = min(best, planned(exact), key=lambda one: one[0].microseconds)
        return planned("dense")[1] if best[0].speedup < MARGIN else best[1]


class _Choosing:
    lock = threading.Lock()
    """One plan is chosen at a time: two would time each other."""
