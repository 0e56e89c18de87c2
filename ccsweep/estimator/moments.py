"""Second moments that follow training: kept up from the batches that pass by."""

import torch
from torch import Tensor, nn

from ccsweep.estimator.layer import Moments

DECAY = 0.98
EVERY = 10  # training steps: A^T A of each batch would cost as much as the layer's own forward pass


class RunningMoments(nn.Module):
    """Exponential moving moments of a layer's inputs, as it gets them in training, dropout included.

    They are buffers, so a resumed run goes on with them.
    """

    mean: Tensor
    second: Tensor
    weight: Tensor
    samples: Tensor

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("second", torch.zeros(in_features, in_features))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("samples", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in one batch (batch, in_features)."""
        x = x.float()
        self.mean.mul_(DECAY).add_(x.mean(0), alpha=1 - DECAY)
        self.second.mul_(DECAY).addmm_(x.T, x, alpha=(1 - DECAY) / len(x))
        self.weight.mul_(DECAY).add_(1 - DECAY)
        self.samples += len(x)

    def moments(self) -> Moments | None:
        """The moments so far, the start's zeros divided out; None before the first batch."""
        if not int(self.samples):
            return None
        return Moments(self.mean / self.weight, self.second / self.weight, int(self.samples))
