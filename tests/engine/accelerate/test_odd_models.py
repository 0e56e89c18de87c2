"""Models that do something around or between their layers that no graph shows: the same outputs, or one line."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ccsweep.engine.accelerate import accelerate
from ccsweep.errors import UserError
from tests.engine.accelerate.architectures import mlp


class Around(nn.Module):
    """Layers, and a forward that calls them somehow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.others = mlp(16, 32, 4), mlp(16, 32, 4)


class OwnCall(Around):
    def __call__(self, x: Tensor) -> Tensor:
        return 3 * super().__call__(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class HoldsOwnCall(Around):
    def __init__(self) -> None:
        super().__init__()
        self.inner = OwnCall()
        self.outer = mlp(4, 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.relu(self.inner(x)))


class GoesByTheBatch(Around):
    """Its calibration inputs, many at a time, never reach the layers that few do."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) if float(x.abs().sum()) < 40 else self.others(x)


class Mapped(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.others(x) + (torch.vmap(self.layers)(x) if len(x) else self.layers(x))


def normed_by_the_batch() -> nn.Module:
    """It refuses a batch of one."""
    return nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32, track_running_stats=False), nn.ReLU(), *mlp(32, 16, 4)
    )


def holds_a_script() -> nn.Module:
    script = torch.jit.script(nn.Sequential(nn.Linear(16, 16), nn.Tanh()))
    return nn.Sequential(script, *mlp(16, 32, 4))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
@pytest.mark.parametrize("batch", [0, 1, 7, 256])
@pytest.mark.parametrize("make", [OwnCall, HoldsOwnCall, GoesByTheBatch, normed_by_the_batch, holds_a_script])
def test_it_gives_the_outputs_of_the_original(make, batch: int) -> None:
    torch.manual_seed(0)
    model = make().eval()
    fast = accelerate(model, torch.randn(64, 16), 0, threads=1)
    x = torch.randn(batch, 16)
    try:
        expected = model(x)
    except ValueError as error:
        with pytest.raises(ValueError, match="^" + re.escape(str(error)) + "$"):
            fast(x)
    else:
        torch.testing.assert_close(fast(x), expected, rtol=1e-4, atol=1e-4)


class Autocast(Around):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layers(x)


class OtherWeights(Around):
    def forward(self, x: Tensor) -> Tensor:
        doubled = {name: 2 * value for name, value in self.layers.named_parameters()}
        return functional_call(self.layers, doubled, (x,))


@pytest.mark.parametrize("make", [Autocast, OtherWeights])
def test_layers_called_with_other_weights_or_types_are_refused(make) -> None:
    message = (
        "with layers in the engine the model gives other outputs: its forward depends on more than its inputs, "
        "or calls layers within autocast or functional_call"
    )
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(make().eval(), torch.randn(64, 16), 0, threads=1)


def test_lazy_modules_have_to_be_called_first() -> None:
    model = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(4)).eval()
    message = "the model has lazy modules without weights: call it once, then accelerate it"
    with pytest.raises(UserError, match=f"^{message}$"):
        accelerate(model, torch.randn(64, 16), 0, threads=1)
    x = torch.randn(64, 16)
    expected = model(x)
    torch.testing.assert_close(accelerate(model, x, 0, threads=1)(x), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_called_alone_stays_as_it_was() -> None:
    torch.manual_seed(0)
    model = Mapped().eval()
    fast = accelerate(model, torch.randn(64, 16), 0, threads=1)
    assert [line.partition(":")[2].partition(",")[0] for line in fast.report.chains] == [
        " others.0 to others.2: 16-32-4"
    ]
    (left,) = [one for one in fast.report.left if one.name == "layers"]
    assert left.reason.startswith("its forward cannot be called alone (RuntimeError: ")
    x = torch.randn(7, 16)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
