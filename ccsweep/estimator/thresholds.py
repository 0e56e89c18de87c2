"""Where to draw the line between units computed and units skipped, from calibration data."""

import numpy as np
import torch
from torch import Tensor

from ccsweep.errors import UserError

_UNITS = 256  # at a time: a wide layer's scores, sorted, would take gigabytes


def energy_thresholds(scores: Tensor, preactivation: Tensor, loss: float) -> Tensor:
    """For each unit the largest threshold that loses at most a share of its activation energy.

    The energy of a unit is the sum of ``relu(preactivation) ** 2`` over the samples; it is lost in
    samples whose score does not exceed the threshold. Thresholds lie halfway between two scores, so that
    no rounding moves a sample to the other side; above all scores for a unit that is never positive.

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
    blocks = zip(scores.split(_UNITS, dim=1), preactivation.split(_UNITS, dim=1), strict=True)
    return torch.cat([_energy_thresholds(s.T.contiguous(), p.T, loss) for s, p in blocks])


def _energy_thresholds(scores: Tensor, preactivation: Tensor, loss: float) -> Tensor:
    order = _ascending(scores)
    lost = preactivation.relu().square().gather(1, order).double().cumsum(1)
    # The first sample, by score, whose loss would be too much, is the first to keep.
    allowed = (lost <= loss * lost[:, -1:]).sum(1)
    samples = scores.shape[1]
    first = order.gather(1, allowed.clamp(max=samples - 1)[:, None])
    kept = torch.where(allowed == samples, torch.inf, scores.gather(1, first)[:, 0])
    return _between(scores.T, kept)


def _ascending(rows: Tensor) -> Tensor:
    """The order of each row's values, upwards."""
    if rows.device.type == "cpu":  # NumPy sorts with vector instructions: four times as fast as torch
        return torch.from_numpy(np.argsort(rows.numpy(), axis=1))
    return rows.argsort(dim=1)


def density_threshold(scores: Tensor, density: float) -> Tensor:
    """The threshold, one for the layer, at which a share of all (sample, unit) pairs is computed.

    Of equal scores all are computed or none, whichever comes nearer to the share.

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
    flat = scores.flatten()
    wanted = max(1, round(density * len(flat)))
    least = flat.kthvalue(len(flat) - wanted + 1).values  # the lowest score to keep, if no other equals it
    with_ties, without = int((flat >= least).sum()), int((flat > least).sum())
    if without and wanted - without < with_ties - wanted:
        least = flat[flat > least].min()
    return _between(flat[:, None], least[None]).expand(scores.shape[1])


def _between(scores: Tensor, kept: Tensor) -> Tensor:
    """Halfway from the lowest score to keep, per unit, down to the next one; infinite keeps none.

    Beyond the lowest and the highest score there is a margin of a thousandth of their distance.
    """
    low, high = scores.amin(0), scores.amax(0)
    margin = (
        1e-3 * (high - low) + 1e-5 * torch.maximum(high.abs(), low.abs()) + torch.finfo(scores.dtype).tiny
    )
    below = scores.masked_fill(scores >= kept, -torch.inf).amax(0)
    below = torch.where(below.isinf(), low - 2 * margin, below)
    return torch.where(kept.isinf(), high + margin, (below + kept) / 2)


def _require_samples(scores: Tensor) -> None:
    if not len(scores):
        raise UserError("estimator.calibration: thresholds need calibration samples; found none")
