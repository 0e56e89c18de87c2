"""Short races, and inputs as real data are."""

import pytest
import torch
from torch import nn

from ccsweep.engine import tune
from ccsweep.engine.accelerate import whole


@pytest.fixture(autouse=True)
def _short_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "SECONDS", 0.0)
    monkeypatch.setattr(whole, "find_spec", lambda name: None)  # an export takes a second


@pytest.fixture(scope="session")
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
    """60-256-64-5, few of whose units are positive."""
    torch.manual_seed(1)
    return nn.Sequential(
        linear(60, 256, bias), nn.ReLU(), nn.Dropout(0.5), linear(256, 64), nn.ReLU(), linear(64, 5)
    ).eval()
