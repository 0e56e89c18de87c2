"""What changes from epoch to epoch, as pure functions of the epoch, so that resuming is exact."""

from collections.abc import Iterable

import torch
from torch import nn

from ccsweep.config.schema import TrainingConfig


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """``learning_rate * learning_rate_decay ** epoch``; the first epoch is 0."""
    return config.learning_rate * config.learning_rate_decay**epoch


def momentum(config: TrainingConfig, epoch: int) -> float:
    """``momentum * momentum_growth ** epoch``, never above ``momentum_max``."""
    return min(config.momentum * config.momentum_growth**epoch, config.momentum_max)


@torch.no_grad()
def limit_norms(layers: Iterable[nn.Linear], max_norm: float) -> None:
    """Scale each unit's incoming weights, in place, so that their Euclidean norm is at most max_norm."""
    for layer in layers:
        layer.weight.renorm_(2, 0, max_norm)
