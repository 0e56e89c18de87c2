"""The paper's estimator: the truncated SVD of the weights (section 3)."""

from ccsweep.estimator.lowrank import LowRank


class Svd(LowRank):
    """Loses least of the weights, whatever the inputs are: Eckart and Young 1936."""

    name = "svd"
