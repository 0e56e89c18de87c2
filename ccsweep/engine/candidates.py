"""Plans worth timing as a whole, put together from layers that were timed alone."""

from collections.abc import Callable, Sequence

from ccsweep.engine.ways import (
    GATES,
    INT8,
    LIBRARIES,
    MASKED,
    MIXED,
    UNGATED,
    Times,
    fastest,
    finer,
    in_int8,
    kind,
    without,
)
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED, WAYS

PLAIN_INT8 = (INPUT_SPARSE + INT8, DENSE + INT8)
MASKING = {MASKED + INT8}
FINE = (*WAYS, GATED + MIXED, TWO_SIDED + MIXED)
"""Ways whose gate, if they use one, is in float32."""

Ways = tuple[str, ...]
"""Of all layers."""


def candidates(
    alone: Sequence[Times], gates: Sequence[bool], int8: bool, libraries: Sequence[str]
) -> set[Ways]:
    """Whole plans worth timing.

    Args:
        alone: of each layer; none of a library's, which is one call for all of its layers.
        gates: whether each layer has an estimator.
        int8: whether layers may run in it.
        libraries: those of ``LIBRARIES`` that may run layers.
    """
    found = {(DENSE,) * len(alone), (INPUT_SPARSE,) * len(alone), forced("gated", alone, gates)}
    for known in {False, int8}:
        allowed = [{way: took for way, took in times.items() if known or not in_int8(way)} for times in alone]
        # One compiled call for all layers may beat a faster layer in between.
        unbroken = [without(times, {DENSE}) for times in allowed]
        exact = [fastest(times, UNGATED) for times in unbroken]
        found |= {
            tuple(map(fastest, allowed)),
            tuple(map(fastest, unbroken)),
            tuple(fastest(times, UNGATED) for times in allowed),
            tuple(fastest(times, GATES) for times in unbroken),
        }
        # What comes out of one layer is what the next one gets: times alone do not tell all of it.
        others = without(unbroken[0], MASKING)
        firsts = {fastest(unbroken[0]), fastest(others, GATES), *MASKING & unbroken[0].keys()}
        rests: list[list[str]] = [exact]
        rests += [[way] * len(alone) for way in (INPUT_SPARSE, *PLAIN_INT8) if way in unbroken[-1]]
        found |= {(first, *rest[1:]) for first in firsts for rest in rests}
    # A library is a call for all of its layers: all there are, those that run dense, or all but the first.
    quickest = tuple(map(fastest, alone))
    firsts = {quickest[0], fastest(alone[0], FINE)}
    for name in libraries:
        every = (DENSE + name,) * len(alone)
        found |= {every, tuple((MASKED if gate else DENSE) + name for gate in gates)}
        found |= {(first, *every[1:]) for first in firsts}
        found.add(tuple(DENSE + name if kind(way) == DENSE else way for way in quickest))
    return found


def expected(ways: Ways, alone: Sequence[Times]) -> float:
    """Microseconds of a plan by what its layers take alone: not more than a guess."""
    return sum(times[way] for way, times in zip(ways, alone, strict=True))


def nearer(alone: Sequence[Times], allowed: float, changed: Callable[[Ways], float]) -> list[Ways]:
    """Where the fastest plans change too many answers: the same with one layer finer each time.

    Of all plans, and of those that keep every gate in use.

    Args:
        alone: of each layer.
        allowed: share of answers that may change.
        changed: share of answers that a plan changes; asked of as few as possible, of some again.
    """
    found: list[Ways] = []
    for kept in ((), GATES):
        ways = tuple(fastest(without(times, {DENSE}), kept) for times in alone)
        finest = tuple((*finer(way, times), way)[0] for way, times in zip(ways, alone, strict=True))
        if changed(ways) <= allowed or changed(finest) > allowed:  # then int8 is not what changes answers
            continue
        while changed(ways) > allowed:
            tried = {
                (*ways[:k], other, *ways[k + 1 :])
                for k, way in enumerate(ways)
                for other in finer(way, alone[k])
            }
            ranked = sorted(tried, key=lambda each: expected(each, alone))
            quickest = next((each for each in ranked if changed(each) <= allowed), None)
            ways = quickest or min(ranked, key=changed)
            found.append(ways)
    return found


def forced(engine: str | Sequence[str], alone: Sequence[Times], gates: Sequence[bool]) -> Ways:
    """The ways that a user asked for.

    Raises:
        UserError: a layer cannot run so.
    """
    if engine == "dense":
        return (DENSE,) * len(alone)
    if engine == "exact":
        return (INPUT_SPARSE,) * len(alone)
    if engine == "gated":
        return tuple(
            fastest(times, (GATED, TWO_SIDED)) if GATED in times else fastest(times, WAYS) for times in alone
        )
    ways = tuple(engine)
    if len(ways) != len(alone):
        raise UserError(f"engine gives {len(ways)} ways: expected one for each of {len(alone)} layers")
    for k, (way, times, gate) in enumerate(zip(ways, alone, gates, strict=True), 1):
        known = [*times, *(start + name for start in [DENSE, MASKED][: 1 + gate] for name in LIBRARIES)]
        if way not in known:
            raise UserError(f"engine has {way} for layer {k}: expected one of {', '.join(known)}")
    return ways
