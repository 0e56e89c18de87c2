"""The ways to run a layer by name: what is left out, and in which numbers."""

from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED

MASKED = "masked"
"""All units are computed, then what the gate turns off is set to zero: where a dense product is cheap."""
INT8 = " int8"
"""What a way's name ends in whose weights and inputs are bytes."""
MIXED = " mixed"
"""And whose gate is in float32 all the same: one that decides close calls does not bear rounding."""
UNGATED = (DENSE, INPUT_SPARSE, DENSE + INT8, INPUT_SPARSE + INT8)
"""Ways that compute every unit."""
GATES = (GATED, TWO_SIDED, GATED + INT8, TWO_SIDED + INT8, MASKED + INT8, GATED + MIXED, TWO_SIDED + MIXED)
"""Ways that an estimator is needed for."""


def kind(way: str) -> str:
    """What is left out: one of ``WAYS`` of :mod:`ccsweep.estimator.cost`, or ``MASKED``."""
    return way.partition(" ")[0]


def in_int8(way: str) -> bool:
    """Whether weights and inputs are bytes."""
    return way.endswith((INT8, MIXED))


def counted(way: str) -> str:
    """The way as operation counts know it: masked leaves out nothing."""
    return DENSE if kind(way) == MASKED else kind(way)
