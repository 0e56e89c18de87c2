"""Forty foreign architectures give the original's outputs, and their chains are found."""

import copy
import pickle

import pytest
import torch

from ccsweep.engine.accelerate import accelerate, chain
from ccsweep.engine.accelerate.tracing.trace import tensors_in
from tests.engine.accelerate.architectures import ALL


def test_there_are_forty() -> None:
    assert len(ALL) >= 40


@pytest.mark.parametrize("classes", [(256,), pytest.param((1, 8, 256), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ALL)
def test_it_gives_the_outputs_of_the_original(
    name: str, classes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "CLASSES", classes)  # with all their plans that takes long
    make, inputs, chains = ALL[name]
    torch.manual_seed(0)
    model, given = make().eval(), inputs(64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = accelerate(model, given, max_disagreement=0, threads=1)
    found = [line.removeprefix("in the engine: ").partition(", ranks")[0] for line in fast.report.chains]
    assert found == list(chains)
    for batch in (0, 1, 7, 256):
        x = inputs(batch)
        with torch.no_grad():
            expected = model(*x)
        for one in (fast, copy.deepcopy(fast)) if batch == 7 else (fast,):
            got = one(*x)
            assert type(got) is type(expected)
            for (place, a), (other, b) in zip(tensors_in(got), tensors_in(expected), strict=True):
                assert place == other
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "name", ["sequential", "Recommender", "Autoencoder", "ChoosesAnExpert", "encoder_of_torch"]
)
def test_it_is_pickled(name: str) -> None:
    make, inputs, _ = ALL[name]
    torch.manual_seed(0)
    fast = accelerate(make().eval(), inputs(64), max_disagreement=0, threads=1)
    again = pickle.loads(pickle.dumps(fast))
    x = inputs(7)
    for (_, a), (_, b) in zip(tensors_in(again(*x)), tensors_in(fast(*x)), strict=True):
        torch.testing.assert_close(a, b)
    assert [plan.batch_size for plan in again.plans] == [plan.batch_size for plan in fast.plans] != []
