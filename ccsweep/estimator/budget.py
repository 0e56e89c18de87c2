"""Ranks from a budget: spend it where it saves most false-offs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ccsweep.errors import UserError
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import LowRank

SAMPLES = 1000  # false-offs are counted on at most so many


def ranks_within(layers: Sequence[LayerData], estimator: LowRank, budget: float, dense: int) -> list[int]:
    """One rank per layer, so that all estimators together cost at most ``budget * dense``.

    A layer of rank r costs ``r (d + h)`` multiplications. From rank 1 everywhere, the budget goes step
    by step to the layer where the next ranks save most false-offs for their cost, at threshold 0.

    Args:
        layers: those that get an estimator, with calibration inputs.
        estimator: whose directions are kept.
        budget: share of the dense work.
        dense: multiplications of the dense network for one sample.

    Raises:
        UserError: the budget does not pay for rank 1 in every layer.
    """
    left = budget * dense - sum(sum(layer.weight.shape) for layer in layers)
    if left < 0:
        least = sum(sum(layer.weight.shape) for layer in layers) / dense
        raise UserError(
            f"ranks.budget={budget:g}: does not pay for rank 1 in every layer; expected {least:.3g} or more"
        )
    ranks = [1] * len(layers)
    steps = [_steps(layer, estimator, int(left // sum(layer.weight.shape)) + 1) for layer in layers]
    # The steps of one layer save less and less each (see _steps), so the best next step is the best in all.
    order = sorted(
        ((saved, i, more) for i, of_one in enumerate(steps) for saved, more in of_one), reverse=True
    )
    for _, i, more in order:
        each = sum(layers[i].weight.shape)
        more = min(more, int(left // each))  # what is left may pay for a part of the step
        ranks[i] += more
        left -= more * each
    return ranks


def _steps(layer: LayerData, estimator: LowRank, most: int) -> list[tuple[float, int]]:
    """Steps up from rank 1: false-offs saved per multiplication, which never rises, and ranks added."""
    each, most = sum(layer.weight.shape), min(most, *layer.weight.shape)
    grid = sorted({min(round(1.3**k), most) for k in range(40)})
    points = list(zip(grid, _false_offs(layer, estimator, grid), strict=True))
    hull: list[tuple[int, float]] = []  # the lower convex hull
    for rank, missed in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (rank, missed)):
            hull.pop()
        hull.append((rank, missed))
    return [(-_slope(a, b) / each, b[0] - a[0]) for a, b in pairwise(hull) if a[1] > b[1]]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _false_offs(layer: LayerData, estimator: LowRank, grid: Sequence[int]) -> list[float]:
    """Positive units gated off per sample, at each rank."""
    x = layer.inputs[:SAMPLES]
    positive: Tensor = layer.preactivation[: len(x)] > 0
    directions = estimator.spectrum(layer).directions[:, : grid[-1]]
    missed = []
    for rank in grid:
        gate = estimator.project(layer, directions[:, :rank]).gate(x, layer.bias)
        missed.append(float(torch.count_nonzero(positive & ~gate)) / len(x))
    return missed
