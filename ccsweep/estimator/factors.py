"""What an activation estimator is at run time: ``x U V + b + shift > 0`` says which units to compute."""

from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Two thin factors and one number a unit."""

    u: Tensor
    """(in_features, rank)"""
    v: Tensor
    """(rank, units)"""
    shift: Tensor
    """(units,): what centring adds, less the unit's threshold."""

    def scores(self, x: Tensor, bias: Tensor) -> Tensor:
        """The guess (batch, units) whose sign is the gate, for x (batch, in_features)."""
        return torch.addmm(bias + self.shift, x @ self.u, self.v)

    def gate(self, x: Tensor, bias: Tensor) -> Tensor:
        """The units to compute, bool (batch, units)."""
        return self.scores(x, bias) > 0


def sign_disagreement(old: Factors, new: Factors, x: Tensor, bias: Tensor) -> float:
    """Share of (sample, unit) pairs whose gate differs between two factors of one layer."""
    return float((old.gate(x, bias) != new.gate(x, bias)).float().mean())


def subspace_angle(old: Factors, new: Factors) -> float:
    """Largest principal angle, in degrees, between the directions that two factors keep.

    The directions are the rows of V. With different ranks it is the angle by which the smaller
    subspace leaves the larger one.
    """
    if not min(len(old.v), len(new.v)):
        return 90.0
    a, b = (torch.linalg.qr(f.v.T.double())[0] for f in (old, new))
    cosine = torch.linalg.svdvals(a.T @ b)[-1].clamp(0.0, 1.0)
    return float(cosine.acos().rad2deg())
