"""Which trials may be on the front, and what speeds that were measured alone make of a study."""

import pytest
from optuna import Study, create_study
from optuna.trial import FrozenTrial, create_trial

from ccsweep.study.alone import due, mixture, reaching, settled, trials_of
from ccsweep.study.front import pareto
from ccsweep.study.notes import Definition, StudyNotes, note_study, notes

SPEED = "measured_speedup_batch1"
AIMS = {"validation_error": "minimize", SPEED: "maximize"}


def made(*points: tuple[float, float, float, float]) -> list[FrozenTrial]:
    """Completed trials, numbered from 0: error, speed-up and the ends of its interval."""
    trials = []
    for number, (error, speed, low, high) in enumerate(points):
        report = {"validation_error": error, SPEED: speed, f"{SPEED}_low": low, f"{SPEED}_high": high}
        attributes = {"report": report, "run_id": f"run{number}", "folder": f"trials/{number}"}
        trial = create_trial(values=[error, speed], user_attrs=attributes)
        trial.number = number
        trials.append(trial)
    return trials


def test_a_trial_is_out_only_if_another_beats_it_whatever_the_true_speeds() -> None:
    trials = made(
        (1, 2, 1.9, 2.1), (2, 1.95, 1.8, 2.0), (2, 1.85, 1.8, 1.9), (2, 1.8, 1.7, 1.85), (3, 3, 2.9, 3.1)
    )
    assert [t.number for t in reaching(trials, AIMS)] == [0, 1, 4]
    assert reaching([], AIMS) == []


def test_of_equal_trials_none_is_out() -> None:
    assert len(reaching(made((1, 2, 2, 2), (1, 2, 2, 2)), AIMS)) == 2


def test_speeds_measured_alone_take_the_place_of_the_studys() -> None:
    trials = made((1, 2.0, 1.9, 2.1), (2, 4.0, 3.9, 4.1))
    found = settled(trials, AIMS, {"1": {SPEED: [3.0, 2.9, 3.1], "measured_speedup_batch256": [5, 4, 6]}})
    assert found[1].values == [2, 3.0]
    assert notes(found[1]).report == {
        "validation_error": 2,
        SPEED: 3.0,
        f"{SPEED}_low": 2.9,
        f"{SPEED}_high": 3.1,
        f"{SPEED}_in_study": 4.0,
        "measured_speedup_batch256": 5,
        "measured_speedup_batch256_low": 4,
        "measured_speedup_batch256_high": 6,
    }
    assert found[0].values == [1, 1.5]  # as much less as the other one lost
    assert notes(found[0]).report[f"{SPEED}_low"] == pytest.approx(1.425)
    assert notes(found[0]).report[f"{SPEED}_in_study"] == 2.0
    assert [t.values for t in trials] == [[1, 2.0], [2, 4.0]]
    assert settled(trials, AIMS, {})[0] is trials[0]


@pytest.fixture
def study() -> Study:
    study = create_study(directions=["minimize", "maximize"])
    study.add_trials(made((1, 2, 1.9, 2.1), (2, 4, 3.9, 4.1), (3, 3.95, 3.9, 4.0), (4, 1, 0.9, 1.1)))
    note_study(study, StudyNotes(definition=Definition(objectives=AIMS)))
    return study


def test_what_is_due_is_timed_until_the_front_is_of_speeds_measured_alone(study: Study) -> None:
    assert [t.number for t in due(study)] == [0, 1, 2]
    alone = {"0": {SPEED: [2.0, 1.9, 2.1]}, "1": {SPEED: [1.5, 1.4, 1.6]}}
    note_study(study, StudyNotes(alone=alone))
    assert [t.number for t in due(study)] == [2]
    note_study(study, StudyNotes(alone=alone | {"2": {SPEED: [3.0, 2.9, 3.1]}}))
    assert due(study) == []
    assert [t.values for t in trials_of(study)][:3] == [[1, 2.0], [2, 1.5], [3, 3.0]]


def test_a_trial_that_trained_nothing_is_not_timed() -> None:
    study = create_study(directions=["minimize", "maximize"])
    study.add_trial(create_trial(values=[1, 2], user_attrs={"report": {}}))
    note_study(study, StudyNotes(definition=Definition(objectives=AIMS)))
    assert due(study) == []


@pytest.fixture
def two_types() -> Study:
    """Trials of two hosts, all on the front."""
    study = create_study(directions=["minimize", "maximize"])
    for number, trial in enumerate(made((1, 2, 2, 2), (2, 3, 3, 3), (3, 4, 4, 4))):
        trial.user_attrs["report"]["cpu"] = ["AMD EPYC 7763", "Intel Xeon"][number == 1]
        study.add_trial(trial)
    note_study(study, StudyNotes(definition=Definition(objectives=AIMS)))
    return study


def front_of(study: Study) -> list[int]:
    return [trial.number for trial in pareto(trials_of(study), AIMS)]


def test_a_front_of_two_types_of_cpu_says_so(two_types: Study) -> None:
    assert front_of(two_types) == [0, 1, 2]
    assert mixture(two_types) == (
        "speeds on the front were measured on 2 types of CPU and compare little: AMD EPYC 7763 (2 trials), "
        "Intel Xeon (1 trials); sweep.timing_on=TYPE keeps those of one"
    )
    note_study(two_types, StudyNotes(definition=Definition(objectives={"validation_error": "minimize"})))
    assert mixture(two_types) is None  # nothing was timed for it


def test_only_speeds_of_one_type_of_cpu_count(two_types: Study) -> None:
    note_study(two_types, StudyNotes(timing_on="epyc"))
    assert front_of(two_types) == [0, 2]
    assert mixture(two_types) is None
    assert [t.number for t in due(two_types)] == [0, 1, 2]  # who is timed again may yet be on the front
    note_study(two_types, StudyNotes(alone={"1": {SPEED: [3.0, 3.0, 3.0]}}, alone_on={"1": "Intel Xeon"}))
    assert [t.number for t in due(two_types)] == [0, 1, 2]  # that was on the other type
    note_study(two_types, StudyNotes(alone_on={"1": "AMD EPYC 7763"}))
    assert front_of(two_types) == [0, 1, 2]
    assert [t.number for t in due(two_types)] == [0, 2]
