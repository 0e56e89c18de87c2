"""The clock: the engine beside its peers, in turns, on inputs that the last call did not have."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine import peers
from ccsweep.engine.apart import Apart
from ccsweep.engine.clock import STEADY, Interval, Name, Pace, Turn, around_median, turns
from ccsweep.engine.compiled import Compiled, torch_threads
from ccsweep.engine.layers import Layer, layers_of
from ccsweep.engine.layout import Layout
from ccsweep.engine.peers import Run, UnavailableError
from ccsweep.engine.plan import Plan
from ccsweep.engine.tune import DISAGREEMENT, compile
from ccsweep.estimator.cost import INPUT_SPARSE
from ccsweep.figures import ahead, high, low, measured
from ccsweep.kernels.simd import COMPRESSES, FUSES
from ccsweep.kernels.tiles import allowed
from ccsweep.kernels.vnni import WIDTH
from ccsweep.network import ConditionalMLP

EAGER, ENGINE, EXACT = "torch float32", "ccsweep engine", "exact skip"
ROUNDS, ROUND_SECONDS, PLAN_SECONDS = 9, 0.08, 0.1
HONEST = DISAGREEMENT
"""Share of the network's answers that a peer may change, and still be one that a user could take instead."""
CALLS = 2000
"""Batches that answers are counted on at most."""
COUNTED = 256
"""Inputs that tell who is honest, where nothing else is asked of answers: 2 in 256 are the most."""

Peer = Callable[[Sequence[Layer], Tensor, Sequence[Tensor], int], Run | Apart]
"""Made from the layers, calibration inputs, batches as they will come, and the number of threads."""

QUICK: Mapping[str, Peer] = {
    "torch bfloat16": lambda layers, calibration, batches, threads: peers.bfloat16(layers),
    "torch int8": lambda layers, calibration, batches, threads: peers.int8_of_torch(layers),
    "ONNX Runtime int8": lambda layers, calibration, batches, threads: peers.onnxruntime(
        peers.int8(layers), threads
    ),
}
"""Made in a second, and one of them mostly the fastest: what every run is timed beside."""
PEERS: Mapping[str, Peer] = {
    "torch.compile": lambda layers, calibration, batches, threads: peers.compiled_by_torch(
        layers, batches[0]
    ),
    "ONNX Runtime float32": lambda layers, calibration, batches, threads: peers.onnxruntime(
        peers.onnx(layers), threads
    ),
    **QUICK,
    "ONNX Runtime int8 static": lambda layers, calibration, batches, threads: peers.onnxruntime(
        peers.int8(layers, calibration), threads
    ),
    "OpenVINO float32": lambda layers, calibration, batches, threads: Apart(
        peers.onnx(layers), "f32", threads, batches
    ),
    "OpenVINO bfloat16": lambda layers, calibration, batches, threads: Apart(
        peers.onnx(layers), "bf16", threads, batches
    ),
    "OpenVINO int8": lambda layers, calibration, batches, threads: Apart(
        peers.int8(layers, calibration), "f32", threads, batches
    ),
    EXACT: lambda layers, calibration, batches, threads: Compiled(
        Layout(layers), (INPUT_SPARSE,) * len(layers), threads
    ),
}
"""What a user would take instead of the engine; exact skip is a part of it, and counts as no peer."""


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
class Answers:
    """What a candidate answers, with batches of the size that is timed."""

    changed: float
    """Share of inputs for which the network itself, in float32 with its gates, predicts another class."""
    error: float | None
    """In percent; None where labels are not known."""


@dataclass(frozen=True)
class Comparison:
    """All candidates for one batch size and thread count, timed in turns."""

    plan: Plan
    """Of the engine."""
    timings: dict[str, Timing]
    unavailable: dict[str, str]
    """Peers that cannot run here, with the reason."""
    answers: dict[str, Answers]
    """Of each candidate."""
    gain: Interval
    """How many times faster the engine is than torch in float32, by turns of the two."""
    lead: Interval
    """The same over the best peer."""

    @property
    def best_peer(self) -> str:
        """See :func:`best`."""
        return best({name: timing.median for name, timing in self.timings.items()}, self.answers)

    def speedup(self, name: str = ENGINE, over: str = EAGER) -> float:
        """How many times faster one is than another, by medians."""
        return self.timings[over].median / self.timings[name].median

    def as_json(self) -> dict[str, Any]:
        """All of it in plain types."""
        return asdict(self) | {
            "best_peer": self.best_peer,
            "speedup": {name: self.speedup(name) for name in self.timings},
        }


