"""From layers and settings to factors: ranks and directions, then thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.budget import ranks_within
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import energy_rank
from ccsweep.estimator.thresholds import density_threshold, energy_thresholds


@dataclass(frozen=True)
class EstimatorSettings:
    """How the layers of a network guess signs; the keys of ``conf/estimator`` and ``conf/ranks``.

    Exactly one of ``ranks``, ``energy`` and ``budget`` says how large the factors are; at most one of
    ``energy_loss`` and ``density`` takes the place of ``threshold``.
    """

    name: str = "svd"
    ranks: tuple[int, ...] | None = None
    """One per layer with an estimator."""
    energy: float | None = None
    """The smallest ranks that keep this share of spectral energy."""
    budget: float | None = None
    """Ranks that cost this share of the dense work; see ``ranks_within``."""
    threshold: float = 0.0
    energy_loss: float | None = None
    """Per-unit thresholds; see ``energy_thresholds``."""
    density: float | None = None
    """One threshold a layer; see ``density_threshold``."""
    refresh: str = "full"
    """``full``, ``randomised`` or ``warm``; see ``LowRank.factors``."""

    @property
    def thresholds_by_data(self) -> bool:
        """Whether thresholds come from calibration data."""
        return self.energy_loss is not None or self.density is not None


def fit(
    layers: Sequence[LayerData],
    settings: EstimatorSettings,
    dense: int,
    previous: Sequence[Factors] | None = None,
) -> list[Factors]:
    """Factors for each layer; thresholds from data are :func:`with_thresholds`' business.

    Args:
        layers: those that get an estimator, in order.
        settings: how.
        dense: multiplications of the whole dense network for one sample, for ``budget``.
        previous: the factors before, for ``refresh="warm"``.

    Raises:
        UserError: what the settings ask for cannot be had from these layers.
    """
    estimator = ESTIMATORS[settings.name]
    found = []
    for i, (layer, rank) in enumerate(zip(layers, _ranks(layers, settings, dense), strict=True)):
        start = previous[i] if previous is not None else None
        factors = estimator.factors(layer, rank, settings.refresh, start)
        found.append(factors._replace(shift=factors.shift - settings.threshold))
    return found


def _ranks(layers: Sequence[LayerData], settings: EstimatorSettings, dense: int) -> Sequence[int]:
    estimator = ESTIMATORS[settings.name]
    if settings.ranks is not None:
        for layer, rank in zip(layers, settings.ranks, strict=True):
            if not 1 <= rank <= (most := min(layer.weight.shape)):
                raise UserError(f"rank {rank} for the {layer} layer: expected 1 to {most}")
        return settings.ranks
    if settings.budget is not None:
        return ranks_within(layers, estimator, settings.budget, dense)
    share = 1.0 if settings.energy is None else settings.energy
    return [energy_rank(estimator.spectrum(layer).values, share) for layer in layers]


def with_thresholds(
    factors: Factors, settings: EstimatorSettings, x: Tensor, weight: Tensor, bias: Tensor
) -> Factors:
    """The factors with thresholds from calibration data, where the settings ask for them.

    Args:
        factors: from :func:`fit`.
        settings: how.
        x: (samples, in_features), what the layer gets when the layers before it are gated as they will be.
        weight: (in_features, units).
        bias: (units,).
    """
    scores = factors.scores(x, bias)
    if settings.energy_loss is not None:
        threshold = energy_thresholds(scores, torch.addmm(bias, x, weight), settings.energy_loss)
    elif settings.density is not None:
        threshold = density_threshold(scores, settings.density)
    else:
        return factors
    return factors._replace(shift=factors.shift - threshold)
