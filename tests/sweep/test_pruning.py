"""When a trial is clearly dominated."""

import sqlite3
from contextlib import closing
from math import inf
from pathlib import Path

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState, create_trial

from ccsweep.errors import Pruned
from ccsweep.study.objectives import read_constraint
from ccsweep.sweep.pruning import Pruner, dominating
from ccsweep.watch import tell, watching

METRIC = "validation/error"


def study_with(*others: tuple[float, float]) -> Study:
    """Two objectives; complete trials by their error in percent and their limit, the same at every epoch."""
    study = optuna.create_study(directions=["minimize", "maximize"])
    for error, limit in others:
        attrs = {
            "epochs": [[epoch, error, limit] for epoch in range(1, 11)],
            "report": {"samples.validation": 10_000},
        }
        study.add_trial(create_trial(values=[error, limit], user_attrs=attrs))
    return study


def run(study: Study, error: float, limit: float, epochs: int = 5) -> int:
    """Epochs that a trial with this error gets to do."""
    trial = study.ask()
    done = 0
    with watching(Pruner(trial, METRIC, constraints=[])):
        try:
            tell(0, {"bound": 30.0})
            for epoch in range(1, epochs + 1):
                done = epoch
                tell(epoch, {METRIC: error, "validation/speedup_limit": limit})
        except Pruned:
            study.tell(trial, state=TrialState.PRUNED)
    return done


def test_ends_at_the_third_epoch_when_two_are_better_with_no_more_to_compute() -> None:
    assert run(study_with((2.0, 30.0), (2.1, 30.0)), error=4.0, limit=30.0) == 3


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([(2.0, 30.0)], "one better trial may be luck"),
        ([(2.0, 30.0), (2.1, 20.0)], "this one has less to compute than the second"),
        ([(2.0, 30.0), (3.8, 30.0)], "0.2 % of 10,000 images is chance: two deviations are 0.55 %"),
        ([], "nothing to compare with"),
    ],
)
def test_goes_on(others: list[tuple[float, float]], why: str) -> None:
    assert run(study_with(*others), error=4.0, limit=25.0) == 5, why


def test_epochs_are_kept_for_the_trials_to_come() -> None:
    study = study_with()
    run(study, error=4.0, limit=20.0, epochs=2)
    (trial,) = study.get_trials()
    assert trial.user_attrs["epochs"] == [[1, 4.0, 20.0], [2, 4.0, 20.0]]


def test_a_trial_that_breaks_a_constraint_beats_nobody() -> None:
    study = study_with((2.0, 30.0))
    (good,) = study.get_trials()
    bad = create_trial(values=[2.0, 30.0], user_attrs=good.user_attrs)
    bad.set_constraint("false_off<=0.2", 0.1)
    study.add_trial(bad)
    assert [t.number for t in dominating(study.get_trials(), METRIC, 3, 4.0, 25.0)] == [0]


def test_a_bound_that_cannot_keep_a_constraint_ends_a_trial_before_training() -> None:
    constraints = [read_constraint("theoretical_speedup_inference>=8"), read_constraint("false_off<=0.2")]
    pruner = Pruner(study_with().ask(), None, constraints=constraints)
    with pytest.raises(Pruned) as caught:
        pruner(0, {"bound": 6.25})
    assert str(caught.value) == "cannot keep theoretical_speedup_inference>=8: these ranks give 6.25 at most"
    pruner(0, {"bound": inf})


def test_what_is_said_of_a_trial_that_ends() -> None:
    study = study_with((2.0, 30.0), (2.1, 31.0), (2.2, 30.0), (2.3, 30.0))
    pruner = Pruner(study.ask(), METRIC, constraints=[])
    pruner(2, {METRIC: 4.0, "validation/speedup_limit": 30.0})
    with pytest.raises(Pruned) as caught:
        pruner(3, {METRIC: 4.0, "validation/speedup_limit": 30.0})
    assert str(caught.value) == (
        "validation/error 4 at epoch 3: worse than trials 0, 1, 2, which had no more left to compute"
    )


def test_only_complete_trials_beat_another() -> None:
    study = study_with((2.0, 30.0))
    (good,) = study.get_trials()
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        study.add_trial(create_trial(state=state, user_attrs=good.user_attrs))
    study.add_trial(create_trial(values=[2.0, 30.0], user_attrs=good.user_attrs | {"reuses": 0}))
    assert run(study, error=4.0, limit=25.0) == 5


