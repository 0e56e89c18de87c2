"""The clock: the engine beside its peers, in turns, on inputs that the last call did not have."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine import peers
from ccsweep.engine.clock import race
from ccsweep.engine.compiled import Compiled, torch_threads
from ccsweep.engine.layers import Layer, layers_of
from ccsweep.engine.peers import Run, UnavailableError
from ccsweep.engine.plan import Plan
from ccsweep.engine.tune import compile
from ccsweep.figures import measured
from ccsweep.network import ConditionalMLP

EAGER, ENGINE = "torch eager", "ccsweep engine"
BATCH = 2000  # samples at a time where predictions are compared

Peer = Callable[[Sequence[Layer], Tensor, int], Run]
"""Made from the layers, inputs as they will come, and the number of threads."""

PEERS: Mapping[str, Peer] = {
    "torch.compile": lambda layers, x, threads: peers.compiled_by_torch(layers, x),
    "ONNX Runtime": lambda layers, x, threads: peers.onnxruntime(layers, threads),
    "exact skip": lambda layers, x, threads: peers.exact_skip(layers, threads),
}


@dataclass(frozen=True)
class Timing:
    """Microseconds of a call with one batch."""

    median: float
    low: float
    """A quarter of the calls took less."""
    high: float
    """A quarter took more."""
    calls: int


@dataclass(frozen=True)
class Comparison:
    """All candidates for one batch size and thread count, timed in turns."""

    plan: Plan
    """Of the engine."""
    timings: dict[str, Timing]
    unavailable: dict[str, str]
    """Peers that cannot run here, with the reason."""
    differing: float
    """Share of the timed inputs for which engine and network predict another class."""

    def speedup(self, name: str = ENGINE) -> float:
        """How many times faster than torch eager, by medians."""
        return self.timings[EAGER].median / self.timings[name].median

    def as_json(self) -> dict[str, Any]:
        """All of it in plain types."""
        return asdict(self) | {"speedup": {name: self.speedup(name) for name in self.timings}}


def compare(
    network: ConditionalMLP,
    calibration: Tensor,
    inputs: Tensor,
    batch_size: int,
    threads: int,
    seconds: float,
    with_peers: Mapping[str, Peer] = PEERS,
    plan_seconds: float | None = None,
) -> Comparison:
    """Time torch eager, the peers and the engine.

    Args:
        network: trained, on the CPU, in eval mode.
        calibration: (samples, in_features), what the engine makes its plan with.
        inputs: (samples, in_features), other ones, to time on; too few for a batch are repeated.
        batch_size: samples of a call.
        threads: of every candidate.
        seconds: for all calls together.
        with_peers: what else to time.
        plan_seconds: for each race while the engine makes its plan; None means its own choice.

    Raises:
        UserError: a weight is not finite.
    """
    engine = compile(network, calibration, batch_size, threads, seconds=plan_seconds)
    assert engine.plan is not None
    layers, batches = layers_of(network), split(inputs, batch_size)
    candidates: dict[str, Run] = {EAGER: peers.eager(layers)}
    unavailable: dict[str, str] = {}
    with torch_threads(threads):
        for name, make in with_peers.items():
            try:
                candidates[name] = make(layers, batches[0], threads)
            except UnavailableError as reason:
                unavailable[name] = str(reason)
        candidates[ENGINE] = engine
        took = race({name: _fresh(run, batches) for name, run in candidates.items()}, seconds)
    timings = {name: _timing(times) for name, times in took.items()}
    return Comparison(engine.plan, timings, unavailable, differing(network, engine, inputs))


def split(inputs: Tensor, batch_size: int) -> list[Tensor]:
    """Eight batches or more of exactly this size, each in one piece of memory, of inputs in another order."""
    generator = torch.Generator().manual_seed(0)
    rounds = -(-8 * batch_size // len(inputs))
    mixed = torch.cat([inputs[torch.randperm(len(inputs), generator=generator)] for _ in range(rounds)])
    return list(mixed[: len(mixed) // batch_size * batch_size].split(batch_size))


@torch.no_grad()
def differing(network: ConditionalMLP, engine: Compiled, inputs: Tensor) -> float:
    """Share of inputs for which the two predict another class."""
    differ = [engine(x).argmax(1) != network(x).argmax(1) for x in inputs.split(BATCH)]
    return float(torch.cat(differ).double().mean())


def _fresh(run: Run, batches: Sequence[Tensor]) -> Callable[[], object]:
    """A call of ``run`` with the next batch; all come before one comes again."""
    coming = _cycled(batches)
    return lambda: run(next(coming))


def _cycled(batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """The batches without end, in a new order each time."""
    order = random.Random(0)
    while True:
        yield from order.sample(batches, len(batches))


def _timing(times: Sequence[float]) -> Timing:
    low, high = np.percentile(times, [25, 75])
    return Timing(median(times), float(low), float(high), len(times))


def figures(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """The measured speed-ups with one thread under flat names, as a sweep reads them."""
    return {
        measured(compared.plan.batch_size).key: round(compared.speedup(), 4)
        for compared in comparisons
        if compared.plan.threads == 1
    }
