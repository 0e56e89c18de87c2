"""Gates and int8 for foreign layers: worth trying, keeping the answers, and such as can be vouched for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccsweep.engine import tune
from ccsweep.engine.accelerate.chain import EXACT, Arithmetic, Chain, agree
from ccsweep.engine.accelerate.inputs import BATCH, Samples, rows_of
from ccsweep.engine.accelerate.keep import Criterion
from ccsweep.engine.accelerate.report import upper_bound
from ccsweep.engine.accelerate.tracing.units import same
from ccsweep.engine.layers import Layer, chain
from ccsweep.engine.layout import Layout
from ccsweep.engine.ways import in_int8
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.cost import GATED, INPUT_SPARSE, TWO_SIDED, LayerCost, limit
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.thresholds import energy_thresholds
from ccsweep.kernels.int8 import MOST

# Estimators tried for a layer: what they cost, as a share of the dense work, and the share of each
# unit's activation energy that its threshold may lose; 0 is no threshold, just the estimate's sign.
COSTS, LOSSES = (0.03, 0.06, 0.12, 0.2), (0.03, 0.01, 0.003, 0.001, 0.0)
# What a gate must promise on paper over the best way without one, to be worth its errors.
PROMISE = 1.3
# Scores held at once while thresholds are found.
MOST_SCORES = 2**22
# While gates are chosen, in float32, errors count so many times more than for the promise: fewer samples
# choose than verify, and what they let pass must not fail there. Rounding to bytes was fitted to no samples,
# and errs elsewhere as it does here.
CAREFUL = 3.0
# Chains that get gates.
MOST_CHAINS = 4
# Beginnings of the path that are tested while layers are added in int8.
MOST_GROUPS = 4
GATES, BOTH = Arithmetic(gates=True), Arithmetic(gates=True, int8=True)


class Held:
    """Samples to verify on, with the original's outputs.

    Args:
        model: the original still.
        samples: all.
        chosen: numbers of those to verify on.
    """

    def __init__(self, model: nn.Module, samples: Samples, chosen: Tensor) -> None:
        self._model, self._samples = model, samples
        self._batches = chosen.split(BATCH)
        self.count = len(chosen)
        self.counts = [len(batch) for batch in self._batches]
        self.answers = list(self.outputs())

    def outputs(self, run: Callable[..., Any] | None = None) -> Iterator[Any]:
        """Of the model as it is now, or of something else that is called so, by batch."""
        for batch in self._batches:
            arguments, options = self._samples[batch]
            with torch.no_grad():
                yield (run or self._model)(*arguments, **options)

    @cached_property
    def apart(self) -> bool:
        """Whether a few samples alone get the answers that they get among others, and stay as they are."""
        first = self._samples[self._batches[0]]
        before = rows_of(first, torch.arange(len(self._batches[0])))
        rows = torch.arange(len(self._batches[0]))[1::3]
        arguments, options = rows_of(first, rows)
        with torch.no_grad():
            found = self._model(*arguments, **options)
            self._model(*first[0], **first[1])
        return same(found, rows_of(self.answers[0], rows)) and same(first, before)

    def changed(self, criterion: Criterion, *times: float) -> Iterator[Tensor]:
        """Bool (times, samples) by batch: which answers change, were the errors so many times as large."""
        for answer, output in zip(self.answers, self.outputs(), strict=True):
            yield torch.stack([criterion.changed(answer, output, each) for each in times])


class Candidate(NamedTuple):
    """A layer with gates worth trying, the most promising first."""

    chain: Chain
    layer: int
    gates: list[Factors]
    saves: float
    """Products that the first of them promises to leave out."""


class Step(NamedTuple):
    """One layer more that has a gate, or is in int8."""

    chain: Chain
    layer: int
    gate: Factors | None
    """None: int8."""


Group = tuple[Step, ...]


def faster_in_int8(chains: Sequence[Chain], inputs: Sequence[Tensor], sizes: Sequence[int]) -> list[Step]:
    """Layers that are faster in int8, by the clock, at one of these batch sizes or more; who gain most first.

    Args:
        chains: without gates.
        inputs: of each, as rows.
        sizes: of batches.
    """
    saved: dict[Step, float] = {}
    known: dict[tuple[int, ...], float] = {}  # of layers alike one is timed
    for one, rows in zip(chains, inputs, strict=True):
        layout = Layout(one.layers)
        tuners = [tune.Tuner(layout, rows[: max(sizes)], size, 1, tune.SECONDS / 3) for size in sizes]
        for k, layer in enumerate(one.layers):
            alike = k, len(one.layers), layer.inputs, layer.units
            if layer.inputs <= MOST and alike not in known:
                known[alike] = sum(_saved(tuner.time_layer(k), tuner.batch_size) for tuner in tuners)
            if known.get(alike, 0.0) > 0:
                saved[Step(one, k, None)] = known[alike]
    return sorted(saved, key=lambda step: -saved[step])


def _saved(times: tune.Times, size: int) -> float:
    """Microseconds for each sample."""
    plain, small = (
        min(took for way, took in times.items() if in_int8(way) is wanted) for wanted in (False, True)
    )
    return (plain - small) / size if small * tune.MARGIN < plain else 0.0


def in_groups(tried: Sequence[Step], held: Held, criterion: Criterion, allowed: int) -> list[Group]:
    """Layers that may be in int8 together, in the order given: all, or else each that keeps the answers.

    Args:
        tried: in the order to go; the chains have no gates.
        held: samples to choose by.
        criterion: what must hold.
        allowed: how many answers may change.

    Returns:
        Them in a few groups; the chains have them already.
    """
    every = {step.chain: Arithmetic(int8=True) for step in tried}
    put([tried])
    found = list(tried)
    if not _keeps(every, held, criterion, 1.0, allowed):
        take_out([step.chain for step in tried])
        found = []
        for step in tried:
            put([(*found, step)])
            if _keeps(every, held, criterion, 1.0, allowed):
                found.append(step)
            else:
                step.chain.int8[step.layer] = False
    size = -(-len(found) // MOST_GROUPS) or 1
    return [tuple(found[k : k + size]) for k in range(0, len(found), size)]


def candidates(chains: Sequence[Chain], inputs: Sequence[Tensor]) -> list[Candidate]:
    """Layers that a gate may serve, those that promise to save most first.

    Args:
        chains: without gates.
        inputs: of each, as rows.
    """
    found = []
    for one, rows in zip(chains, inputs, strict=True):
        passed = chain(one.layers, rows.numpy())
        for k, layer in enumerate(one.layers):
            if layer.relu:
                gates = promising(layer, torch.from_numpy(passed[k])[: max(4, MOST_SCORES // layer.units)])
                if gates:
                    reached, _ = gates[0]
                    saves = len(rows) * layer.inputs * layer.units * (1 - 1 / reached)
                    found.append(Candidate(one, k, [gate for _, gate in gates], saves))
    found.sort(key=lambda candidate: -candidate.saves)
    most = list(dict.fromkeys(candidate.chain.name for candidate in found))[:MOST_CHAINS]
    return [candidate for candidate in found if candidate.chain.name in most]


def path(tried: Sequence[Candidate], held: Held, criterion: Criterion, allowed: int) -> Iterator[Step]:
    """Gates one after the other, each the most promising that together with all before keeps the answers.

    Args:
        tried: in the order to go; layers may be in int8 already.
        held: samples to choose by.
        criterion: what must hold.
        allowed: how many answers may change.

    Yields:
        Of those candidates that get a gate; the chains have them already.
    """
    chains = [one.chain for one in tried]
    for one in tried:
        for gate in one.gates:
            one.chain.allow(one.layer, gate)
            if all(
                _keeps(dict.fromkeys(chains, use), held, criterion, times, allowed)
                for use, times in ((GATES, CAREFUL), (BOTH, 1.0))
            ):
                yield Step(one.chain, one.layer, gate)
                break
        else:
            one.chain.layers[one.layer] = one.chain.layers[one.layer]._replace(gate=None)


class Vouched(NamedTuple):
    """How far along a path the samples vouch for the promise."""

    groups: int
    observed: float
    bound: float


def vouched(groups: Sequence[Group], held: Held, criterion: Criterion, promised: float) -> Vouched:
    """The longest beginning of a path of gates and int8 of which it is sure that it keeps the promise.

    The beginnings are tested from the safest on, each at the full confidence, up to the first that fails: a
    fixed sequence, so that the chance of passing any that breaks the promise is that of one test
    (Angelopoulos et al., Learn then Test, 2021, section 3.2). The path must have been found on other samples.
    Plans may leave out gates and int8 of any chain: what counts is whether any mix changes an answer.

    Args:
        groups: the path; the chains are without gates and int8, and so they are left.
        held: samples that nothing was chosen by.
        criterion: what must hold.
        promised: the share of answers that may change.
    """
    best = Vouched(0, 0.0, 0.0)
    chains = list(dict.fromkeys(step.chain for group in groups for step in group))
    for length in range(1, len(groups) + 1):
        put(groups[:length])
        flags = torch.zeros(2, held.count, dtype=torch.bool)
        for mix in mixes(chains):
            with computing(mix):
                flags |= torch.cat(list(held.changed(criterion, 1.0, criterion.safety)), 1)
        take_out(chains)
        bound = upper_bound(int(flags.any(0).sum()), held.count)
        if bound > promised:
            break
        best = Vouched(length, float(flags[0].double().mean()), bound)
    return best


def mixes(chains: Sequence[Chain]) -> list[dict[Chain, Arithmetic]]:
    """What the chains may compute in at a time, as long as their plans keep to it, but for all exact."""
    agree(chains)
    own = [one.arithmetics for one in chains]
    if chains[0].together is not None:
        return [dict.fromkeys(chains, use) for use in sorted(set().union(*own) - {EXACT})]
    return [dict(zip(chains, mix, strict=True)) for mix in product(*own)][1:]


def put(groups: Sequence[Sequence[Step]]) -> None:
    """Let the chains have what these steps say."""
    for group in groups:
        for chain_, k, gate in group:
            chain_.allow(k, gate)


def take_out(chains: Sequence[Chain]) -> None:
    """Leave the chains without gates and int8."""
    for one in chains:
        one.disallow()


@contextmanager
def computing(mix: Mapping[Chain, Arithmetic]) -> Iterator[None]:
    """These chains compute so."""
    for one, use in mix.items():
        one.run = one.computing(use)
    try:
        yield
    finally:
        for one in mix:
            one.run = one.exact


def _keeps(
    mix: Mapping[Chain, Arithmetic], held: Held, criterion: Criterion, care: float, allowed: int
) -> bool:
    """Whether so few answers change, to be on the safe side; looks no further than it must."""
    count = 0
    with computing(mix):
        for batch in held.changed(criterion, care * criterion.safety):
            count += int(batch.sum())
            if count > allowed:
                return False
    return True


def promising(layer: Layer, x: Tensor) -> list[tuple[float, Factors]]:
    """Gates worth trying on inputs x, each after its theoretical limit, those of the highest first."""
    data = LayerData(torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias), lambda: x)
    density = float((x != 0).double().mean())
    shape = layer.inputs, layer.units
    bound = PROMISE * limit(INPUT_SPARSE, LayerCost(*shape), density)
    ranks = [round(cost * layer.inputs * layer.units / sum(shape)) for cost in COSTS]
    ranks = sorted({rank for rank in ranks if 1 <= rank <= min(*shape, len(x))})
    if not ranks:
        return []
    widest = ESTIMATORS["whitened"].factors(data, ranks[-1], "randomised")
    gates = []
    for rank in ranks:
        # Directions come strongest first, so a smaller rank is the beginning of a larger one.
        factors = Factors(widest.u[:, :rank], widest.v[:rank], widest.shift)
        scores = factors.scores(x, data.bias)
        for loss in LOSSES:
            shift = factors.shift
            if loss > 0:
                shift = shift - energy_thresholds(scores, data.preactivation, loss)
            on = float((scores + (shift - factors.shift) > 0).double().mean())
            cost = LayerCost(*shape, rank, on)
            reached = max(limit(way, cost, density) for way in (GATED, TWO_SIDED))
            if reached > bound:
                gates.append((reached, factors._replace(shift=shift)))
    return sorted(gates, key=lambda one: -one[0])
