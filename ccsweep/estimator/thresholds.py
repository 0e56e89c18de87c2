"""Where to draw the line between units computed and units skipped, from calibration data."""

import torch
from torch import Tensor

from ccsweep.errors import UserError


def energy_thresholds(scores: Tensor, preactivation: Tensor, loss: float) -> Tensor:
    """For each unit the largest threshold that loses at most a share of its activation energy.

    The energy of a unit is the sum of ``relu(preactivation) ** 2`` over the samples; it is lost in
    samples whose score does not exceed the threshold. A unit that is never positive loses nothing
    and gets the highest score seen.

    Args:
        scores: (samples, units), the estimator's guess.
        preactivation: (samples, units).
        loss: the share, above 0 and below 1.

    Returns:
        (units,)

    Raises:
        UserError: ``loss`` is not a share, or there are no samples.
    """
    if not 0 < loss < 1:
        raise UserError(f"estimator.energy_loss={loss:g}: expected a share above 0 and below 1")
    _require_samples(scores)
    ordered, order = scores.sort(dim=0)
    lost = preactivation.relu().square().gather(0, order).double().cumsum(0)
    # The first sample, by score, whose loss would be too much: the threshold lies just below its score.
    allowed = (lost <= loss * lost[-1]).sum(0)
    first = ordered.gather(0, allowed.clamp(max=len(scores) - 1)[None])[0]
    below = first.nextafter(first.new_tensor(-torch.inf))
    return torch.where(allowed == len(scores), ordered[-1], below)


def density_threshold(scores: Tensor, density: float) -> Tensor:
    """The threshold, one for the layer, at which a share of all (sample, unit) pairs is computed.

    Args:
        scores: (samples, units).
        density: the share, above 0 and at most 1.

    Returns:
        (units,), all the same.

    Raises:
        UserError: ``density`` is not a share, or there are no samples.
    """
    if not 0 < density <= 1:
        raise UserError(f"estimator.density={density:g}: expected a share above 0 and at most 1")
    _require_samples(scores)
    skipped = scores.numel() - max(1, round(density * scores.numel()))
    flat = scores.flatten()
    if skipped == 0:
        threshold = flat.min().nextafter(flat.new_tensor(-torch.inf))
    else:
        threshold = flat.kthvalue(skipped).values
    return threshold.expand(scores.shape[1])


def _require_samples(scores: Tensor) -> None:
    if not len(scores):
        raise UserError("estimator.calibration: thresholds need calibration samples; found none")
