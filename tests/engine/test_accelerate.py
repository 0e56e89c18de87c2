"""Models of any kind: what is found, what is left, and that answers stay."""

import re

import pytest
import torch
from torch import nn

from ccsweep.engine import tune
from ccsweep.engine.accelerate import Chain, accelerate
from ccsweep.engine.chains import search
from ccsweep.errors import UserError


@pytest.fixture(autouse=True)
def _short_races(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """Samples near a 6-dimensional subspace, as real data are."""
    torch.manual_seed(0)
    return torch.randn(800, 6) @ torch.randn(6, 60) + 0.05 * torch.randn(800, 60)


def linear(inputs: int, units: int, bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(inputs, units)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.constant_(layer.bias, bias)
    return layer


def classifier(bias: float = -3.0) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        linear(60, 256, bias), nn.ReLU(), nn.Dropout(0.5), linear(256, 64), nn.ReLU(), linear(64, 5)
    ).eval()


class Holder(nn.Module):
    """Modules that hold Sequentials: only those are understood."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.norm = nn.LayerNorm(60)
        self.blocks = nn.Sequential(
            nn.Sequential(linear(60, 128), nn.ReLU()), nn.Sequential(linear(128, 40), nn.Tanh())
        )
        self.head = nn.Sequential(nn.Flatten(), linear(40, 5), nn.Softmax(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.norm(x)) * 2)


def test_exact_skip_alone_changes_nothing(inputs):
    model = classifier()
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert fast.report.disagreement == 0
    for batch in (0, 1, 7, 300):
        torch.testing.assert_close(fast(inputs[:batch]), model(inputs[:batch]).detach(), rtol=1e-4, atol=1e-4)
    assert {plan.batch_size for plan in fast.plans} == {1, 8, 1024}


def test_estimators_keep_the_answers(inputs):
    model = classifier()
    # The predictions of a network that was never trained are easily changed.
    fast = accelerate(model, inputs, max_disagreement=0.1, batch_sizes=[1], threads=1)
    assert fast.report.disagreement <= 0.1
    assert fast.report.held_out == 200
    (chain,) = (part for part in fast.modules() if isinstance(part, Chain))
    assert chain.layout.layers[0].gate is not None
    changed = (fast(inputs).argmax(1) != model(inputs).argmax(1)).float().mean()
    assert changed <= 0.15
    assert [plan.batch_size for plan in fast.plans] == [1, 1024]
    assert re.match(r"in the engine: 0 to 5: 60-256-64-5, ranks \d+-\d+-0\n", str(fast.report))


def test_modules_that_hold_chains(inputs):
    model = Holder().eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    torch.testing.assert_close(fast(inputs), model(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert str(fast.report).splitlines() == [
        "in the engine: blocks.0.0 to blocks.1.0: 60-128-40, ranks 0-0",
        "left as it was: norm: LayerNorm outside of an nn.Sequential",
        "left as it was: blocks.1.1: Tanh is not known to the engine",
        "left as it was: head.0: Flatten is not known to the engine",
        "left as it was: head.1: Linear without a ReLU after or before it",
        "left as it was: head.2: Softmax is not known to the engine",
        "predictions that differ: 0.00% of 200 held out",
    ]
    assert not any(isinstance(part, Chain) for part in model.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_chain_deep_inside():
    inner = nn.Sequential(linear(8, 8), nn.ReLU())
    model = nn.Sequential(nn.Tanh(), nn.ModuleDict({"a": nn.ModuleList([inner])}), linear(8, 2), nn.ReLU())
    found, left = search(model)
    assert [chain.name for chain in found] == ["1.a.0.0 to 1.a.0.1", "2 to 3"]
    assert [rest.name for rest in left] == ["0"]


def test_what_is_not_understood_is_named():
    hooked = linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(hooked, nn.ReLU(), linear(4, 4).double(), nn.ReLU(), linear(4, 4), nn.GELU())
    found, left = search(model)
    assert not found
    assert [f"{name}: {reason}" for name, reason in left] == [
        "0: Linear with hooks",
        "1: ReLU is not known to the engine",
        "2: Linear in torch.float64 on cpu",
        "3: ReLU is not known to the engine",
        "4: Linear without a ReLU after or before it",
        "5: GELU is not known to the engine",
    ]


def test_more_dimensions(inputs):
    model = classifier()
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    x = inputs[:12].reshape(3, 4, 60)
    torch.testing.assert_close(fast(x), model(x).detach(), rtol=1e-4, atol=1e-4)


def test_after_modules_that_would_give_gradients(inputs):
    """Without that the chain's input would ask for gradients, and the engine has none."""
    model = nn.Sequential(nn.LayerNorm(60), classifier())
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    torch.testing.assert_close(fast(inputs), model(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert not fast(inputs).requires_grad
    assert {plan.batch_size for plan in fast.plans} == {1024}


def test_it_only_predicts(inputs):
    fast = accelerate(classifier(), inputs, max_disagreement=0.0, threads=1)
    assert not fast.eval().training
    with pytest.raises(
        UserError, match=r"^an accelerated model only predicts: train the original and accelerate it again$"
    ):
        fast.train()


def test_the_original_keeps_its_mode(inputs):
    model = classifier().train()
    accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert model.training
    assert model[2].training


@pytest.mark.parametrize(
    ("model", "samples", "message"),
    [
        (classifier(), 3, "calibration_inputs hold 3 samples: expected 4 or more"),
        (
            nn.Sequential(nn.Tanh()),
            8,
            "no Linear -> ReLU chain in an nn.Sequential was found (0: Tanh is not known to the engine)",
        ),
        (
            classifier(bias=float("nan")),
            8,
            "layer 1 of 0 to 5 (60x256) holds NaN or infinity: nothing to compile",
        ),
    ],
)
def test_what_is_refused(inputs, model, samples, message):
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(model, inputs[:samples])
