"""Which trials of a study are worth having: the front, its knee, its growth, and a pick by hand.

Pure functions over Optuna's frozen trials and the objectives, as ``{"validation_error": "minimize"}``
in the order of the study's values. A trial counts if it is COMPLETE with finite values, and did not
just repeat the result of an earlier one (``reuses``); the front and every choice by a rule also ask
that all constraints hold (values of at most 0, as Optuna has them).
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from ccsweep.config.keys import did_you_mean
from ccsweep.errors import UserError
from ccsweep.study.notes import notes

Objectives = Mapping[str, str]
"""Report keys with ``minimize`` or ``maximize``, in the order of a trial's values."""

SHORT = {"error": "validation_error"}
"""Names that a pick may use for longer ones."""

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*(?P<key>[\w./]+)\s*(?P<sign><=|>=|<|>)\s*(?P<limit>[-+.\w]+)\s*")
_TRIAL = re.compile(r"\s*trial:(?P<number>\d+)\s*")
_CONTROL = re.compile(r"control(?P<more>[-+][\d.]+)?")
_CHOICES = "trial:17 or a condition such as 'error<=1.6' or 'error<=control+0.2'"
_EXPECTED = f"expected knee, {_CHOICES}"
_STRAIGHT = 1e-9  # a point this little off the plane through the extremes lies on it
BEND = 0.05
"""Of a front's extent: by so little the line through its ends is left by noise, too."""


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """COMPLETE trials with results of their own, all values finite, in the order of their numbers."""
    return [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.user_attrs.get("reuses") is None  # and not its notes: there may be thousands of trials
        and all(map(isfinite, trial.values))
    ]


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial keeps all constraints that it was told of."""
    return all(value <= 0 for value in trial.constraints.values())


def pareto(trials: Sequence[FrozenTrial], objectives: Objectives) -> list[FrozenTrial]:
    """The feasible trials that no other one beats, the best by the first objective first.

    Of trials with equal values only the first is listed. A study of one objective has one best trial,
    one whose trials all failed an empty front.
    """
    feasible = [trial for trial in counted(trials) if is_feasible(trial)]
    if not feasible:
        return []
    losses = _losses(feasible, objectives)
    _, left = np.unique(losses, axis=0, return_index=True)  # sorted: who beats another stands before it
    front = []
    while len(left):
        best = left[0]
        front.append(feasible[best])
        left = left[(losses[left] < losses[best]).any(axis=1)]
    return front


def knee(front: Sequence[FrozenTrial], objectives: Objectives) -> FrozenTrial | None:
    """The trial of the front where giving up a little of one objective stops gaining much of another, if any.

    All objectives are scaled to 0 (best on the front) to 1 (worst); the knee lies farthest from the
    line, or hyperplane, through the extremes (the best trial by each objective), on the side of the
    ideal point (Das 1999, "On characterizing the knee of the Pareto curve"). Where extremes coincide
    and span no plane, it is the plane of equal sums. A front that bends towards the ideal by less than
    :data:`BEND`, as one of two trials, has no knee; one of a single trial is it.

    Args:
        front: from :func:`pareto`; at least one trial.
        objectives: of the study.
    """
    if len(front) == 1:
        return front[0]
    losses = _losses(front, objectives)
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    extremes = scaled[scaled.argmin(axis=0)]
    normal = np.ones(scaled.shape[1])
    _, singular, axes = np.linalg.svd(extremes[1:] - extremes[0])
    if (singular > _STRAIGHT).all():
        normal = axes[-1] * (1 if axes[-1].sum() >= 0 else -1)
    distance = (extremes[0] - scaled) @ normal / np.linalg.norm(normal)
    if distance.max() < BEND:
        return None
    nearest = np.flatnonzero(distance >= distance.max() - _STRAIGHT)
    return front[int(nearest[0])]


def reference(trials: Sequence[FrozenTrial], objectives: Objectives) -> list[float]:
    """The worst value of each objective that any counted trial has, feasible or not; its own sign."""
    losses = _losses(counted(trials), objectives)
    return [float(v) for v in _signs(objectives) * losses.max(axis=0)] if len(losses) else []


def hypervolume(trials: Sequence[FrozenTrial], objectives: Objectives) -> list[tuple[int, float]]:
    """How much the front is worth after each counted trial, as (trials counted so far, hypervolume).

    The volume, in the product of the objectives' units, of what the feasible trials so far beat, down
    to :func:`reference`. That point is the worst of ALL trials given, so the values never fall; for the
    same reason the values of two calls compare only if no worse trial came between. For one objective
    it is the gain over the worst value seen.
    """
    from optuna._hypervolume import compute_hypervolume  # Optuna has no public one; 2-d, 3-d, else WFG

    ordered = by_end(counted(trials))
    if not ordered:
        return []
    worst = _losses(ordered, objectives).max(axis=0)
    curve, kept = [], np.empty((0, len(objectives)))
    volume = 0.0
    for count, trial in enumerate(ordered, 1):
        loss = _losses([trial], objectives)
        if is_feasible(trial) and not (kept <= loss).all(axis=1).any():
            kept = np.vstack([kept[~(loss <= kept).all(axis=1)], loss])
            volume = float(compute_hypervolume(kept, worst))
        curve.append((count, volume))
    return curve


def best_so_far(trials: Sequence[FrozenTrial], objectives: Objectives) -> dict[str, list[tuple[int, float]]]:
    """The best feasible value of each objective after each counted trial; no point before the first."""
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in objectives}
    for count, trial in enumerate(by_end(counted(trials)), 1):
        for (name, direction), value in zip(objectives.items(), trial.values, strict=True):
            curve = curves[name]
            if is_feasible(trial):
                better = min if direction == "minimize" else max
                curve.append((count, better(curve[-1][1], value) if curve else value))
            elif curve:
                curve.append((count, curve[-1][1]))
    return curves


def by_end(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """In the order in which they ended, which several workers make another than that of the numbers."""
    return sorted(trials, key=lambda trial: trial.datetime_complete or datetime.max)


def pick(
    trials: Sequence[FrozenTrial],
    how: str,
    objectives: Objectives,
    confirmed: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """The trial that ``how`` asks for.

    Args:
        trials: of the study.
        how: ``knee`` (the best trial where there is one objective); ``trial:17``, feasible or not; or a
            condition on an objective or any number of the report, such as ``error<=1.6`` (``error`` is
            ``validation_error``) or ``error<=control+0.2``, beside the control's confirmed one. Of the
            feasible trials that keep a condition it is the best by the first OTHER objective that is
            maximised, else by the first other one, else by the one there is.
        objectives: of the study.
        confirmed: what confirmed.json says, whose means over fresh seeds count for more than a trial's own
            figures where a condition asks for them.

    Raises:
        UserError: no such trial, one without a result, no knee, a condition that no trial keeps, or none of
            these.
    """
    if match := _TRIAL.fullmatch(how):
        return _numbered(trials, int(match["number"]))
    if how.strip() != "knee" and not _CONDITION.fullmatch(how):
        raise UserError(f"pick={how}: {_EXPECTED}")
    front = pareto(trials, objectives)
    if not front:
        broken = len(counted(trials))
        why = f"none of {broken} completed trials keeps the constraints" if broken else "no trial is complete"
        raise UserError(f"pick={how}: {why}; see task=sweep_status, or give pick=trial:NUMBER")
    if match := _CONDITION.fullmatch(how):
        feasible = [trial for trial in counted(trials) if is_feasible(trial)]
        return _conditioned(feasible, how, match, objectives, _Confirmed(confirmed))
    found = knee(front, objectives)
    if found is None:
        raise UserError(
            f"pick={how}: no knee, as the front of {len(front)} trials does not bend; expected {_CHOICES}"
        )
    return found


def value_of(trial: FrozenTrial, key: str, objectives: Objectives) -> float | None:
    """An objective's value, or a number of the trial's report; None where it has none."""
    if key in objectives:
        return trial.values[list(objectives).index(key)] if trial.values else None
    value = notes(trial).report.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbered(trials: Sequence[FrozenTrial], number: int) -> FrozenTrial:
    by_number = {trial.number: trial for trial in trials}
    if number not in by_number:
        known = f"0 to {max(by_number)}" if by_number else "none yet"
        raise UserError(f"pick=trial:{number}: no such trial; the study has {known}")
    trial = by_number[number]
    reused = notes(trial).reuses
    first = trial if reused is None else by_number.get(reused, trial)  # the one that was really run
    if first.state != TrialState.COMPLETE:
        cause = notes(first).cause
        why = f": {cause}" if cause else ""
        raise UserError(f"pick=trial:{number}: has no result, its state is {first.state.name}{why}")
    return first


class _Confirmed:
    """Means over fresh seeds, by the figure's key."""

    def __init__(self, content: Mapping[str, Any] | None) -> None:
        points = (content or {}).get("points", {})
        self.control: Mapping[str, Any] = points.get("control", {})
        self._trials = {point["trial"]: point for point in points.values()}

    def of(self, trial: FrozenTrial, key: str) -> float | None:
        """A trial's, if it was confirmed."""
        return self.mean(self._trials.get(trial.number, {}), key)

    @staticmethod
    def mean(point: Mapping[str, Any], key: str) -> float | None:
        """A point's."""
        spread = point.get(key)
        return float(spread["mean"]) if isinstance(spread, Mapping) and "mean" in spread else None


