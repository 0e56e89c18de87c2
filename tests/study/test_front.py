"""Fronts that can be checked by eye, and properties that hold for all of them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.errors import UserError
from ccsweep.study import front
from tests.report.study import studies
from tests.report.study.studies import OBJECTIVES

EXPECTED = "expected knee, trial:17 or a condition such as 'error<=1.6' or 'error<=control+0.2'"


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
    assert front.knee(best, objectives) is best[0]
    assert front.pareto([], objectives) == []


@pytest.mark.parametrize(
    ("values", "knee"),
    [
        ([(1.0, 1.0)], 0),
        ([(2.0, 5.0), (1.0, 1.0)], None),  # two do not bend
        ([(1.0, 1.0), (1.2, 4.0), (3.0, 5.0)], 1),
        ([(1.0, 1.0), (2.0, 1.5), (3.0, 5.0)], None),  # bends away
        ([(1.0, 1.0), (2.0, 3.2), (3.0, 5.0)], None),  # by what noise makes
        ([(1.0, 1.0), (2.0, 3.4), (3.0, 5.0)], 1),
        ([(1.0, 1.0), (100.0, 4.0), (300.0, 5.0)], 1),  # scale does not matter
    ],
)
def test_the_knee(values: list[tuple[float, float]], knee: int | None) -> None:
    trials = made(*values)
    found = front.knee(front.pareto(trials, OBJECTIVES), OBJECTIVES)
    assert (None if found is None else found.number) == knee
    if knee is not None:
        assert front.pick(trials, "knee", OBJECTIVES).number == knee
        return
    with pytest.raises(UserError) as caught:
        front.pick(trials, "knee", OBJECTIVES)
    assert str(caught.value) == (
        f"pick=knee: no knee, as the front of {len(values)} trials does not bend; expected trial:17 or a "
        "condition such as 'error<=1.6' or 'error<=control+0.2'"
    )


def test_the_knee_of_three_objectives() -> None:
    objectives = dict.fromkeys("abc", "minimize")
    best = front.pareto(made((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.3, 0.3, 0.3)), objectives)
    assert front.knee(best, objectives) is best[1]


Point = tuple[Fraction, ...]


def least(values: Sequence[tuple[int, ...]]) -> tuple[list[Point], list[FrozenTrial]]:
    """The front of values that are all minimised: scaled to 0 to 1, and as trials."""
    best = front.pareto(made(*values), dict.fromkeys("abc"[: len(values[0])], "minimize"))
    columns = list(zip(*(trial.values for trial in best), strict=True))
    scaled = []
    for trial in best:
        place = zip(trial.values, columns, strict=True)
        scaled.append(tuple(Fraction(v - min(c)) / Fraction((max(c) - min(c)) or 1) for v, c in place))
    return scaled, best


def normal_of(a: Point, b: Point, c: Point) -> Point:
    """Of the plane through three points, by the cross product; that of equal sums where they span none."""
    u, v = [[q - p for p, q in zip(a, other, strict=True)] for other in (b, c)]
    cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    if not any(cross):
        return (Fraction(1),) * 3
    return cross if sum(cross) >= 0 else tuple(-n for n in cross)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_knee_of_two_is_where_the_scaled_sum_is_least(values: list[tuple[int, int]]) -> None:
    """Both extremes lie on x + y = 1, and the ideal point is 0, 0."""
    scaled, best = least(values)
    sums = [sum(point) for point in scaled]
    bends = len(best) == 1 or (1 - min(sums)) / 2**0.5 >= front.BEND
    knee = best[sums.index(min(sums))] if bends else None
    assert front.knee(best, dict.fromkeys("ab", "minimize")) is knee


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=3, max_size=12))
def test_the_knee_of_three_is_farthest_below_the_plane_of_the_extremes(
    values: list[tuple[int, int, int]],
) -> None:
    scaled, best = least(values)
    extremes = [min(scaled, key=lambda point: point[i]) for i in range(3)]
    normal = normal_of(*extremes)
    assume(sum(normal) != 0)  # which side the ideal is on, nobody can say
    below = [sum(n * (e - x) for n, e, x in zip(normal, extremes[0], point, strict=True)) for point in scaled]
    bends = len(best) == 1 or float(max(below)) / float(sum(n * n for n in normal)) ** 0.5 >= front.BEND
    knee = best[below.index(max(below))] if bends else None
    assert front.knee(best, dict.fromkeys("abc", "minimize")) is knee


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


def test_who_breaks_a_constraint_comes_to_nothing_and_is_counted(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.COMPLETE, (1.0, 9.0), at=0, false_off=0.9)
    studies.add(study, TrialState.COMPLETE, (3.0, 2.0), at=1, false_off=0.2)  # just keeps it
    studies.add(study, TrialState.COMPLETE, (2.0, 2.0), at=2)
    studies.add(study, TrialState.COMPLETE, (4.0, 1.0), at=3, false_off=0.9)
    trials = study.get_trials()
    assert [t.number for t in trials if front.is_feasible(t)] == [1, 2]
    assert front.hypervolume(trials, OBJECTIVES) == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert front.best_so_far(trials, OBJECTIVES)["validation_error"] == [(2, 3.0), (3, 2.0), (4, 2.0)]
    assert front.reference([], OBJECTIVES) == []


def test_a_best_that_was_not_the_first_stays(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for at, (error, off) in enumerate([(3.0, 0.1), (2.0, 0.1), (1.0, 0.1), (0.5, 0.9)]):
        studies.add(study, TrialState.COMPLETE, (error, 1.0), at=at, false_off=off)
    curve = front.best_so_far(study.get_trials(), OBJECTIVES)["validation_error"]
    assert curve == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 1.0)]


def test_a_number_of_a_trial(trials: list[FrozenTrial]) -> None:
    assert front.value_of(trials[4], "validation_error", OBJECTIVES) == 1.4
    assert front.value_of(trials[4], "measured_speedup_batch1", OBJECTIVES) == 1.2
    assert front.value_of(trials[18], "validation_error", OBJECTIVES) is None  # it runs
    assert front.value_of(trials[4], "seed", OBJECTIVES) == 0.0
    assert front.value_of(trials[4], "data", OBJECTIVES) is None
    assert front.value_of(trials[4], "none", OBJECTIVES) is None


def test_a_pick_among_equals_goes_by_the_other_objectives() -> None:
    objectives = {"a": "minimize", "b": "maximize", "c": "minimize"}
    trials = made((2.0, 5.0, 1.0), (1.0, 5.0, 3.0), (1.0, 5.0, 2.0), (0.0, 4.0, 0.0))
    assert front.pick(trials, "c<=9", objectives).number == 2
    assert front.pick(trials, "a<=0", objectives).number == 3  # a figure of 0 is a figure
    with pytest.raises(UserError) as caught:
        front.pick(trials, "a>=4", objectives)
    assert str(caught.value) == "pick=a>=4: no trial keeps it; the nearest is trial 0 with 2"
    with pytest.raises(UserError) as caught:
        front.pick(trials, "c<-0.4", objectives)
    assert str(caught.value) == "pick=c<-0.4: no trial keeps it; the nearest is trial 3 with 0"


def test_a_pick_by_the_one_objective_there_is() -> None:
    assert front.pick(made((2.0,), (1.0,), (3.0,)), "a<=2.5", {"a": "minimize"}).number == 1
    with pytest.raises(UserError) as caught:
        front.pick(made((2.0,)), "zzz<=1", {"a": "minimize"})
    assert str(caught.value) == "pick=zzz<=1: zzz is no number of these trials; expected one of a"


def test_names_that_a_pick_may_use(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.COMPLETE, (1.0, 2.0))
    with pytest.raises(UserError) as caught:
        front.pick(study.get_trials(), "zzz<=1", OBJECTIVES)
    known = "validation_error, measured_speedup_batch1, density, false_off, seed"  # data is text
    assert str(caught.value) == f"pick=zzz<=1: zzz is no number of these trials; expected one of {known}"


def test_a_trial_whose_twin_is_not_among_them(trials: list[FrozenTrial]) -> None:
    assert front.pick(trials[12:], "trial:12", OBJECTIVES).number == 12
    with pytest.raises(UserError) as caught:
        front.pick([], "trial:0", OBJECTIVES)
    assert str(caught.value) == "pick=trial:0: no such trial; the study has none yet"


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
        ("elbow", f"pick=elbow: {EXPECTED}"),
        ("error<=low", f"pick=error<=low: low is no number; {EXPECTED}"),
        ("error<=control+0.2.1", f"pick=error<=control+0.2.1: control+0.2.1 is no number; {EXPECTED}"),
        (
            "error<=control+0.2",
            "pick=error<=control+0.2: the control is not confirmed yet; give task=confirm first",
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


CONFIRMED = {
    "points": {
        "trial4": {"trial": 4, "validation_error": {"mean": 1.7}},  # 1.4 was luck
        "trial1": {"trial": 1, "validation_error": {"mean": 1.65}, "test_error": {"mean": 1.6}},
        "control": {"trial": None, "validation_error": {"mean": 1.45}, "test_error": {"mean": 1.5}},
    }
}


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("error<=control+0.2", 1),
        ("error<=control+0.56", 7),  # the fastest, confirmed or not
        ("test_error<=control+0.2", 1),  # which only confirmed trials have
        ("error<1.7", 1),
    ],
)
def test_picks_beside_the_confirmed_control(how: str, number: int, trials: list[FrozenTrial]) -> None:
    assert front.pick(trials, how, OBJECTIVES, CONFIRMED).number == number


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("error<=control", "pick=error<=control: no trial keeps it; the nearest is trial 1 with 1.65"),
        (
            "densty<=control-0.1",
            "pick=densty<=control-0.1: densty is no confirmed figure of the control; expected one of "
            "validation_error, test_error",
        ),
        (
            "tes_error<=control",
            "pick=tes_error<=control: tes_error is no confirmed figure of the control; did you mean 'test_error'?",
        ),
    ],
)
def test_picks_beside_the_control_that_nothing_satisfies(
    how: str, complaint: str, trials: list[FrozenTrial]
) -> None:
    with pytest.raises(UserError) as caught:
        front.pick(trials, how, OBJECTIVES, CONFIRMED)
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
