"""Which trials a picture of a front shows, and how far its axes reach."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from ccsweep.report.study.points import MOST, corners, extent, points, stairs, thinned
from tests.report.study import studies


def numbers(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


def test_each_counted_trial_has_one_place(study: optuna.Study) -> None:
    shown = points(study.get_trials(), studies.OBJECTIVES)
    assert numbers(shown.best) == [4, 1, 7, 9]
    assert shown.knee is not None
    assert shown.knee.number == 7
    assert numbers(shown.infeasible) == [10]
    assert numbers(shown.beaten) == [0, 2, 3, 5, 6, 8, 11]
    assert sorted(numbers(shown.all)) == list(range(12))  # and not the one that reused a result


def test_nothing_is_promised_between_two_trials(study: optuna.Study) -> None:
    best = points(study.get_trials(), studies.OBJECTIVES).best
    # (speed-up, error): up to a speed-up of 3.0 nothing better than the error of the trial that has it
    assert stairs(best, studies.OBJECTIVES, 1, 0) == [
        (1.2, 1.4),
        (1.2, 1.6),
        (3.0, 1.6),
        (3.0, 2.0),
        (4.2, 2.0),
        (4.2, 3.0),
        (4.5, 3.0),
    ]
    # along an axis of which less is better the line goes on before it falls
    assert stairs(best, studies.OBJECTIVES, 0, 1)[:3] == [(1.4, 1.2), (1.6, 1.2), (1.6, 3.0)]
    assert stairs(best[:1], studies.OBJECTIVES, 1, 0) == [(1.2, 1.4)]
    assert stairs([], studies.OBJECTIVES, 1, 0) == []


def of(tmp_path: Path, *values: tuple[float, float]) -> optuna.Study:
    study = studies.create(tmp_path / "s")
    for pair in values:
        studies.add(study, TrialState.COMPLETE, pair)
    return study


FRONT = [(1.0, 1.0), (2.0, 2.0)]  # an extent of 1 in both: an axis reaches from -2 to 5


@pytest.mark.parametrize(
    ("others", "low", "high", "outside"),
    [
        ([], 1.0, 2.0, 0),
        ([(5.0, 1.0)] * 3, 1.0, 5.0, 0),
        ([(3.0, 1.0), (3.0, 1.0), (90.0, 1.0)], 1.0, 3.0, 1),
        ([(3.0, 1.0), (90.0, 1.0)], 1.0, 3.0, 1),  # a quarter of them
        ([(90.0, 1.0)], 1.0, 90.0, 0),  # a third of them is too many to leave out
    ],
)
def test_one_trial_that_learned_nothing_does_not_press_the_front_into_a_corner(
    others: list[tuple[float, float]], low: float, high: float, outside: int, tmp_path: Path
) -> None:
    shown = points(of(tmp_path, *FRONT, *others).get_trials(), studies.OBJECTIVES)
    margin = 0.06 * (high - low)
    ends, left_out = extent(shown, 0)
    assert ends == pytest.approx((low - margin, high + margin))
    assert left_out == outside


def test_an_axis_of_one_value_has_room_around_it(tmp_path: Path) -> None:
    assert extent(points(of(tmp_path / "a", (2.0, 0.0)).get_trials(), studies.OBJECTIVES), 0) == (
        pytest.approx((1.88, 2.12)),
        0,
    )
    assert extent(points(of(tmp_path / "b", (2.0, 0.0)).get_trials(), studies.OBJECTIVES), 1) == (
        pytest.approx((-0.06, 0.06)),
        0,
    )
    nothing = points([], studies.OBJECTIVES)
    assert nothing.knee is None
    assert extent(nothing, 0) == (None, 0)


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 2 * MOST, 2 * MOST + 1, 5000])
def test_of_many_at_most_so_many_are_left_evenly(count: int) -> None:
    left = thinned(range(count))
    assert len(left) <= MOST
    assert list(left) == list(range(0, count, left.step if count else 1))
    assert len(left) == count or len(left) > MOST / 2


def test_a_curve_of_steps_is_the_same_without_what_lies_between() -> None:
    curve = [(1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 0.5)]
    assert corners(curve) == [(1, 2.0), (3, 1.0), (6, 0.5)]
    assert corners([*curve, (7, 0.5)]) == [(1, 2.0), (3, 1.0), (6, 0.5), (7, 0.5)]
    assert corners([]) == []
