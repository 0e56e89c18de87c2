"""The ways to run a layer by name: what is left out, and in which numbers."""

from collections.abc import Sequence
from itertools import accumulate, groupby

from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED

MASKED = "masked"
"""All units are computed, then what the gate turns off is set to zero: where a dense product is cheap."""
INT8 = " int8"
"""What a way's name ends in whose weights and inputs are bytes."""
MIXED = " mixed"
"""And whose gate is in float32 all the same: one that decides close calls does not bear rounding."""
BFLOAT16, ONNX, ONNX_INT8 = LIBRARIES = (" bfloat16", " onnxruntime", " onnxruntime int8")
"""What a way's name ends in that torch or ONNX Runtime runs; gates, where they count, in float32."""
UNGATED = (DENSE, INPUT_SPARSE, DENSE + INT8, INPUT_SPARSE + INT8)
"""Ways of the engine's own that compute every unit."""
GATES = (GATED, TWO_SIDED, GATED + INT8, TWO_SIDED + INT8, MASKED + INT8, GATED + MIXED, TWO_SIDED + MIXED)
"""Ways of the engine's own that an estimator is needed for."""

Times = dict[str, float]
"""Microseconds of a layer by way."""


def kind(way: str) -> str:
    """What is left out: one of ``WAYS`` of :mod:`ccsweep.estimator.cost`, or ``MASKED``."""
    return way.partition(" ")[0]


def library(way: str) -> str:
    """Which of ``LIBRARIES`` runs it; empty for none."""
    return next((name for name in LIBRARIES if way.endswith(name)), "")


def in_int8(way: str) -> bool:
    """Whether the engine's own kernels run it, and on bytes."""
    return way.endswith((INT8, MIXED)) and not library(way)


def uses_gate(way: str) -> bool:
    """Whether an estimator is needed for it."""
    return kind(way) in (GATED, TWO_SIDED, MASKED)


def runs(ways: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Consecutive layers that are one call, torch's, a library's or ours, with the first one's number."""
    found = [tuple(run) for _, run in groupby(ways, lambda way: library(way) or way == DENSE)]
    return list(zip(accumulate(map(len, found), initial=0), found, strict=False))


def counted(way: str) -> str:
    """The way as operation counts know it: masked leaves out nothing."""
    return DENSE if kind(way) == MASKED else kind(way)


def fastest(times: Times, ways: Sequence[str] = ()) -> str:
    """Of these ways, or of all where the layer has none of them."""
    return min(set(times).intersection(ways) or times, key=lambda way: times[way])


def without(times: Times, ways: set[str]) -> Times:
    """All ways but these."""
    return {way: took for way, took in times.items() if way not in ways}


def finer(way: str, times: Times) -> list[str]:
    """What takes the place of a way in int8 that is too coarse: the gate in float32, or all of it.

    Each the fastest that leaves the gate in use, or out, as this one does.
    """
    if not in_int8(way):
        return []
    same = GATES if way in GATES else UNGATED
    mixed = [each for each in times if each.endswith(MIXED) and way in GATES and not way.endswith(MIXED)]
    choices = [[each for each in times if each in same and not in_int8(each)], mixed]
    return [fastest(times, choice) for choice in choices if choice]
