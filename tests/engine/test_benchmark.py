from itertools import islice

import pytest
import torch

from ccsweep.engine import benchmark, tune
from ccsweep.engine.benchmark import EAGER, ENGINE, compare, differing, figures, split
from ccsweep.engine.peers import UnavailableError


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


def test_a_comparison(network):
    inputs = torch.randn(300, 40)

    def none(layers, x, threads):
        assert x.shape == (32, 40)
        raise UnavailableError("not on this machine")

    others = {"none": none, "exact skip": benchmark.PEERS["exact skip"]}
    found = compare(network, inputs, inputs, 32, threads=1, seconds=0.0, with_peers=others)
    assert list(found.timings) == [EAGER, "exact skip", ENGINE]
    for timing in found.timings.values():
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.calls >= 7
    assert found.unavailable == {"none": "not on this machine"}
    assert found.speedup(EAGER) == 1
    assert found.speedup() == found.timings[EAGER].median / found.timings[ENGINE].median
    assert found.differing <= 0.01
    assert figures([found]) == {"measured_speedup_batch32": round(found.speedup(), 4)}
    stored = found.as_json()
    assert stored["speedup"][ENGINE] == found.speedup()
    assert stored["plan"]["batch_size"] == 32


@pytest.mark.parametrize(("samples", "size", "batches"), [(10, 1, 10), (10, 3, 10), (10, 25, 8), (10, 10, 8)])
def test_batches_are_full_and_of_real_inputs(samples, size, batches):
    inputs = torch.arange(samples)[:, None].repeat(1, 4).float()
    found = split(inputs, size)
    assert [batch.shape for batch in found] == [(size, 4)] * batches
    assert all(batch.is_contiguous() for batch in found)
    counts = torch.cat(found)[:, 0].int().bincount()
    assert counts.max() - counts.min() <= 1
    assert torch.cat(found)[:, 0].tolist() != list(range(len(torch.cat(found))))


def test_all_batches_come_before_one_comes_again():
    batches = split(torch.arange(20)[:, None].float(), 1)
    seen = [int(batch) for batch in islice(benchmark._cycled(batches), 60)]
    rounds = [seen[:20], seen[20:40], seen[40:]]
    assert all(sorted(each) == list(range(20)) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_differing_predictions_are_counted(network):
    inputs = torch.randn(50, 40)
    others = (network(inputs).argmax(1) + (torch.arange(50) < 5)) % 5
    assert differing(network, lambda x: torch.nn.functional.one_hot(others, 5), inputs) == 0.1
    assert differing(network, network, inputs) == 0
