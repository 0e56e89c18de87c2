"""A network in a file, as MLflow loads and asks it."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from ccsweep.engine import served, tune
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.network import ConditionalMLP
from tests.engine.conftest import draw

WAYS = {1: [TWO_SIDED, GATED, INPUT_SPARSE], 256: [GATED, TWO_SIDED, DENSE]}


@pytest.mark.parametrize("batch", [0, 1, 15, 17, 300])
def test_it_answers_as_the_network_does(network, batch, tmp_path):
    served.save(tmp_path / "network.pt", network, WAYS)
    model = served._load_pyfunc(str(tmp_path / "network.pt"))
    x = np.random.default_rng(0).standard_normal((batch, 40)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    for form in (x, x.astype(np.float64), np.asfortranarray(x), pd.DataFrame(x)):
        found = model.predict(form)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_each_size_has_its_plan(network, tmp_path):
    served.save(tmp_path / "network.pt", network, WAYS)
    model = served.load(tmp_path / "network.pt")
    assert [model._at(batch).ways for batch in (0, 1, 15, 17, 5000)] == [
        *[tuple(WAYS[1])] * 3,
        *[tuple(WAYS[256])] * 2,
    ]


def test_the_faithful_ways_keep_every_gate(network, monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)
    plan = tune.compile(network, torch.randn(100, 40), threads=1, engine="exact").plan
    first, second, last = served.faithful(plan)
    assert {first, second} <= {GATED, TWO_SIDED}
    assert last in (DENSE, INPUT_SPARSE)


def test_a_control_has_no_gates(tmp_path):
    control = ConditionalMLP([6, 5, 3]).eval()
    served.save(tmp_path / "network.pt", control, {1: [INPUT_SPARSE, DENSE]})
    x = torch.randn(4, 6)
    found = served.load(tmp_path / "network.pt").predict(x.numpy())
    np.testing.assert_allclose(found, control(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def planned(*times: tuple[int | None, dict[str, float]]) -> Plan:
    layers = tuple(LayerPlan(4, 3, rank, DENSE, 1.0, 1.0, took) for rank, took in times)
    return Plan(1, 1, "auto", layers, 1.0, 1.0, 0.0, 1, 1)


def test_the_faithful_ways_are_the_fastest_of_their_kind():
    took = {DENSE: 2.0, INPUT_SPARSE: 1.0, GATED: 4.0, TWO_SIDED: 3.0}
    other = {DENSE: 1.0, INPUT_SPARSE: 2.0, GATED: 3.0, TWO_SIDED: 4.0}
    plan = planned((5, took), (5, other), (None, took), (None, other))
    assert served.faithful(plan) == [TWO_SIDED, GATED, INPUT_SPARSE, DENSE]


def test_the_file_holds_tensors_and_ways(network, tmp_path):
    """What models saved before were written as, and are read as."""
    served.save(tmp_path / "network.pt", network, WAYS)
    saved = torch.load(tmp_path / "network.pt", weights_only=True)
    assert saved["ways"] == WAYS
    assert [list(layer) for layer in saved["layers"]] == [["weight", "bias", "relu", "gate"]] * 3
    assert [layer["relu"] for layer in saved["layers"]] == [True, True, False]
    assert saved["layers"][2]["gate"] is None
    for layer, linear in zip(saved["layers"], network.linears(), strict=True):
        assert torch.equal(layer["weight"], linear.weight)
        assert torch.equal(layer["bias"], linear.bias)
    for layer, linear in zip(saved["layers"], network.hidden, strict=False):
        assert type(layer["gate"]) is list
        assert all(torch.equal(*parts) for parts in zip(layer["gate"], linear.factors, strict=True))


def test_nothing_in_the_file_is_executed(tmp_path):
    torch.save({"layers": [], "ways": Holder()}, tmp_path / "network.pt")
    with pytest.raises(pickle.UnpicklingError):
        served.load(tmp_path / "network.pt")


class Holder:
    """Not among the types that torch loads without being told."""


def test_the_nearest_size_is_that_by_ratio(network, tmp_path):
    served.save(tmp_path / "network.pt", network, {4: WAYS[1], 100: WAYS[256]})
    model = served.load(tmp_path / "network.pt")
    small, large = model._compiled[4], model._compiled[100]
    assert [model._at(batch) is small for batch in (0, 1, 4, 19, 20, 21, 100)] == [True] * 5 + [False] * 2
    assert (small.threads, large.threads) == (1, 1)
    served.save(tmp_path / "network.pt", network, {1: WAYS[1], 3: WAYS[256]})
    model = served.load(tmp_path / "network.pt")
    assert [model._at(batch) is model._compiled[1] for batch in (0, 1, 2)] == [True, True, False]
    assert small.layout is large.layout


def test_kernels_are_ready_before_the_first_request(monkeypatch):
    asked = []
    monkeypatch.setattr(served, "warm_up", lambda: asked.append("warm"))
    served.Served(draw([4, 3, 2], rank=1, seed=0), {1: [DENSE, DENSE]})
    assert asked == ["warm"]


def test_requests_that_are_not_writable_or_not_in_order():
    model = served.Served(draw([4, 3, 2], rank=1, seed=0), {1: [INPUT_SPARSE, DENSE]})
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = model.predict(x)
    x.flags.writeable = False
    np.testing.assert_array_equal(model.predict(x), expected)
    np.testing.assert_array_equal(model.predict(x.astype(int).tolist(), params={"a": 1}), expected)
    doubled = np.repeat(x, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(model.predict(doubled), expected)
