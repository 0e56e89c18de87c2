"""Which gates are tried, which keep the answers, and which the samples vouch for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ccsweep.engine.accelerate import accelerate, gates
from ccsweep.engine.accelerate.chain import Chain
from ccsweep.engine.accelerate.gates import (
    Candidate,
    Step,
    candidates,
    gates_in_use,
    path,
    promising,
    vouched,
)
from ccsweep.engine.accelerate.report import upper_bound
from ccsweep.engine.layers import Layer
from ccsweep.estimator.factors import Factors
from tests.engine.accelerate.conftest import classifier


def layer_of(linear: nn.Linear) -> Layer:
    return Layer(linear.weight.detach().numpy(), linear.bias.detach().numpy(), relu=True)


def gate(layer: Layer, shift: float) -> Factors:
    return Factors(
        torch.zeros(layer.inputs, 1), torch.zeros(1, layer.units), torch.full((layer.units,), shift)
    )


def test_gates_are_tried_in_the_order_of_what_they_promise(inputs):
    model = classifier()
    found = promising(layer_of(model[0]), inputs)
    d, h = 60, 256
    # 3, 6, 12 and 20 % of the dense work are what these ranks cost.
    assert {one.u.shape[1] for _, one in found} <= {1, 3, 6, 10}
    assert len({one.u.shape[1] for _, one in found}) > 1
    promised = []
    for reached, one in found:
        assert (one.u.shape[0], one.v.shape[1], one.shift.shape) == (d, h, (h,))
        on = (inputs @ one.u @ one.v + model[0].bias + one.shift > 0).double().mean().item()
        promised.append(1 / (on + one.u.shape[1] * (d + h) / (d * h)))  # all inputs are in use
        assert reached == pytest.approx(promised[-1], rel=1e-3)
    assert promised == sorted(promised, reverse=True)
    assert promised[-1] > 1.3
    sign = [one for _, one in found if one.u.shape[1] == 10][-1]
    agreed = (
        ((inputs @ sign.u @ sign.v + model[0].bias + sign.shift > 0) == (model[0](inputs) > 0))
        .double()
        .mean()
    )
    assert agreed > 0.97


def test_one_direction_is_enough_where_the_inputs_have_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=generator) @ torch.randn(1, 60, generator=generator)
    assert promising(layer_of(classifier()[0]), x)[0][1].u.shape[1] == 1


def test_where_exact_skip_is_as_good_no_gate_is_tried(inputs):
    sparse = inputs * (torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) < 0.01)
    assert promising(layer_of(classifier()[0]), sparse) == []


def test_a_layer_too_small_for_any_rank_has_no_gate():
    assert promising(layer_of(nn.Linear(2, 2)), torch.randn(10, 2)) == []


def test_layers_that_save_most_come_first_and_only_so_many_chains(inputs, monkeypatch):
    layer = layer_of(classifier()[0])
    chains = [
        Chain(f"c{k}", [layer, layer_of(nn.Linear(256, 2))._replace(relu=False)], False) for k in range(3)
    ]
    monkeypatch.setattr(gates, "MOST_CHAINS", 2)
    found = candidates(chains, [inputs[:100], inputs[:700], inputs[:400]])
    assert [one.chain.name for one in found] == ["c1", "c2"]
    assert [one.layer for one in found] == [0, 0]
    assert found[0].saves > found[1].saves > 0


class Held:
    """Answers change by the gates in use: each gate's shift says how many of 200."""

    count = 200

    def __init__(self, chains: list[Chain]) -> None:
        self.chains, self.asked = chains, []

    def changed(self, criterion: object, times: float = 1.0):
        flags = torch.zeros(200, dtype=torch.bool)
        used = []
        for chain in self.chains:
            if chain.run == chain.gated:
                for layer in chain.layers:
                    if layer.gate is not None:
                        used.append(round(float(layer.gate.shift[0])))
        self.asked.append((times, tuple(used)))
        flags[: round(sum(used) * times)] = True
        yield from flags.split(60)


def two() -> list[Chain]:
    layer = layer_of(nn.Linear(4, 4))
    return [Chain(name, [layer, layer], False) for name in "ab"]


