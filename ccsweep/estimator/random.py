"""The control for the estimator itself: random directions at the same cost."""

from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import LowRank, random_directions


class Random(LowRank):
    """Keeps random directions, the same at every refresh; what another estimator adds is its own merit.

    Ranks by energy or budget are those that ``svd`` would get.
    """

    name = "random"

    def factors(
        self, layer: LayerData, rank: int, method: str = "full", previous: Factors | None = None
    ) -> Factors:
        """Factors of one rank; ``method`` and ``previous`` make no difference."""
        return self.project(layer, random_directions(layer, rank))

    def prepare(self, layer: LayerData, method: str) -> None:
        """Nothing is."""

    def operations(self, inputs: int, units: int, rank: int, method: str) -> float:
        """A QR of the directions and one product."""
        return 4.0 * units * rank**2 + 2.0 * inputs * units * rank
