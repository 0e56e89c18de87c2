"""Which gates are tried, which keep the answers, and which the samples vouch for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ccsweep.engine.accelerate import accelerate, gates
from ccsweep.engine.accelerate.chain import EXACT, Arithmetic, Chain
from ccsweep.engine.accelerate.gates import (
    BOTH,
    Candidate,
    Step,
    candidates,
    computing,
    faster_in_int8,
    in_groups,
    mixes,
    path,
    promising,
    put,
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


RULE = SimpleNamespace(safety=3.0)
IN_INT8 = 0.4
"""Answers of 200 that a layer in int8 changes, below."""


class Held:
    """Answers change by what is in use: each gate's shift says how many of 200, int8 changes ``IN_INT8``."""

    count = 200

    def __init__(self, chains: list[Chain], monkeypatch: pytest.MonkeyPatch) -> None:
        self.chains, self.asked = chains, []
        monkeypatch.setattr(Chain, "computing", lambda chain, use: (chain, use))

    def changed(self, criterion: object, *times: float):
        used, each = [], []
        for chain in self.chains:
            use = EXACT if callable(chain.run) else chain.run[1]
            for layer, small in zip(chain.layers, chain.int8, strict=True):
                if use.gates and layer.gate is not None:
                    used.append(round(float(layer.gate.shift[0])))
                if use.int8 and small:
                    used.append(IN_INT8)
        self.asked.append((times, tuple(used)))
        for so_often in times:
            flags = torch.zeros(200, dtype=torch.bool)
            flags[: round(sum(used) * so_often)] = True
            each.append(flags)
        yield from torch.stack(each).split(60, 1)


def two() -> list[Chain]:
    layer = layer_of(nn.Linear(4, 4))
    return [Chain(name, [layer, layer], False) for name in "ab"]


def test_the_first_gate_that_keeps_the_answers_together_with_all_before(monkeypatch):
    chains = two()
    held = Held(chains, monkeypatch)
    layer = chains[0].layers[0]
    tried = [
        Candidate(chains[0], 0, [gate(layer, 5), gate(layer, 2), gate(layer, 1)], 1.0),
        Candidate(chains[1], 1, [gate(layer, 3)], 1.0),
        Candidate(chains[0], 1, [gate(layer, 2)], 1.0),
    ]
    found = list(path(tried, held, RULE, allowed=int(4 * gates.CAREFUL * RULE.safety)))
    assert [(step.chain.name, step.layer, float(step.gate.shift[0])) for step in found] == [
        ("a", 0, 2.0),
        ("a", 1, 2.0),
    ]
    careful, safe = (gates.CAREFUL * RULE.safety,), (RULE.safety,)
    assert held.asked == [
        (careful, (5,)),
        *((careful, (2,)), (safe, (2,))),
        (careful, (2, 3)),
        *((careful, (2, 2)), (safe, (2, 2))),
    ]
    assert [layer.gate is not None for chain in chains for layer in chain.layers] == [
        True,
        True,
        False,
        False,
    ]
    assert all(chain.run == chain.exact for chain in chains)


def test_gates_are_chosen_with_what_is_in_int8_already(monkeypatch):
    chains = two()
    held = Held(chains, monkeypatch)
    put([[Step(chains[0], 1, None)]])
    tried = [Candidate(chains[0], 0, [gate(chains[0].layers[0], 2)], 1.0)]
    list(path(tried, held, RULE, allowed=99))
    assert held.asked == [((gates.CAREFUL * RULE.safety,), (2,)), ((RULE.safety,), (2, IN_INT8))]


@pytest.mark.parametrize(("allowed", "kept", "asked"), [(9, [2, 2, 1], 1), (5, [1, 1, 1, 1], 6), (0, [], 6)])
def test_all_layers_in_int8_or_else_each_that_keeps_the_answers(monkeypatch, allowed, kept, asked):
    chains = [Chain("a", [layer_of(nn.Linear(4, 4))] * 5, False)]
    held = Held(chains, monkeypatch)
    steps = [Step(chains[0], k, None) for k in range(5)]
    found = in_groups(steps, held, RULE, allowed)  # each changes 1.2 of 200, three times as large
    assert [len(group) for group in found] == kept
    assert [step for group in found for step in group] == steps[: sum(kept)]
    assert chains[0].int8 == [k < sum(kept) for k in range(5)]
    assert len(held.asked) == asked
    assert {times for times, _ in held.asked} == {(RULE.safety,)}


