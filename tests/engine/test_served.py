import numpy as np
import pandas as pd
import pytest
import torch

from ccsweep.engine import served, tune
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.network import ConditionalMLP

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
