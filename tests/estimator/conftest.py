"""Layers made of random numbers, small enough for property tests."""

import torch

from ccsweep.estimator.layer import LayerData


def make(inputs: int, units: int, samples: int = 60, seed: int = 0, mean: float = 0.5) -> LayerData:
    """A layer of units of different scales, whose inputs are correlated and not centred."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=generator) * torch.logspace(0, -1, inputs)[:, None]
    x = torch.randn(samples, inputs, generator=generator) @ mix + mean
    weight = torch.randn(inputs, units, generator=generator) * torch.logspace(0, -1, units)
    bias = 0.1 * torch.randn(units, generator=generator)
    return LayerData(weight, bias, lambda: x)