def test_layers_that_gain_in_int8_by_the_clock(monkeypatch, inputs):
    """Those that save most for a sample come first; of layers alike one is timed."""
    layers = [layer_of(nn.Linear(60, 60)) for _ in range(3)]
    chains = [Chain(name, layers, False) for name in "ab"]
    asked = []

    class Tuner:
        def __init__(self, layout, rows, batch_size, threads, seconds):
            self.batch_size = batch_size
            assert (len(rows), threads) == (100, 1)

        def time_layer(self, k):
            asked.append((k, self.batch_size))
            small = {(0, 1): 9.9, (1, 1): 5.0, (1, 100): 700.0, (2, 1): 20.0, (2, 100): 100.0}
            return {"dense": 10.0 * self.batch_size, "dense int8": small.get((k, self.batch_size), 2000.0)}

    monkeypatch.setattr(gates.tune, "Tuner", Tuner)
    found = faster_in_int8(chains, [inputs, inputs], (1, 100))
    assert [(step.chain.name, step.layer, step.gate) for step in found] == [
        ("a", 2, None),  # 9 at batch 100
        ("b", 2, None),
        ("a", 1, None),  # 5 and 3
        ("b", 1, None),
    ]
    assert asked == [(k, size) for k in range(3) for size in (1, 100)]


@pytest.mark.parametrize(("promised", "groups"), [(1.0, 4), (0.2, 3), (0.06, 2), (0.035, 1), (0.01, 0)])
def test_the_longest_beginning_that_the_samples_vouch_for(promised, groups, monkeypatch):
    chains = two()
    held = Held(chains, monkeypatch)
    layer = chains[0].layers[0]
    given = [
        (Step(chains[0], 0, None), Step(chains[1], 1, None)),
        (Step(chains[0], 0, gate(layer, 1)),),
        (Step(chains[1], 0, gate(layer, 3)),),
        (Step(chains[0], 1, gate(layer, 40)),),
    ]
    found = vouched(given, held, RULE, promised)
    assert found.groups == groups
    sums = [0, 2 * IN_INT8, 1 + 2 * IN_INT8, 4 + 2 * IN_INT8, 44 + 2 * IN_INT8]
    assert found.observed == round(sums[groups]) / 200
    near = min(200, round(sums[groups] * RULE.safety))
    assert found.bound == (upper_bound(near, 200) if groups else 0.0)
    # Plans may leave out gates and int8 of either chain, and all mixes are looked at, in one pass each.
    assert {times for times, _ in held.asked} == {(1.0, RULE.safety)}
    e = IN_INT8
    assert [used for _, used in held.asked[:3]] == [(e,), (e,), (e, e)]
    if groups > 0:
        assert [used for _, used in held.asked[3:10]] == [(e,), (e,), (e, e), (1,), (1, e), (1, e), (1, e, e)]
    assert all(layer.gate is None for chain in chains for layer in chain.layers)
    assert not any(any(chain.int8) for chain in chains)


def test_no_safer_beginning_is_skipped(monkeypatch):
    """Tests go up to the first that fails: a later one that passes would have been found by searching."""
    chains = two()
    layer = chains[0].layers[0]
    given = [(Step(chains[0], 0, gate(layer, 150)),), (Step(chains[0], 0, gate(layer, 0)),)]
    assert vouched(given, Held(chains, monkeypatch), RULE, 0.1) == (0, 0.0, 0.0)


def test_of_many_chains_all_compute_alike():
    layer = layer_of(nn.Linear(4, 4))
    chains = [Chain(str(k), [layer], False) for k in range(5)]
    put([[Step(chain, 0, None) for chain in chains[:4]]])
    assert len(mixes(chains)) == 2**4 - 1
    put([[Step(chains[4], 0, None)], [Step(chains[0], 0, gate(layer, 1))]])
    uses = [Arithmetic(int8=True), Arithmetic(gates=True), Arithmetic(gates=True, int8=True)]
    assert mixes(chains) == [dict.fromkeys(chains, use) for use in uses]


