"""Small networks as plain layers."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ccsweep.config.schema import RanksConfig
from ccsweep.engine.layers import Layer
from ccsweep.estimator.factors import Factors
from ccsweep.network import ConditionalMLP


def draw(sizes: list[int], rank: int, seed: int) -> list[Layer]:
    """Layers of small whole numbers, hidden ones with a gate of this rank (0: only bias and shift)."""
    generator = np.random.default_rng(seed)

    def whole(*shape: int) -> np.ndarray:
        return generator.integers(-2, 3, shape).astype(np.float32)

    layers = []
    for k, (inputs, units) in enumerate(pairwise(sizes)):
        hidden = k < len(sizes) - 2
        factors = whole(inputs, rank), whole(rank, units), whole(units)
        gate = Factors(*map(torch.from_numpy, factors)) if hidden else None
        layers.append(Layer(whole(units, inputs), whole(units), hidden, gate))
    return layers


@pytest.fixture(scope="session")
def network() -> ConditionalMLP:
    """40-24-16-5, gated, not trained: half of its units are positive."""
    torch.manual_seed(0)
    network = ConditionalMLP([40, 24, 16, 5], RanksConfig([20, 14]))
    network.initialise(weight_std=0.3, bias=0.1)
    network.refresh()
    return network.eval()
