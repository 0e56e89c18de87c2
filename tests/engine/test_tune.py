"""Plans: what is chosen, what it says of itself."""

import copy
import re

import pytest
import torch

from ccsweep import engine
from ccsweep.engine import tune
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED


@pytest.fixture(autouse=True)
def _short_races(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


@pytest.fixture(scope="session")
def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 40, generator=generator)
    return x * (x > 0)


@pytest.mark.parametrize(
    ("asked", "possible"),
    [
        ("dense", [{DENSE}] * 3),
        ("exact", [{INPUT_SPARSE}] * 3),
        ("gated", [{GATED, TWO_SIDED}] * 2 + [{DENSE, INPUT_SPARSE}]),
        ([TWO_SIDED, DENSE, INPUT_SPARSE], [{TWO_SIDED}, {DENSE}, {INPUT_SPARSE}]),
    ],
)
def test_an_engine_is_forced(network, inputs, asked, possible):
    compiled = engine.compile(network, inputs, batch_size=16, engine=asked)
    assert all(way in ways for way, ways in zip(compiled.ways, possible, strict=True))
    assert compiled.plan.ways == compiled.ways
    assert compiled.plan.engine == (asked if isinstance(asked, str) else "ways")


@pytest.mark.parametrize("batch_size", [1, 16, 300])
def test_all_gates_in_use_give_the_network(network, inputs, batch_size):
    compiled = engine.compile(network, inputs, batch_size, engine="gated")
    torch.testing.assert_close(compiled(inputs), network(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert compiled.plan.disagreement == 0


def test_auto_keeps_the_answers(network, inputs):
    compiled = engine.compile(network, inputs, batch_size=16, max_disagreement=0.0)
    torch.testing.assert_close(compiled(inputs).argmax(1), network(inputs).argmax(1))
    assert compiled.plan.disagreement == 0


def test_a_tie_goes_to_dense(network, inputs, monkeypatch):
    """Whatever is timed, dense is no slower."""
    monkeypatch.setattr(tune, "race", lambda runs, seconds: {name: [100.0] for name in runs})
    plan = engine.compile(network, inputs, batch_size=16, max_disagreement=1.0).plan
    assert plan.ways == (DENSE,) * 3
    assert plan.notes == ("no other way was faster than dense by 2 % or more",)
    assert plan.speedup == 1


def test_gates_that_matter_stay(network, inputs):
    """All units are gated off: without gates it is another network, however fast."""
    network = copy.deepcopy(network)
    network.hidden[0].shift.fill_(-torch.inf)
    plan = engine.compile(network, inputs, batch_size=16).plan
    assert plan.ways[0] in (GATED, TWO_SIDED)
    assert plan.disagreement == 0
    (note,) = plan.notes
    assert re.fullmatch(r"leaving out all gates changes \d+\.\d\d% of predictions: dense was not tried", note)


def test_memory_is_reported(network, inputs):
    plan = engine.compile(network, inputs, batch_size=16, engine="exact").plan
    assert plan.dense_bytes == 4 * (41 * 24 + 25 * 16 + 17 * 5)
    # One row for each unit and one for each input, both of whole vectors: 32, 16 and 16 floats wide.
    units, by_input, biases = 24 * 48 + 16 * 32 + 5 * 16, 40 * 32 + 24 * 16 + 16 * 16, 32 + 16 + 16
    assert plan.bytes == 4 * (units + by_input + biases)


def test_memory_of_wide_layers_stays_below_the_promise():
    from ccsweep.estimator.fit import EstimatorSettings
    from ccsweep.network import ConditionalMLP

    network = ConditionalMLP([784, 1000, 600, 10], EstimatorSettings("svd", ranks=(50, 35)))
    network.initialise(weight_std=0.05, bias=0.0)
    network.refresh()
    inputs = torch.rand(20, 784)
    for asked in ("dense", "exact", "gated"):
        plan = engine.compile(network, inputs, engine=asked).plan
        assert plan.bytes < 2.2 * plan.dense_bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"engine": "fast"},
            "engine=fast is unknown: use one of auto, dense, exact, gated, or a way per layer",
        ),
        ({"engine": [DENSE]}, "engine gives 1 ways: expected one for each of 3 layers"),
        (
            {"engine": [DENSE, DENSE, GATED]},
            "engine has gated for layer 3: expected one of dense, input-sparse",
        ),
        ({"batch_size": 0}, "batch_size=0, threads=1: expected 1 or more"),
        (
            {"calibration_inputs": torch.zeros(0, 40)},
            "calibration_inputs hold no samples: expected real inputs of the network",
        ),
        (
            {"calibration_inputs": torch.full((3, 40), torch.nan)},
            "calibration_inputs hold NaN or infinity: expected real inputs of the network",
        ),
    ],
)
def test_wrong_arguments(network, inputs, change, message):
    arguments = {"calibration_inputs": inputs, "threads": 1} | change
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        engine.compile(network, **arguments)


def test_a_network_that_diverged_is_refused(network, inputs):
    network = copy.deepcopy(network)
    torch.nn.init.constant_(network.output.bias, torch.nan)
    message = "the output layer (16x5) holds NaN or infinity: nothing to compile"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        engine.compile(network, inputs)
