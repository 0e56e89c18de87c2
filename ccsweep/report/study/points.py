"""What a picture of a front shows: which trials are which, and how far its axes reach.

The page's plot and the PNG both draw this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from optuna.trial import FrozenTrial

from ccsweep.study import front
from ccsweep.study.alone import ends_of
from ccsweep.study.front import Objectives

FAR = 3.0  # an axis reaches this many times the front's extent beyond it, where trials lie farther still
FEW = 0.25  # and only if no larger share of the trials does
MOST = 1000
"""Of a kind are drawn, on a page that is to open quickly."""
_MARGIN = 0.06  # of the axis, beyond the outermost point

T = TypeVar("T")


@dataclass(frozen=True)
class Points:
    """The completed trials of a study by how they compare."""

    best: list[FrozenTrial]
    """The front, in order of the first objective."""
    knee: FrozenTrial | None
    beaten: list[FrozenTrial]
    infeasible: list[FrozenTrial]

    @property
    def all(self) -> list[FrozenTrial]:
        """Every trial that has a point."""
        return [*self.beaten, *self.infeasible, *self.best]


def points(trials: Sequence[FrozenTrial], objectives: Objectives) -> Points:
    """Sort the counted trials of a study into front, beaten and infeasible."""
    best = front.pareto(trials, objectives)
    on_front = {trial.number for trial in best}
    counted = front.counted(trials)
    return Points(
        best=best,
        knee=front.knee(best, objectives) if best else None,
        beaten=[t for t in counted if front.is_feasible(t) and t.number not in on_front],
        infeasible=[t for t in counted if not front.is_feasible(t)],
    )


def stairs(best: Sequence[FrozenTrial], objectives: Objectives, x: int, y: int) -> list[tuple[float, float]]:
    """Corners of the line under which nothing was reached: between two trials nothing is promised.

    Args:
        best: the front of two objectives, in order of the first.
        objectives: of the study.
        x: which objective lies along the x axis.
        y: which one along the y axis.
    """
    ordered = sorted((trial.values[x], trial.values[y]) for trial in best)
    minimised = list(objectives.values())[x] == "minimize"
    corners: list[tuple[float, float]] = []
    for here, after in pairwise(ordered):
        corners += [here, (after[0], here[1]) if minimised else (here[0], after[1])]
    return [*corners, *ordered[-1:]]


def extent(shown: Points, place: int) -> tuple[tuple[float, float] | None, int]:
    """The range of an axis, None for no points, and how many trials lie outside it.

    One trial that learned nothing must not press the front into a corner.

    Args:
        shown: the trials.
        place: of the objective among the values.
    """
    values = [trial.values[place] for trial in shown.all]
    if not values:
        return None, 0
    low, high, outside = min(values), max(values), 0
    good = [trial.values[place] for trial in shown.best]
    if good and (reach := FAR * (max(good) - min(good))) > 0:
        near = [value for value in values if min(good) - reach <= value <= max(good) + reach]
        if len(values) - len(near) <= FEW * len(values):
            low, high, outside = min(near), max(near), len(values) - len(near)
    margin = _MARGIN * (high - low) or _MARGIN * abs(high) or _MARGIN
    return (low - margin, high + margin), outside


def view(shown: Points, objectives: Objectives, place: int) -> tuple[float, float] | None:
    """The range of an axis, wide enough for the intervals of the front, too."""
    along, _ = extent(shown, place)
    if along is None:
        return None
    name = list(objectives)[place]
    ends = [end for trial in shown.best for end in ends_of(trial, name, place)]
    margin = 0.02 * (along[1] - along[0])
    return min([along[0], *(end - margin for end in ends)]), max([along[1], *(end + margin for end in ends)])


def outside(shown: Points) -> list[FrozenTrial]:
    """The trials that lie outside one of the axes."""
    if not shown.all:
        return []
    ranges = [extent(shown, place)[0] for place in range(len(shown.all[0].values))]
    return [
        trial
        for trial in sorted(shown.all, key=lambda trial: trial.number)
        if any(r is not None and not r[0] <= v <= r[1] for r, v in zip(ranges, trial.values, strict=True))
    ]


def thinned(trials: Sequence[T]) -> Sequence[T]:
    """Every second of ``trials``, or every third and so on, so that at most ``MOST`` are left."""
    return trials[:: -(-len(trials) // MOST) or 1]


def corners(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """A curve of steps without what lies between two steps; drawn, it is the same."""
    changed = [here for before, here in pairwise(curve) if here[1] != before[1]]
    return list(dict.fromkeys([*curve[:1], *changed, *curve[-1:]]))