def best(medians: Mapping[str, float], answers: Mapping[str, Answers]) -> str:
    """The fastest peer that gives the network's answers: of all but the engine and its parts."""
    honest = (name for name, found in answers.items() if found.changed <= HONEST)
    return min({*honest} - {ENGINE, EXACT} or {EAGER}, key=lambda name: medians[name])


def compare(
    network: ConditionalMLP,
    calibration: Tensor,
    inputs: Tensor,
    batch_size: int,
    threads: int,
    seconds: float,
    with_peers: Mapping[str, Peer] = PEERS,
    plan_seconds: float | None = None,
    enough: Callable[[Sequence[Turn[str]]], bool] = lambda timed: False,
    labels: Tensor | None = None,
    max_disagreement: float = DISAGREEMENT,
    libraries: bool = True,
    pace: Pace = STEADY,
) -> Comparison:
    """Time torch, the peers and the engine, and count what they answer.

    Where the network has gates, a peer comes twice: with every unit computed, which is quicker and may be
    another network, and with the gates beside the units, ``, gated``, which is this one.

    Args:
        network: trained, on the CPU, in eval mode.
        calibration: (samples, in_features), what the engine makes its plan with.
        inputs: (samples, in_features), other ones, to time on; too few for a batch are repeated.
        batch_size: samples of a call.
        threads: of every candidate.
        seconds: for all calls together.
        with_peers: what else to time.
        plan_seconds: for each race while the engine makes its plan; None means its own choice.
        enough: whether the turns so far will do, which may be before the time is over.
        labels: (samples,) of the inputs; without them answers are counted on a few inputs, to know the
            honest ones, else on all inputs of the first ``CALLS`` batches.
        max_disagreement: share of calibration inputs whose answer the plan may change.
        libraries: whether the plan may leave layers to a peer.
        pace: of the turns.

    Raises:
        UserError: a weight is not finite.
    """
    engine = compile(
        network,
        calibration,
        batch_size,
        threads,
        max_disagreement=max_disagreement,
        seconds=plan_seconds,
        libraries=libraries,
    )
    assert engine.plan is not None
    batches = split(inputs, batch_size)
    with torch_threads(threads):
        candidates, unavailable = _made(layers_of(network), with_peers, calibration, batches, threads)
        candidates[ENGINE] = engine
        counted = batches[: CALLS if labels is not None else -(-COUNTED // batch_size)]
        known = None if labels is None else torch.cat(split(labels, batch_size)[:CALLS])
        own = answered(network, counted)
        answers = {name: _counted(answered(run, counted), own, known) for name, run in candidates.items()}
        fresh = {name: _fresh(run, batches) for name, run in candidates.items()}
        timed = turns(fresh, seconds, enough, pace)
    timings = {name: _timing([t for turn in timed for t in turn[name]]) for name in candidates}
    medians = {name: timing.median for name, timing in timings.items()}
    return Comparison(
        engine.plan, timings, unavailable, answers, gain(timed), gain(timed, over=best(medians, answers))
    )


def _made(
    layers: Sequence[Layer],
    with_peers: Mapping[str, Peer],
    calibration: Tensor,
    batches: Sequence[Tensor],
    threads: int,
) -> tuple[dict[str, Run | Apart], dict[str, str]]:
    """Torch and the peers, without gates and with them; and why others are unavailable."""
    made: dict[str, Run | Apart] = {}
    unavailable: dict[str, str] = {}
    plain = _ungated(layers)
    gates = any(layer.gate for layer in layers)
    for peer, make in {EAGER: _eager, **with_peers}.items():
        variants = {peer: plain, f"{peer}, gated": layers} if gates and peer != EXACT else {peer: plain}
        for name, these in variants.items():
            try:
                made[name] = make(these, calibration, batches, threads)
            except UnavailableError as reason:
                unavailable[name] = str(reason)
                break
    return made, unavailable


def _ungated(layers: Sequence[Layer]) -> list[Layer]:
    """Every unit computed, as torch in float32 runs it: all speed-ups are over that."""
    return [layer._replace(gate=None) for layer in layers]


def _eager(layers: Sequence[Layer], calibration: Tensor, batches: Sequence[Tensor], threads: int) -> Run:
    return peers.eager(layers)


@torch.no_grad()
def answered(run: Run | Apart, batches: Sequence[Tensor]) -> Tensor:
    """The class that is predicted for each input."""

    def answer(x: Tensor) -> Tensor:
        found: Any = run(x)
        logits = found[0] if isinstance(found, list) else found  # ONNX Runtime has a list of outputs
        return torch.as_tensor(logits).argmax(1)

    return torch.cat([answer(x) for x in batches])


def _counted(answers: Tensor, own: Tensor, labels: Tensor | None) -> Answers:
    changed = float((answers != own).double().mean())
    return Answers(changed, None if labels is None else 100 * float((answers != labels).double().mean()))


def gain(timed: Sequence[Turn[str]], over: str = EAGER) -> Interval:
    """How many times faster the engine is than another: the median over turns, and its ends."""
    return around_median([median(turn[over]) / median(turn[ENGINE]) for turn in timed])


def is_known(timed: Sequence[Turn[str]]) -> bool:
    """Whether more turns would hardly tell more of :func:`gain`."""
    return gain(timed).is_narrow


def instructions() -> list[str]:
    """What the engine uses of this CPU, as vendors call it."""
    has = {"FMA": FUSES, "AVX-512": COMPRESSES, f"VNNI in {WIDTH} bits": WIDTH > 0, "AMX": allowed()}
    return [name for name, found in has.items() if found]


def split(inputs: Tensor, batch_size: int) -> list[Tensor]:
    """Eight batches or more of exactly this size, each in one piece of memory, of inputs in another order."""
    generator = torch.Generator().manual_seed(0)
    rounds = -(-8 * batch_size // len(inputs))
    mixed = torch.cat([inputs[torch.randperm(len(inputs), generator=generator)] for _ in range(rounds)])
    return list(mixed[: len(mixed) // batch_size * batch_size].split(batch_size))


def _fresh(run: Run | Apart, batches: Sequence[Tensor]) -> Callable[[], object] | Apart:
    """A call of ``run`` with the next batch; all come before one comes again."""
    if isinstance(run, Apart):
        return run
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
    """The measured speed-ups with one thread and their ends under flat names, as a sweep reads them."""
    found: dict[str, float] = {}
    for compared in comparisons:
        if compared.plan.threads == 1:
            size = compared.plan.batch_size
            for key, times in ((measured(size).key, compared.gain), (ahead(size).key, compared.lead)):
                found[key] = round(times.value, 4)
                found |= {low(key): round(times.low, 4), high(key): round(times.high, 4)}
    return found


class Timed(NamedTuple):
    """A network to time."""

    network: ConditionalMLP
    """Trained, on the CPU, in eval mode."""
    calibration: Tensor
    inputs: Tensor
    """(samples, in_features), those that the clock runs on."""


def compare_networks(
    networks: Mapping[Name, Timed], batch_size: int, rounds: int = ROUNDS, seconds: float = ROUND_SECONDS
) -> dict[Name, list[float]]:
    """How much faster each is on the engine than in torch eager without gates, one thread, round by round.

    A process lays weights out in memory once, and how it does is part of how fast they run. So each round
    lays them out anew, and times all networks in a new order: :func:`~ccsweep.engine.clock.around_median` of
    the rounds has an interval that holds for the next process, too.

    Args:
        networks: by name.
        batch_size: samples of a call.
        rounds: at least six, below which no interval holds.
        seconds: of each network in each round.
    """
    order, made = random.Random(0), {}
    for name, timed in networks.items():
        engine = compile(
            timed.network, timed.calibration, batch_size, 1, seconds=PLAN_SECONDS, libraries=False
        )
        made[name] = (engine, _ungated(layers_of(timed.network)), split(timed.inputs, batch_size))
    found: dict[Name, list[float]] = {name: [] for name in networks}
    with torch_threads(1):
        for _ in range(rounds):
            for name in order.sample(list(made), len(made)):
                engine, layers, batches = made[name]
                runs: dict[str, Run] = {EAGER: peers.eager(layers), ENGINE: copy.deepcopy(engine)}
                took = turns({which: _fresh(run, batches) for which, run in runs.items()}, seconds)
                found[name].append(gain(took).value)
    return found