def _limit(text: str, key: str, how: str, confirmed: _Confirmed) -> float:
    """The number that a condition names, or how it stands beside the control's."""
    try:
        if not (beside := _CONTROL.fullmatch(text)):
            return float(text)
        more = float(beside["more"] or 0)
    except ValueError:
        raise UserError(f"pick={how}: {text} is no number; {_EXPECTED}") from None
    if not confirmed.control:
        raise UserError(f"pick={how}: the control is not confirmed yet; give task=confirm first")
    of_control = confirmed.mean(confirmed.control, key)
    if of_control is None:
        known = [name for name in confirmed.control if confirmed.mean(confirmed.control, name) is not None]
        hint = did_you_mean(key, known) or f"; expected one of {', '.join(known)}"
        raise UserError(f"pick={how}: {key} is no confirmed figure of the control{hint}")
    return of_control + more


def _conditioned(
    feasible: Sequence[FrozenTrial],
    how: str,
    match: re.Match[str],
    objectives: Objectives,
    confirmed: _Confirmed,
) -> FrozenTrial:
    key, sign = SHORT.get(match["key"], match["key"]), match["sign"]
    limit = _limit(match["limit"], key, how, confirmed)

    def value(trial: FrozenTrial) -> float | None:
        fresh = confirmed.of(trial, key)
        return value_of(trial, key, objectives) if fresh is None else fresh

    values = {trial.number: value(trial) for trial in feasible}
    having = [trial for trial in feasible if values[trial.number] is not None]
    if not having:
        raise UserError(f"pick={how}: {key} is no number of these trials{_known(feasible, key, objectives)}")
    keeping = [trial for trial in having if _COMPARISONS[sign](values[trial.number] or 0.0, limit)]
    if not keeping:
        nearest = min(having, key=lambda trial: abs((values[trial.number] or 0.0) - limit))
        raise UserError(
            f"pick={how}: no trial keeps it; the nearest is trial {nearest.number} with "
            f"{values[nearest.number]:.6g}"
        )
    others = [name for name in objectives if name != key] or list(objectives)
    first = next((name for name in others if objectives[name] == "maximize"), others[0])
    place = list(objectives).index(first)
    order = [place, *(i for i in range(len(objectives)) if i != place)]
    losses = _losses(keeping, objectives)[:, order]
    return keeping[min(range(len(keeping)), key=lambda i: tuple(losses[i]))]


def _known(feasible: Sequence[FrozenTrial], key: str, objectives: Objectives) -> str:
    names = {name for trial in feasible for name in notes(trial).report}
    numbers = [name for name in sorted(names) if value_of(feasible[0], name, objectives) is not None]
    known = [*objectives, *(name for name in numbers if name not in objectives)]
    return did_you_mean(key, known) or f"; expected one of {', '.join(known)}"


def _signs(objectives: Objectives) -> np.ndarray:
    return np.array([1.0 if direction == "minimize" else -1.0 for direction in objectives.values()])


def _losses(trials: Sequence[FrozenTrial], objectives: Objectives) -> np.ndarray:
    """Values with what is maximised negated, (trials, objectives): less is better."""
    values = np.array([trial.values for trial in trials], dtype=float).reshape(-1, len(objectives))
    return values * _signs(objectives)
