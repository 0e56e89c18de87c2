"""Factors that lose least of the pre-activations on the layer's real inputs, with and without their mean."""

from torch import Tensor

from ccsweep.errors import UserError
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import LowRank


class Whitened(LowRank):
    """Minimises the mean squared error of ``x U V`` against ``x W``: the SVD of the whitened weights.

    With ``A^T A / N = L L^T`` the truncated SVD ``L^T W = P S Q^T`` gives ``U = L^-T P S = W Q``.
    """

    name = "whitened"
    weighs_inputs = True

    def metric(self, layer: LayerData) -> Tensor | None:
        """The second moment of the inputs."""
        return layer.moments.second

    def check(self, layer: LayerData, rank: int) -> None:
        """Raise UserError where too few samples were seen to know ``rank`` directions."""
        if (samples := layer.moments.samples) < rank:
            raise UserError(
                f"{layer.source}: {self.name} factors of rank {rank} for the {layer} layer need at "
                f"least {rank} calibration samples; found {samples}"
            )


class WhitenedCentred(Whitened):
    """Like ``whitened``, with the mean input m handled exactly: ``(x - m) U V + m W``.

    The rank is spent on what varies. ``m W - m U V`` is a constant of each unit and goes into ``shift``.
    """

    name = "whitened-centred"

    def metric(self, layer: LayerData) -> Tensor | None:
        """The covariance of the inputs."""
        mean, second, _ = layer.moments
        return second - mean.outer(mean)

    def constant(self, layer: LayerData, u: Tensor, v: Tensor) -> Tensor:
        """``m W - m U V``: exact for the mean input."""
        mean = layer.moments.mean
        return mean @ layer.weight - (mean @ u) @ v