@pytest.mark.parametrize("is_objective", [True, False])
def test_optuna_is_told_of_the_epochs_of_its_objective(is_objective: bool) -> None:
    study = optuna.create_study()
    pruner = Pruner(study.ask(), METRIC, constraints=[], is_objective=is_objective)
    pruner(1, {METRIC: 4.0})
    pruner(2, {METRIC: 3.0})
    assert study.get_trials()[0].intermediate_values == ({1: 4.0, 2: 3.0} if is_objective else {})


def test_a_metric_whose_limit_is_not_logged_has_all_left_to_compute() -> None:
    study = study_with((2.0, 1.0), (2.1, 1.0))
    pruner = Pruner(study.ask(), METRIC, constraints=[])
    pruner(2, {METRIC: 4.0})
    with pytest.raises(Pruned):
        pruner(3, {METRIC: 4.0, "layer/0/density": 0.5})
    pruner = Pruner(study.ask(), METRIC, constraints=[])
    pruner(3, {METRIC: 4.0, "validation/layers/speedup_limit": 1.5})  # it has less to compute


def test_epochs_are_compared_with_the_same_epoch() -> None:
    attrs = {"epochs": [[1, 2.0, 30.0], [3, 5.0, 30.0]], "report": {"samples.validation": 10_000}}
    trials = [
        create_trial(values=[1.0], user_attrs={}),
        create_trial(values=[1.0], user_attrs=attrs),
        create_trial(values=[1.0], user_attrs=attrs | {"epochs": [[3, 2.0, 25.0]]}),
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    assert [t.number for t in dominating(trials, METRIC, 3, 4.0, 25.0)] == [2]
    assert [t.number for t in dominating(trials, METRIC, 1, 4.0, 25.0)] == [1]
    assert [t.number for t in dominating(trials, METRIC, 2, 4.0, 25.0)] == []


@pytest.mark.parametrize(
    ("metric", "theirs", "ours", "images", "better"),
    [
        # Two deviations of 20 % less 19 %: 2 sqrt((0.2 * 0.8 + 0.19 * 0.81) / n) is 1 % for n = 12,556.
        ("validation/error", 19.0, 20.0, 12_550, False),
        ("validation/error", 19.0, 20.0, 12_562, True),
        ("validation/error", 0.0, 0.0, 100, False),
        ("validation/error", 9.0, 10.0, None, False),  # of how many images is not known: 10 %
        ("validation/error", 8.9, 10.0, None, True),
        ("validation/loss", 9.0, 10.0, 1_000_000, False),
        ("validation/loss", 8.9, 10.0, 100, True),
        ("validation/loss", -11.1, -10.0, 100, True),
        ("validation/loss", -10.9, -10.0, 100, False),
    ],
)
def test_better_by_more_than_chance(
    metric: str, theirs: float, ours: float, images: int | None, better: bool
) -> None:
    attrs = {"epochs": [[3, theirs, 1.0]], "report": {} if images is None else {"samples.validation": images}}
    trial = create_trial(values=[1.0], user_attrs=attrs)
    assert dominating([trial], metric, 3, ours, 1.0) == ([trial] if better else [])


def test_a_bound_that_just_keeps_a_constraint() -> None:
    constraints = [read_constraint("theoretical_speedup>=2"), read_constraint("theoretical_speedup<=1")]
    pruner = Pruner(study_with().ask(), None, constraints=constraints)
    pruner(0, {"bound": 2.0})
    with pytest.raises(Pruned):
        pruner(0, {"bound": 1.99})


def test_a_storage_that_fails_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    pruner = Pruner(study.ask(), METRIC, constraints=[])
    pruner(1, {METRIC: 4.0})
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("drop table trials")
        database.execute("drop table trial_user_attributes")
        database.commit()
    caplog.clear()
    pruner(3, {METRIC: 4.0})
    ours = [record.getMessage() for record in caplog.records if record.name == "ccsweep.sweep.pruning"]
    assert len(ours) == 1
    assert ours[0].startswith(
        "the storage failed: StorageInternalError: An exception is raised during the commit."
    )
