"""From layers and settings to factors: ranks, directions, thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.budget import ranks_within
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import energy_rank
from ccsweep.estimator.thresholds import density_threshold, energy_thresholds


@dataclass(frozen=True)
class Estimator:
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


def fit(
    layers: Sequence[LayerData],
    settings: Estimator,
    dense: int,
    previous: Sequence[Factors] | None = None,
) -> list[Factors]:
    """Factors for each layer.

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
        found.append(_with_threshold(factors, layer, settings))
    return found


def _ranks(layers: Sequence[LayerData], settings: Estimator, dense: int) -> Sequence[int]:
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


def _with_threshold(factors: Factors, layer: LayerData, settings: Estimator) -> Factors:
    if settings.energy_loss is None and settings.density is None:
        return factors._replace(shift=factors.shift - settings.threshold)
    scores = factors.scores(layer.inputs, layer.bias)
    if settings.energy_loss is not None:
        threshold = energy_thresholds(scores, layer.preactivation, settings.energy_loss)
    else:
        assert settings.density is not None
        threshold = density_threshold(scores, settings.density)
    return factors._replace(shift=factors.shift - threshold)
