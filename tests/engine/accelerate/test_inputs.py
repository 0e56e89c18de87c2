"""Calibration inputs in every container."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ccsweep.engine.accelerate import accelerate, inputs
from ccsweep.engine.accelerate.inputs import samples
from ccsweep.errors import UserError
from tests.engine.accelerate.architectures import Recommender, TakesADict, clicks, mlp

X = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40)

ONE = {
    "tensor": X,
    "array": X.numpy(),
    "array of float64": X.double().numpy(),
    "loader": DataLoader(TensorDataset(X, Y), 16),
    "data set": TensorDataset(X, Y),
    "a loader's batch": [X],
    "batches": list(X.split(16)),
    "generator of batches with labels": ((part, 0) for part in X.split(16)),
    "tuple": (X,),
    "with a gradient": X.clone().requires_grad_(),
}


@pytest.mark.parametrize("form", ONE)
def test_one_input(form):
    given = samples(ONE[form], mlp(24, 8, 2))
    assert given.count == 40
    (x,), options = given[torch.arange(40)]
    assert torch.equal(x, X)
    assert options == {}
    assert not x.requires_grad
    assert given.features() == [24]


def test_several_inputs():
    numbers, categories = clicks(40)
    model = Recommender()
    forms = (
        (numbers, categories),
        (numbers.numpy(), categories.numpy()),
        {"categories": categories, "numbers": numbers},
        DataLoader(TensorDataset(numbers, categories, Y), 16),
        [{"numbers": numbers, "categories": categories}],
    )
    for form in forms:
        arguments, options = samples(form, model)[:40]
        assert torch.equal(model(*arguments, **options), model(numbers, categories))


def test_a_dict_that_is_one_argument():
    arguments, options = samples({"x": X, "id": Y}, TakesADict())[10:20]
    assert options == {}
    assert torch.equal(arguments[0]["x"], X[10:20])


def test_a_loader_without_end_is_read_as_far_as_memory_goes(monkeypatch):
    monkeypatch.setattr(inputs, "MOST", 10_000)

    def forever():
        while True:
            yield X

    assert samples(forever(), mlp(24, 8, 2)).count == 120


EXPECTED = (
    "expected a tensor or array (samples, ...), a tuple of them for several inputs, a dict of them by name, or a loader "
    "of batches"
)
TAKES = (
    "expected what it is called with, the samples along the first axis; a list is taken as batches, a tuple as several "
    "inputs"
)
WRONG = {
    f"calibration_inputs are of type NoneType: {EXPECTED}": None,
    f"calibration_inputs are of type str: {EXPECTED}": "x.npy",
    f"calibration_inputs hold str: {EXPECTED}": ["x", "y"],
    f"calibration_inputs hold no batches: {EXPECTED}": [],
    f"calibration_inputs hold no tensor: {EXPECTED}": (1.0, 2.0),
    "calibration_inputs hold 3 samples: expected 4 or more": X[:3],
    "calibration_inputs hold an array of object: expected numbers": np.array([None] * 9),
    "calibration_inputs hold tensors of 9 and 40 samples: expected as many in each; a tuple is taken as several inputs": (
        X,
        X[:9],
    ),
    "calibration_inputs: a list is taken as batches, and these are of different shapes; expected a tuple for several "
    "inputs, torch.stack(list) for samples": [X, Y],
    "calibration_inputs: the loader fails (KeyError: 'x')": ({}["x"] for _ in range(3)),
    f"the model refuses calibration_inputs (RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float): {TAKES}": (
        X.double()
    ),
    f"the model refuses calibration_inputs (RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x32 and 24x8)): {TAKES}": (
        list(X)
    ),
    f"the model refuses calibration_inputs (TypeError: Sequential.forward() takes 2 positional arguments but 3 were given): {TAKES}": (
        X,
        X,
    ),
    "0 to 2 gets NaN or infinity on the calibration inputs": torch.where(X > 2, torch.nan, X),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_refused(message):
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(mlp(24, 8, 2).eval(), WRONG[message], max_disagreement=0)


def test_a_model_that_draws_its_outputs_is_refused():
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(24, 8, 2)

        def forward(self, x):
            return self.body(nn.functional.dropout(x))  # training=True is its default

    message = (
        "the model gives other outputs for the same inputs: nothing can be compared with it; is there dropout that "
        "eval() does not switch off?"
    )
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(Drawn().eval(), X)


ARGUMENTS = {
    "the model is of type function: expected a torch.nn.Module": (lambda x: x, {}),
    "max_disagreement=1.5: expected a share between 0 and 1": (mlp(24, 8, 2), {"max_disagreement": 1.5}),
    "batch_sizes=[0]: expected whole numbers, 1 or more": (mlp(24, 8, 2), {"batch_sizes": [0]}),
    "threads=0: expected 1 or more": (mlp(24, 8, 2), {"threads": 0}),
    "no Linear -> ReLU chain was found (0: Tanh is not known to the engine)": (nn.Sequential(nn.Tanh()), {}),
    "no Linear -> ReLU chain was found (0: Linear holds NaN or infinity; 1: ReLU is not known to the engine)": (
        nn.Sequential(nn.utils.skip_init(nn.Linear, 24, 8).requires_grad_(False), nn.ReLU()),
        {},
    ),
}


@pytest.mark.parametrize("message", ARGUMENTS)
def test_arguments_that_are_refused(message):
    model, options = ARGUMENTS[message]
    if isinstance(model, nn.Sequential) and isinstance(model[0], nn.Linear) and len(model) == 2:
        nn.init.constant_(model[0].weight, torch.nan)
        nn.init.constant_(model[0].bias, torch.nan)
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(model, X, **options)


def test_it_is_not_accelerated_twice():
    fast = accelerate(mlp(24, 8, 2).eval(), X, max_disagreement=0)
    with pytest.raises(UserError, match=r"^the model is accelerated already: accelerate the original$"):
        accelerate(fast, X)
