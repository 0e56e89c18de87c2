"""Factors trained on what the gate is for: the sign."""

import torch
from torch.nn import functional as F

from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.whitened import Whitened

PASSES, BATCH, LEARNING_RATE = 10, 250, 1e-3
_LOGISTIC = 1.7  # a logistic curve this many times as steep is within 0.01 of the normal distribution's


class Learned(Whitened):
    """Starts from whitened factors and lowers the logistic loss of the sign; the network is frozen.

    The logit is the score over the standard deviation of the start's error, so that it gives the
    probability of a positive sign from the first step on; with a softer one, training first moves every
    unit towards its more frequent sign, and false-offs double. The same data and start give the same factors.
    """

    name = "learned"

    def factors(
        self, layer: LayerData, rank: int, method: str = "full", previous: Factors | None = None
    ) -> Factors:
        """Factors of one rank; with ``method="warm"`` they start from ``previous``."""
        x = layer.inputs
        if method == "warm" and previous is not None and len(previous.v) == rank:
            start = previous
        else:
            start = super().factors(layer, rank, method)
        positive = (layer.preactivation > 0).float()
        start = start._replace(shift=torch.zeros_like(start.shift))  # without thresholds set before
        error = (start.scores(x, layer.bias) - layer.preactivation).std()
        scale = error.clamp(min=1e-3 * float(layer.preactivation.std()) + 1e-12) / _LOGISTIC
        # Balanced factors: both get steps of the same relative size.
        root = start.u.norm(dim=0).clamp(min=1e-12).sqrt()
        trained = [start.u / root, start.v * root[:, None], start.shift]
        parameters = [p.clone().requires_grad_() for p in trained]
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            for _ in range(PASSES):
                for chosen in torch.randperm(len(x), generator=generator).to(x.device).split(BATCH):
                    u, v, shift = parameters
                    logits = (x[chosen] @ u @ v + layer.bias) / scale + shift
                    loss = F.binary_cross_entropy_with_logits(logits, positive[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        u, v, shift = (p.detach() for p in parameters)
        return Factors(u, v, shift * scale)
