"""A chain in the engine: size classes, plans, and what it refuses."""

import logging
import re

import numpy as np
import pytest
import torch

from ccsweep.engine.accelerate import chain as module
from ccsweep.engine.accelerate.chain import Chain
from ccsweep.engine.layers import chain as layers_chain
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
        part.run = part.gated if gated else part.ungated
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
    part._compile = lambda size: made.append(size) or size
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


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            {"gated": 1.0, "ways": 2.0},
            {(TWO_SIDED, DENSE), (GATED, DENSE), (TWO_SIDED, INPUT_SPARSE), (GATED, INPUT_SPARSE)},
        ),
        ({"gated": 2.0, "ways": 1.0}, {(a, b) for a in (DENSE, INPUT_SPARSE) for b in (DENSE, INPUT_SPARSE)}),
        ({"gated": 9.9, "ways": 9.9}, {(DENSE, DENSE)}),
    ],
)
def test_all_gates_or_none_whichever_is_faster(monkeypatch, times, expected):
    """What was verified is all of them together, so no plan may use some."""

    class Tuner(module.Tuner):
        def plan(self, engine, max_disagreement):
            ways, made = super().plan(engine, max_disagreement)

            def timed(network):
                plan = made(network)
                took = times.get(plan.engine, 10.0)
                object.__setattr__(plan, "microseconds", took)
                object.__setattr__(plan, "dense_microseconds", 10.0)
                return plan

            return ways, timed

    monkeypatch.setattr(module, "Tuner", Tuner)
    part = drawn()
    part.compile(X, 1)
    assert part.at(1).ways in expected


@pytest.mark.parametrize("batch", [0, 1, 9, 300])
def test_its_answers_are_those_with_all_gates_or_with_none(batch):
    part = drawn()
    part.compile(X, 1)
    x = torch.randint(-2, 3, (batch, 6)).float()
    possible = [layers_chain(part.layers, x.numpy(), gated)[-1] for gated in (True, False)]
    got = part(x).numpy()
    assert any(np.allclose(got, one, rtol=1e-5) for one in possible)


def test_what_is_not_float32_on_the_cpu():
    part = drawn()
    message = "it got torch.float64 on cpu: an accelerated model computes in float32 on the CPU, give it such inputs"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        part(X.double())
