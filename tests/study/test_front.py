"""Fronts that can be checked by eye, and properties that hold for all of them."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.errors import UserError
from ccsweep.study import front
from tests.report.study import studies
from tests.report.study.studies import OBJECTIVES


@pytest.fixture
def trials(tmp_path: Path) -> list[FrozenTrial]:
    return studies.typical(tmp_path / "digits_pareto").get_trials()


def made(*values: tuple[float, ...]) -> list[FrozenTrial]:
    """Completed trials, numbered from 0."""
    found = [create_trial(values=list(v)) for v in values]
    for number, trial in enumerate(found):
        trial.number = number
    return found


def test_the_front_is_feasible_and_without_reused_trials(trials: list[FrozenTrial]) -> None:
    assert [t.number for t in front.pareto(trials, OBJECTIVES)] == [4, 1, 7, 9]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_it_is_optunas_front_without_its_doubles(values: list[tuple[int, int, int]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"])
    study.add_trials(made(*values))
    objectives = {"a": "minimize", "b": "maximize", "c": "minimize"}
    ours = [tuple(t.values) for t in front.pareto(study.get_trials(), objectives)]
    assert sorted(ours) == sorted({tuple(t.values) for t in study.best_trials})
    assert ours[0][0] == min(a for a, _, _ in values)


def test_a_value_that_is_not_finite_is_no_result() -> None:
    assert [t.number for t in front.counted(made((1.0, float("inf")), (1.0, 2.0)))] == [1]


def test_one_objective_has_the_first_of_its_best() -> None:
    objectives = {"validation_error": "minimize"}
    best = front.pareto(made((2.0,), (1.0,), (1.0,)), objectives)
    assert [t.number for t in best] == [1]
    assert front.knee(best, objectives).number == 1
    assert front.pareto([], objectives) == []


@pytest.mark.parametrize(
    ("values", "knee"),
    [
        ([(1.0, 1.0)], 0),
        ([(2.0, 5.0), (1.0, 1.0)], 1),  # two have no bend: the first by the first objective
        ([(1.0, 1.0), (1.2, 4.0), (3.0, 5.0)], 1),
        ([(1.0, 1.0), (2.0, 1.5), (3.0, 5.0)], 0),  # bends away
        ([(1.0, 1.0), (100.0, 4.0), (300.0, 5.0)], 1),  # scale does not matter
    ],
)
def test_the_knee(values: list[tuple[float, float]], knee: int) -> None:
    best = front.pareto(made(*values), OBJECTIVES)
    assert front.knee(best, OBJECTIVES).number == knee


def test_the_knee_of_three_objectives() -> None:
    objectives = dict.fromkeys("abc", "minimize")
    best = front.pareto(made((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.3, 0.3, 0.3)), objectives)
    assert front.knee(best, objectives).number == 3


def test_the_hypervolume_by_hand_never_falls(trials: list[FrozenTrial]) -> None:
    assert front.reference(trials, OBJECTIVES) == [5.0, 1.0]
    curve = front.hypervolume(trials, OBJECTIVES)
    assert [count for count, _ in curve] == list(range(1, 13))
    assert curve[0][1] == pytest.approx((5 - 2.5) * (1.5 - 1))
    # Steps of the front: 4 (1.4, 1.2), 1 (1.6, 3.0), 7 (2.0, 4.2), 9 (3.0, 4.5); 8 is beaten by 9.
    whole = 0.2 * 3.6 + 1.8 * 3.4 + 1.2 * 3.0 + 0.3 * 2.0
    assert curve[-1][1] == pytest.approx(whole)
    assert [v for _, v in curve] == sorted(v for _, v in curve)
    assert front.hypervolume([], OBJECTIVES) == []


def test_best_so_far_goes_by_the_end_of_trials_not_their_numbers(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.COMPLETE, (1.0, 1.0), seconds=100)
    studies.add(study, TrialState.COMPLETE, (2.0, 2.0), seconds=10)
    studies.add(study, TrialState.COMPLETE, (0.5, 9.0), at=200, false_off=0.9)
    assert front.best_so_far(study.get_trials(), OBJECTIVES) == {
        "validation_error": [(1, 2.0), (2, 1.0), (3, 1.0)],
        "measured_speedup_batch1": [(1, 2.0), (2, 2.0), (3, 2.0)],
    }


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("knee", 7),
        ("trial:3", 3),
        ("trial:10", 10),  # asked for by its number: feasible or not
        ("trial:12", 4),  # the one whose result it reused
        ("error<=1.6", 1),
        ("error<1.6", 4),
        (" validation_error <= 2.0 ", 7),
        ("measured_speedup_batch1>=4.2", 7),
        ("false_off<=0.2", 9),  # of the report; the fastest of the feasible
    ],
)
def test_picks(how: str, number: int, trials: list[FrozenTrial]) -> None:
    assert front.pick(trials, how, OBJECTIVES).number == number


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("elbow", "pick=elbow: expected knee, trial:17 or a condition such as 'error<=1.6'"),
        (
            "error<=low",
            "pick=error<=low: low is no number; expected knee, trial:17 or a condition such as 'error<=1.6'",
        ),
        ("error<=1", "pick=error<=1: no trial keeps it; the nearest is trial 4 with 1.4"),
        ("densty<=1", "pick=densty<=1: densty is no number of these trials; did you mean 'density'?"),
        ("trial:99", "pick=trial:99: no such trial; the study has 0 to 18"),
        ("trial:14", "pick=trial:14: has no result, its state is FAIL: validation_error is nan"),
        ("trial:18", "pick=trial:18: has no result, its state is RUNNING"),
    ],
)
def test_picks_that_nothing_satisfies(how: str, complaint: str, trials: list[FrozenTrial]) -> None:
    with pytest.raises(UserError) as caught:
        front.pick(trials, how, OBJECTIVES)
    assert str(caught.value) == complaint


def test_no_trial_to_pick(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    with pytest.raises(UserError) as caught:
        front.pick(study.get_trials(), "knee", OBJECTIVES)
    hint = "see task=sweep_status, or give pick=trial:NUMBER"
    assert str(caught.value) == f"pick=knee: no trial is complete; {hint}"
    studies.add(study, TrialState.COMPLETE, (1.0, 2.0), false_off=0.9)
    with pytest.raises(UserError) as caught:
        front.pick(study.get_trials(), "knee", OBJECTIVES)
    assert str(caught.value) == f"pick=knee: none of 1 completed trials keeps the constraints; {hint}"
