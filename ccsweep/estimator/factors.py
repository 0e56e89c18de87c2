"""Factorising a layer's weights: ``W ~ U V`` with ``U`` (in_features, rank), ``V`` (rank, units)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """The two factors of an activation estimator: U (in_features, rank) and V (rank, units)."""

    u: Tensor
    v: Tensor


def svd(weight: Tensor, rank: int | None = None, energy: float | None = None) -> Factors:
    """Truncated singular value decomposition, the paper's estimator (section 3).

    The singular values are shared out as ``sqrt(S)`` to both sides, which keeps the two factors on
    one scale and so costs least in bfloat16.

    Args:
        weight: (in_features, units), any floating type; decomposed in float32.
        rank: columns of U, at most ``min(in_features, units)``.
        energy: where no rank is given: the share of ``sum(S ** 2)`` that the rank must keep.

    Returns:
        Factors in the type and on the device of ``weight``.
    """
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    if rank is None:
        rank = energy_rank(values, 1.0 if energy is None else energy)
    root = values[:rank].sqrt()
    return Factors((left[:, :rank] * root).to(weight.dtype), (root[:, None] * right[:rank]).to(weight.dtype))


def energy_rank(values: Tensor, share: float) -> int:
    """The smallest rank that keeps ``share`` of the spectral energy.

    Args:
        values: singular values, descending.
        share: of ``sum(values ** 2)``, above 0 and at most 1.

    Returns:
        A rank of at least 1.
    """
    kept = values.double().square().cumsum(0)
    # Rounding may leave the last sum a hair short of the whole, hence the tolerance.
    enough = kept >= share * kept[-1] * (1 - 1e-12)
    return int(enough.int().argmax()) + 1


#: A new estimator is one function here and one file in ``conf/estimator/``.
ESTIMATORS: dict[str, Callable[..., Factors]] = {"svd": svd}
