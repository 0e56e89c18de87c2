"""Gates for foreign layers: which are worth trying, which keep the answers, and which can be vouched for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain as joined
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccsweep.engine.accelerate.chain import Chain
from ccsweep.engine.accelerate.inputs import BATCH, Samples
from ccsweep.engine.accelerate.keep import Criterion
from ccsweep.engine.accelerate.report import upper_bound
from ccsweep.engine.layers import Layer, chain
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.cost import GATED, INPUT_SPARSE, TWO_SIDED, LayerCost, limit
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.thresholds import energy_thresholds

# Estimators tried for a layer: what they cost, as a share of the dense work, and the share of each
# unit's activation energy that its threshold may lose; 0 is no threshold, just the estimate's sign.
COSTS, LOSSES = (0.03, 0.06, 0.12, 0.2), (0.03, 0.01, 0.003, 0.001, 0.0)
# What a gate must promise on paper over the best way without one, to be worth its errors.
PROMISE = 1.3
# Scores held at once while thresholds are found.
MOST_SCORES = 2**22
# An answer that errors so many times as large would change counts as changed: models are surer of inputs
# that they were trained on, and nobody can be sure that these are none.
SAFETY = 3.0
# While gates are chosen: fewer samples choose than verify, and what they let pass must not fail there.
CAREFUL = 3 * SAFETY
# Chains that get gates: a plan may leave out those of any, so all combinations are looked at.
MOST_CHAINS = 4


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

    def outputs(self) -> Iterator[Any]:
        """Of the model as it is now, by batch."""
        for batch in self._batches:
            arguments, options = self._samples[batch]
            with torch.no_grad():
                yield self._model(*arguments, **options)

    def changed(self, criterion: Criterion, times: float = 1.0) -> Iterator[Tensor]:
        """Bool by batch: which answers are not the original's, were the errors so many times as large."""
        for answer, output in zip(self.answers, self.outputs(), strict=True):
            yield criterion.changed(answer, output, times)


class Candidate(NamedTuple):
    """A layer with gates worth trying, the most promising first."""

    chain: Chain
    layer: int
    gates: list[Factors]
    saves: float
    """Products that the first of them promises to leave out."""


class Step(NamedTuple):
    """One gate more than in the step before."""

    chain: Chain
    layer: int
    gate: Factors


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


def path(tried: Sequence[Candidate], held: Held, criterion: Criterion, allowed: int) -> Iterator[Step | None]:
    """Gates one after the other, each the most promising that together with all before keeps the answers.

    Args:
        tried: in the order to go.
        held: samples to choose by.
        criterion: what must hold.
        allowed: how many answers may change.

    Yields:
        For each candidate the gate it gets, if any; the chains have them already.
    """
    for one in tried:
        taken = None
        for gate in one.gates:
            with gates_in_use(joined([one.chain], (other.chain for other in tried))):
                before = one.chain.layers[one.layer]
                one.chain.layers[one.layer] = before._replace(gate=gate)
                if _at_most(allowed, held.changed(criterion, CAREFUL)):
                    taken = Step(one.chain, one.layer, gate)
                    break
                one.chain.layers[one.layer] = before
        yield taken


class Vouched(NamedTuple):
    """How far along a path the samples vouch for the promise."""

    steps: int
    observed: float
    bound: float


def vouched(steps: Sequence[Step], held: Held, criterion: Criterion, promised: float) -> Vouched:
    """The longest beginning of a path of gates of which it is sure that it keeps the promise.

    The beginnings are tested from the safest on, each at the full confidence, up to the first that fails: a
    fixed sequence, so that the chance of passing any that breaks the promise is that of one test
    (Angelopoulos et al., Learn then Test, 2021, section 3.2). The path must have been found on other samples.
    A plan may leave out the gates of any chain: what counts is whether any combination changes an answer.

    Args:
        steps: the path; the chains are without gates, and so they are left.
        held: samples that nothing was chosen by.
        criterion: what must hold.
        promised: the share of answers that may change.
    """
    best = Vouched(0, 0.0, 0.0)
    for length in range(1, len(steps) + 1):
        put(steps[:length])
        used = list(dict.fromkeys(step.chain for step in steps[:length]))
        near = torch.zeros(held.count, dtype=torch.bool)
        for subset in joined.from_iterable(combinations(used, k) for k in range(1, len(used) + 1)):
            with gates_in_use(subset):
                near |= torch.cat(list(held.changed(criterion, SAFETY)))
        with gates_in_use(used):
            seen = torch.cat(list(held.changed(criterion)))
        bound = upper_bound(int((near | seen).sum()), held.count)
        take_out(used)
        if bound > promised:
            break
        best = Vouched(length, float(seen.double().mean()), bound)
    return best


def put(steps: Sequence[Step]) -> None:
    """Give the chains the gates of these steps."""
    for chain_, k, gate in steps:
        chain_.layers[k] = chain_.layers[k]._replace(gate=gate)


def take_out(chains: Sequence[Chain]) -> None:
    """Leave the chains without gates."""
    for one in chains:
        one.layers = [layer._replace(gate=None) for layer in one.layers]


@contextmanager
def gates_in_use(chains: Iterator[Chain] | Sequence[Chain]) -> Iterator[None]:
    """These chains compute every product and then use their gates."""
    used = list(chains)
    for one in used:
        one.run = one.gated
    try:
        yield
    finally:
        for one in used:
            one.run = one.ungated


def _at_most(allowed: int, flags: Iterator[Tensor]) -> bool:
    """Whether so few are set; looks no further than it must."""
    count = 0
    for batch in flags:
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
