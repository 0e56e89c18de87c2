"""When a trial is clearly dominated."""

from math import inf

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