def test_what_is_computed_holds_only_inside():
    chains = two()
    with computing({chains[0]: BOTH}):
        assert [chain.run == chain.exact for chain in chains] == [False, True]
    assert all(chain.run == chain.exact for chain in chains)


def held_out(inputs: torch.Tensor) -> torch.Tensor:
    """Of 800 inputs those that nothing was chosen by."""
    return inputs[torch.randperm(800, generator=torch.Generator().manual_seed(0))[400:]]


def changed_by_any(fast: nn.Module, model: nn.Module, x: torch.Tensor) -> float:
    """Share of answers that plans of the only chain may change."""
    (chain,) = fast.chains
    flags = torch.zeros(len(x), dtype=torch.bool)
    for use in chain.arithmetics[1:]:
        vars(chain)["at"] = lambda size, use=use: chain.computing(use)
        flags |= fast(x).argmax(1) != model(x).argmax(1)
    return float(flags.double().mean())


def in_int8_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is faster in int8."""
    plain = gates.tune.Tuner.time_layer

    def timed(tuner, k, ways=()):
        return {way: 1.0 if way.endswith("int8") else 2.0 for way in plain(tuner, k, ways)}

    monkeypatch.setattr(gates.tune.Tuner, "time_layer", timed)


def test_a_model_in_int8(inputs, monkeypatch):
    in_int8_by_the_clock(monkeypatch)
    monkeypatch.setattr("ccsweep.engine.accelerate.call.candidates", lambda *_: [])
    model = classifier(bias=0.0)
    fast = accelerate(model, inputs, 0.05, threads=1, keep="argmax")
    report = fast.report
    assert not report.exact
    assert report.observed <= report.bound <= 0.05
    (chain,) = fast.chains
    assert any(chain.int8)
    names = [str(k) for k, small in enumerate(chain.int8, 1) if small]
    layers = "layer" if len(names) == 1 else "layers"
    assert report.chains[0].partition("ranks ")[2] == f"0-0-0, in int8 {layers} {', '.join(names)}"
    fast(inputs[:1])
    (plan,) = fast.plans
    possible = [chain.ways(use) for use in chain.arithmetics]
    assert any(all(map(tuple.__contains__, ways, plan.ways)) for ways in possible)
    assert report.observed == changed_by_any(fast, model, held_out(inputs))


def test_where_values_count_and_bytes_are_too_coarse_layers_stay_in_float32(inputs, monkeypatch):
    in_int8_by_the_clock(monkeypatch)
    fast = accelerate(classifier(bias=0.0), inputs, 0.05, threads=1, keep=("values", 1e-4))
    assert fast.report.exact
    assert not any(fast.chains[0].int8)
    fast = accelerate(classifier(bias=0.0), inputs, 0.0, threads=1)
    assert not any(fast.chains[0].int8)


def test_a_model_with_gates(inputs):
    model = classifier()
    fast = accelerate(model, inputs, 0.15, batch_sizes=[1], threads=1, keep="argmax")
    report = fast.report
    assert not report.exact
    assert report.n == 400  # of 800
    assert report.observed <= report.bound <= 0.15
    (chain,) = fast.chains
    assert chain.layers[0].gate is not None
    assert report.chains[0].startswith("in the engine: 0 to 5: 60-256-64-5, ranks ")
    assert "ranks 0-0-0" not in report.chains[0]
    assert report.observed == changed_by_any(fast, model, held_out(inputs))
    np.testing.assert_allclose(report.disagreement, report.observed)


def test_nothing_is_gated_that_the_samples_cannot_vouch_for(inputs):
    fast = accelerate(classifier(), inputs, threads=1)
    assert fast.report.exact
    assert (fast.report.observed, fast.report.bound) == (0.0, 0.0)
    assert fast.report.notes == (
        "400 held-out samples cannot vouch for 0.10%: nothing is gated or in int8; give 5,990 calibration inputs or more",
    )
    assert all(layer.gate is None for chain in fast.chains for layer in chain.layers)


def test_outputs_that_no_gate_keeps_are_not_gated(inputs):
    fast = accelerate(classifier(), inputs, 0.15, threads=1, keep=lambda a, b: (a == b).all(1))
    assert fast.report.exact
    assert fast.report.keep == "what <lambda> says"
