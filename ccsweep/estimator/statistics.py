"""How good a gate is: counts that add up over batches, and the shares they give."""

from typing import NamedTuple

import torch
from torch import Tensor


class GateStatistics(NamedTuple):
    """Shares of one layer's (sample, unit) pairs, each between 0 and 1.

    "Positive" is the sign of the pre-activation that the layer has on the input it really got, which
    earlier gates have shaped. Without an estimator every unit is computed, so ``density`` and
    ``false_on`` are 1, and no sign is guessed: ``sign_agreement`` is None.
    """

    density: float
    """Units computed."""
    true_density: float
    """Units positive."""
    false_off: float
    """Of the positive units, those gated off: they cost accuracy."""
    false_on: float
    """Of the zero units, those computed: they cost time."""
    sign_agreement: float | None
    """Units whose gate equals their sign."""


def count(preactivation: Tensor, gate: Tensor | None) -> Tensor:
    """Counts of one batch: all pairs, computed, positive, positive but gated off.

    Args:
        preactivation: (batch, units).
        gate: bool (batch, units), or None where there is no estimator.

    Returns:
        int64 (4,), on the device of the input: sums of it need no synchronisation.
    """
    positive = preactivation > 0
    pairs = torch.tensor(positive.numel(), device=positive.device)
    on = positive.count_nonzero()  # several times as fast as a sum of bools
    if gate is None:
        return torch.stack([pairs, pairs, on, torch.zeros_like(pairs)])
    return torch.stack([pairs, gate.count_nonzero(), on, (positive & ~gate).count_nonzero()])


def statistics(counts: Tensor, gated: bool) -> GateStatistics:
    """Shares from summed counts.

    Args:
        counts: a sum of what :func:`count` returns, (4,).
        gated: whether the layer has an estimator.
    """
    pairs, computed, positive, missed = (int(c) for c in counts)
    wasted = computed - (positive - missed)
    return GateStatistics(
        density=_share(computed, pairs),
        true_density=_share(positive, pairs),
        false_off=_share(missed, positive),
        false_on=_share(wasted, pairs - positive),
        sign_agreement=_share(pairs - missed - wasted, pairs) if gated else None,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
