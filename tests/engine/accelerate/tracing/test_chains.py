"""What is a chain, and what is not, where the architectures do not say it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ccsweep.engine.accelerate import accelerate
from ccsweep.errors import UserError
from tests.engine.accelerate.architectures import mlp


class By(nn.Module):
    """Two layers with a function between."""

    def __init__(self, between) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Linear(24, 16), nn.Linear(16, 5), between

    def forward(self, x):
        return self.b(self.between(self.a(x)))


class WithUse(By):
    def forward(self, x):
        h = self.a(x)
        return self.b(self.between(h)) + h.sum(-1, keepdim=True)


RELUS = {
    "F.relu": F.relu,
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "in place": lambda x: x.relu_(),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "clamp": lambda x: torch.clamp(x, min=0),
    "clip": lambda x: x.clip(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold": nn.Threshold(0.0, 0.0),
    "aten": torch.ops.aten.relu.default,
    "dropout before": lambda x: F.dropout(x, 0.5, False).relu(),
    "a constant added": lambda x: (x + torch.ones(16)).relu(),
    "contiguous": lambda x: x.contiguous().relu().clone(),
}
OTHERS = {
    "F.gelu": F.gelu,
    "clamp to one": lambda x: x.clamp(0, 1),
    "clamp from one": lambda x: x.clamp_min(1),
    "threshold at one": lambda x: F.threshold(x, 1, 0),
    "nn.LeakyReLU": nn.LeakyReLU(),
    "scaled": lambda x: (x * 2).relu() * 3,
    "a column added": lambda x: (x + x[:, :1]).relu(),
    "twice": lambda x: x.relu() + x,
    "transposed": lambda x: x.T.relu().T,
}


def found(model: nn.Module) -> tuple[str, ...]:
    torch.manual_seed(0)
    given = torch.randn(40, 24)
    expected = model.eval()(given).detach()
    try:
        fast = accelerate(model, given, max_disagreement=0, threads=1)
    except UserError:
        return ()
    torch.testing.assert_close(fast(given), expected, rtol=1e-4, atol=1e-4)
    return tuple(line.removeprefix("in the engine: ").partition(", ranks")[0] for line in fast.report.chains)


@pytest.mark.parametrize("how", RELUS)
def test_a_relu_however_it_is_written(how):
    assert found(By(RELUS[how])) == ("a to b: 24-16-5",)


@pytest.mark.parametrize("how", OTHERS)
def test_what_is_no_relu(how):
    assert found(By(OTHERS[how])) == ()


def test_a_value_that_is_used_elsewhere_ends_the_chain():
    assert found(WithUse(F.relu)) == ()


def test_dropout_that_is_always_on_is_no_silence():
    model = By(lambda x: F.dropout(x, 0.5).relu())
    with pytest.raises(UserError, match=r"^the model gives other outputs for the same inputs"):
        accelerate(model.eval(), torch.randn(40, 24))


def test_inputs_that_change_while_the_chain_runs():
    """The chain runs where its last operation stood, and would see another input: found by comparing."""

    class Model(By):
        def forward(self, x):
            x = x * 1.0
            h = self.a(x)
            x.add_(1.0)
            return self.b(h.relu()) + x[:, :5]

    assert found(Model(None)) == ()


def test_why_what_is_left_is_left():
    hooked = nn.Linear(24, 24)
    hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(hooked, *mlp(24, 16, 24), nn.GELU(), nn.Linear(24, 4)).eval()
    fast = accelerate(model, torch.randn(40, 24), max_disagreement=0, threads=1)
    assert [f"{name}: {reason}" for name, reason in fast.report.left] == [
        "0: Linear with hooks",
        "4: GELU is not known to the engine",
        "5: Linear without a ReLU after or before it",
    ]


def test_double_weights_stay():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.body = mlp(24, 16, 24).double(), mlp(24, 16, 5)

        def forward(self, x):
            return self.body(self.wide(x.double()).float())

    fast = accelerate(Model().eval(), torch.randn(40, 24), max_disagreement=0, threads=1)
    assert [line.partition(", ")[0] for line in fast.report.chains] == [
        "in the engine: body.0 to body.2: 24-16-5"
    ]
    assert ("wide.0", "Linear in torch.float64 on cpu") in fast.report.left


def test_modules_that_are_never_called_are_named():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.aux = mlp(24, 16, 5), mlp(24, 16, 5)

        def forward(self, x):
            return (self.body(x), self.aux(x)) if self.training else self.body(x)

    assert found(Model()) == ("body.0 to body.2: 24-16-5",)
