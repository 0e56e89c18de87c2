"""The paper's estimator: the truncated SVD of the weights (section 3)."""

from torch import Tensor

from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import LowRank


class Svd(LowRank):
    """Loses least of the weights, whatever the inputs are: Eckart and Young 1936."""

    name = "svd"

    def metric(self, layer: LayerData) -> Tensor | None:
        """None: the identity."""
        return None
