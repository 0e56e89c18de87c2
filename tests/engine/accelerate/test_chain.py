"""A chain in the engine: size classes, plans, and what it refuses."""

import itertools
import logging
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ccsweep.engine import tune
from ccsweep.engine.accelerate.chain import EXACT, Arithmetic, Chain, agree
from ccsweep.engine.layers import chain as layers_chain
from ccsweep.engine.ways import ONNX
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from tests.engine.conftest import draw

X = torch.randint(-2, 3, (40, 6)).float()


def drawn(rank: int = 2) -> Chain:
    layers = draw([6, 5, 3], 2, seed=0)
    return Chain("it", layers if rank else [layer._replace(gate=None) for layer in layers], flat=False)


def test_with_and_without_gates_over_any_axes():
    part = drawn()
    for gated in (False, True):
        part.run = part.computing(Arithmetic(gates=gated))
        expected = layers_chain(part.layers, X.numpy(), gated)[-1]
        np.testing.assert_array_equal(part(X), expected)
        np.testing.assert_array_equal(part(X.reshape(2, 20, 6)), expected.reshape(2, 20, 3))
        np.testing.assert_array_equal(part(X[3]), expected[3])


def test_a_folded_batch_norm_takes_no_other_dimensions():
    part = Chain("it", drawn().layers, flat=True)
    assert part(X).shape == (40, 3)
    with pytest.raises(
        UserError, match=r"^it got \(2, 20, 6\): its batch norm was folded for \(batch, features\)$"
    ):
        part(X.reshape(2, 20, 6))


def test_size_classes():
    part, made = drawn(), []
    part.compile(X, 1)
    part._plan = lambda size: made.append(size) or part.compiled.update({size: size})
    sizes = (0, 1, 2, 8, 9, 32, 33, 256, 257, 1024, 5000)
    assert [part.at(size) for size in sizes] == [1, 1, 8, 8, 32, 32, 256, 256, 1024, 1024, 1024]
    assert made == [1, 8, 32, 256, 1024]


def test_a_plan_is_chosen_for_its_size_and_said_so(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    part = drawn()
    part.compile(X, 2)
    compiled = part.at(20)
    assert caplog.messages == ["choosing a plan for batches of up to 32"]
    plan = compiled.plan
    assert (plan.batch_size, plan.threads, plan.ways) == (32, 2, compiled.ways)
    assert compiled.threads in (1, 2)
    assert compiled.layout is part.layout


SPARSE_8, DENSE_8 = "input-sparse int8", "dense int8"
GATED_8 = ("gated int8", "two-sided int8", "masked int8")


def test_what_may_be_in_int8_and_what_has_a_gate_make_the_arithmetics():
    part = drawn(rank=0)
    assert part.arithmetics == [EXACT]
    part.allow(1, None)
    assert part.arithmetics == [EXACT, Arithmetic(int8=True)]
    part.allow(0, drawn().layers[0].gate)
    gates, both = Arithmetic(gates=True), Arithmetic(gates=True, int8=True)
    assert part.arithmetics == [EXACT, Arithmetic(int8=True), gates, both]
    plain, small, gated = (DENSE, INPUT_SPARSE), (SPARSE_8, DENSE_8), (GATED, TWO_SIDED)
    assert [part.ways(use) for use in part.arithmetics] == [
        [plain, plain],
        [plain, small],
        [gated, plain],
        [gated, small],
    ]
    part.allow(0, None)
    assert part.ways(both) == [GATED_8, small]
    part.disallow()
    assert part.arithmetics == [EXACT]


@pytest.mark.parametrize("wanted", [EXACT, *(Arithmetic(*use) for use in ((0, 1), (1, 0), (1, 1)))])
def test_a_plan_keeps_to_one_arithmetic_the_fastest(monkeypatch, wanted):
    part = drawn()
    part.allow(0, None)
    part.allow(1, None)
    best = {tuple(way) for way in itertools.product(*part.ways(wanted))}
    tried = set()

    def race(runs, seconds):
        tried.update(name for name in runs if isinstance(name, tuple))
        return {name: [1.0 if name in best else 2.0] for name in runs}

    monkeypatch.setattr(tune, "race", race)
    part.compile(X, 1)
    compiled = part.at(8)
    assert compiled.ways in best
    allowed = [set(itertools.product(*part.ways(use))) for use in part.arithmetics]
    if find_spec("onnxruntime"):  # which may take the place of what is dense throughout
        allowed[0] |= {(first, DENSE + ONNX) for first in (DENSE + ONNX, INPUT_SPARSE)}
    assert tried <= set().union(*allowed)
    assert all(tried & each for each in allowed)
    assert compiled.plan.disagreement is None


def test_what_is_no_faster_than_torch_is_left_to_it(monkeypatch):
    monkeypatch.setattr(tune, "race", lambda runs, seconds: {name: [1.0] for name in runs})
    part = drawn()
    part.compile(X, 1)
    assert part.at(1).ways == (DENSE, DENSE)


@pytest.mark.parametrize("batch", [0, 1, 9, 300])
@pytest.mark.parametrize("small", [False, True])
def test_its_answers_are_those_of_one_arithmetic(batch, small):
    part = drawn()
    if small:
        part.allow(0, None)
        part.allow(1, None)
    x = torch.randn(batch, 6, generator=torch.Generator().manual_seed(0))
    possible = [part.computing(use)(x) for use in part.arithmetics]
    part.compile(X, 1)
    assert any(torch.allclose(part(x), one, rtol=1e-5) for one in possible)


def several(count: int) -> list[Chain]:
    """Chains with gates and int8; the last one is the largest."""
    chains = [drawn() for _ in range(count)]
    chains[-1].layers = draw([9, 5, 3], 2, seed=0)
    for one in chains:
        one.allow(0, None)
    return chains


def test_chains_with_too_many_mixes_agree_with_the_largest(monkeypatch):
    chains = several(2)
    agree(chains)
    assert [one.together for one in chains] == [None, None]
    chains = several(3)
    agree(chains)
    (together,) = {one.together for one in chains}
    assert (together.largest, together.use) == (chains[-1], None)
    for one in chains:
        one.compile(torch.randn(40, one.layers[0].inputs), 1)
    quick = {}

    def race(runs, seconds):
        return {name: [quick.get(name, 2.0)] for name in runs}

    monkeypatch.setattr(tune, "race", race)
    quick = {("gated int8", INPUT_SPARSE): 1.0}
    first = chains[0].at(1)  # asks for the largest one's plan
    assert together.use == Arithmetic(gates=True, int8=True)
    assert chains[-1].compiled[1].ways == ("gated int8", INPUT_SPARSE)
    quick = {(DENSE, DENSE): 0.1}  # from now on
    for found in (first, chains[1].at(256), chains[-1].at(32)):
        assert found.ways[0] in GATED_8


def test_what_is_not_float32_on_the_cpu():
    part = drawn()
    message = "it got torch.float64 on cpu: an accelerated model computes in float32 on the CPU, give it such inputs"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        part(X.double())
