"""One hidden layer as an activation estimator sees it: its weights, and the inputs it really gets."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ccsweep.errors import UserError


class Moments(NamedTuple):
    """First and second moment of a layer's inputs, and how many samples they were taken from."""

    mean: Tensor
    """(in_features,)"""
    second: Tensor
    """(in_features, in_features): A^T A / N, not centred."""
    samples: int


class Spectrum(NamedTuple):
    """What a layer's map does, strongest first: k = min(in_features, units) directions at most."""

    values: Tensor
    """(k,) singular values, descending."""
    directions: Tensor
    """(units, k), orthonormal: the right singular vectors."""


class LayerData:
    """Weights and calibration inputs of one layer, with all that follows from them computed once.

    Args:
        weight: (in_features, units), W as the paper writes it.
        bias: (units,).
        inputs: gives (samples, in_features), what the layer gets on calibration data; called at most
            once, and only by who looks at data. None: there is no calibration data.
        moments: running moments to use in place of those of ``inputs``.

    Raises:
        UserError: a weight, a bias or (once looked at) an input is NaN or infinite.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        inputs: Callable[[], Tensor] | None = None,
        moments: Moments | None = None,
    ) -> None:
        self.weight, self.bias = weight.detach().float(), bias.detach().float()
        self._inputs, self._moments = inputs, moments
        self.spectra: dict[str, Spectrum] = {}
        """Full decompositions by estimator name, filled by the estimators."""
        self.require_finite("weights", self.weight)
        self.require_finite("biases", self.bias)

    def __str__(self) -> str:
        return f"{self.weight.shape[0]}x{self.weight.shape[1]}"

    @cached_property
    def inputs(self) -> Tensor:
        """Calibration inputs (samples, in_features).

        Raises:
            UserError: there are none.
        """
        x = self._inputs().detach().float() if self._inputs is not None else None
        if x is None or not len(x):
            raise UserError(f"estimator.calibration: the {self} layer needs calibration samples; found none")
        self.require_finite("inputs", x)
        return x

    @cached_property
    def moments(self) -> Moments:
        """Running moments where given, else those of the calibration inputs."""
        if self._moments is not None:
            return self._moments
        x = self.inputs
        return Moments(x.mean(0), x.T @ x / len(x), len(x))

    @cached_property
    def preactivation(self) -> Tensor:
        """(samples, units), of the calibration inputs."""
        return torch.addmm(self.bias, self.inputs, self.weight)

    @property
    def source(self) -> str:
        """The setting that ``moments`` come from."""
        return "estimator.calibration" if self._moments is None else "estimator.moments=running"

    def require_finite(self, name: str, tensor: Tensor) -> None:
        """Raise UserError where ``tensor`` is not finite."""
        # A sum is never finite if a summand is not, and reads twenty times as fast; but it may overflow.
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise UserError(f"the {self} layer's {name} hold NaN or infinity; no estimator can be fitted")