def test_the_first_gate_that_keeps_the_answers_together_with_all_before():
    chains = two()
    held = Held(chains)
    layer = chains[0].layers[0]
    tried = [
        Candidate(chains[0], 0, [gate(layer, 5), gate(layer, 2), gate(layer, 1)], 1.0),
        Candidate(chains[1], 1, [gate(layer, 3)], 1.0),
        Candidate(chains[0], 1, [gate(layer, 2)], 1.0),
    ]
    found = list(path(tried, held, SimpleNamespace(), allowed=int(4 * gates.CAREFUL)))
    assert [step and (step.chain.name, step.layer, float(step.gate.shift[0])) for step in found] == [
        ("a", 0, 2.0),
        None,
        ("a", 1, 2.0),
    ]
    assert {times for times, _ in held.asked} == {gates.CAREFUL}
    assert [used for _, used in held.asked] == [(5,), (2,), (2, 3), (2, 2)]
    assert all(chain.run == chain.ungated for chain in chains)


@pytest.mark.parametrize(("promised", "steps"), [(1.0, 3), (0.2, 2), (0.05, 1), (0.02, 0)])
def test_the_longest_beginning_that_the_samples_vouch_for(promised, steps):
    chains = two()
    held = Held(chains)
    layer = chains[0].layers[0]
    given = [
        Step(chains[0], 0, gate(layer, 1)),
        Step(chains[1], 0, gate(layer, 3)),
        Step(chains[0], 1, gate(layer, 40)),
    ]
    found = vouched(given, held, SimpleNamespace(), promised)
    assert found.steps == steps
    sums = [0, 1, 4, 44]
    assert found.observed == sums[steps] / 200
    near = min(200, round(sums[steps] * gates.SAFETY))
    assert found.bound == (upper_bound(near, 200) if steps else 0.0)
    # Of two chains with gates either may be left out by a plan, and both combinations are looked at.
    if steps > 1:
        asked = [used for times, used in held.asked if times == gates.SAFETY]
        assert asked[:4] == [(1,), (1,), (3,), (1, 3)]
    assert all(layer.gate is None for chain in chains for layer in chain.layers)


def test_no_safer_beginning_is_skipped():
    """Tests go up to the first that fails: a later one that passes would have been found by searching."""
    chains = two()
    layer = chains[0].layers[0]
    given = [Step(chains[0], 0, gate(layer, 150)), Step(chains[0], 0, gate(layer, 0))]
    assert vouched(given, Held(chains), SimpleNamespace(), 0.1) == (0, 0.0, 0.0)


def test_gates_are_in_use_only_inside():
    chains = two()
    with gates_in_use(chains[:1]):
        assert [chain.run == chain.gated for chain in chains] == [True, False]
    assert [chain.run == chain.gated for chain in chains] == [False, False]


def test_a_model_with_gates(inputs):
    model = classifier()
    fast = accelerate(model, inputs, 0.15, batch_sizes=[1], threads=1, keep="argmax")
    report = fast.report
    assert report.gated
    assert report.n == 400  # of 800
    assert report.observed <= report.bound <= 0.15
    (chain,) = fast.chains
    assert chain.layers[0].gate is not None
    assert report.chains[0].startswith("in the engine: 0 to 5: 60-256-64-5, ranks ")
    assert not report.chains[0].endswith("0-0-0")
    mixing = torch.Generator().manual_seed(0)
    held_out = inputs[torch.randperm(800, generator=mixing)[400:]]
    chain.run = chain.gated
    changed = (fast(held_out).argmax(1) != model(held_out).argmax(1)).double().mean()
    assert report.observed == changed
    np.testing.assert_allclose(report.disagreement, report.observed)


def test_nothing_is_gated_that_the_samples_cannot_vouch_for(inputs):
    fast = accelerate(classifier(), inputs, threads=1)
    assert not fast.report.gated
    assert (fast.report.observed, fast.report.bound) == (0.0, 0.0)
    assert fast.report.notes == (
        "400 held-out samples cannot vouch for 0.10%: nothing is gated; give 5,990 calibration inputs or more",
    )
    assert all(layer.gate is None for chain in fast.chains for layer in chain.layers)


def test_outputs_that_no_gate_keeps_are_not_gated(inputs):
    fast = accelerate(classifier(), inputs, 0.15, threads=1, keep=lambda a, b: (a == b).all(1))
    assert not fast.report.gated
    assert fast.report.keep == "what <lambda> says"
