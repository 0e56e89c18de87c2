"""What became of trials, and how long the rest will take."""

from datetime import timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ccsweep.report.study.standing import (
    Standing,
    cause_of,
    counts,
    duration,
    pace,
    ranks_of,
    run_of,
    seconds_of,
    settings_of,
    shortened,
    standing,
)
from tests.report.study import studies


def of(study: optuna.Study, seconds: float = 480, workers: int = 2) -> Standing:
    now = studies.BEGAN + timedelta(seconds=seconds)
    return standing(study.get_trials(), studies.OBJECTIVES, study.user_attrs["n_trials"], workers, now)


def test_trials_are_sorted_by_what_became_of_them(study: optuna.Study) -> None:
    now = of(study)
    places = [now.reused, now.pruned, now.failed, now.retried, now.stopped, now.running]
    assert [[t.number for t in place] for place in places] == [[12], [13], [14, 16], [15], [17], [18]]
    assert len(now.complete) == 12
    assert now.done == 15
    assert counts(now) == (
        "15 of 20 trials done, 1 running, 2 failed, 1 pruned, 1 reused, 1 retried, 1 stopped"
    )
    assert now.causes == [("validation_error is nan", 1), ("worker died: killed, or its process exited", 1)]


def test_time_left_is_from_the_mean_and_the_workers(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")  # target 20
    assert of(study).seconds_left is None
    assert pace(of(study)) == "no trial has finished yet"
    for i in range(4):
        studies.add(study, TrialState.COMPLETE, (1.0, 1.0), at=60 * (i // 2))
    assert of(study, seconds=120).seconds_left == pytest.approx(16 * 60 / 2)
    studies.add(study, TrialState.RUNNING, at=120)
    assert of(study, seconds=150).seconds_left == pytest.approx((16 * 60 - 30) / 2)
    text = "1 min a trial, 2.0 a minute with 2 workers, about 7 min 45 s left"
    assert pace(of(study, seconds=150)) == text


def test_the_last_trials_are_no_quicker_for_more_workers(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    study.set_user_attr("n_trials", 2)
    studies.add(study, TrialState.COMPLETE, (1.0, 1.0))
    studies.add(study, TrialState.RUNNING, at=60)
    assert of(study, seconds=80, workers=8).seconds_left == pytest.approx(40)
    assert of(study, seconds=999, workers=8).seconds_left == 0


def test_a_trial_that_waits_for_another_ones_result_does_not_run(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.RUNNING)
    studies.add(study, TrialState.RUNNING, held=0)
    assert [t.number for t in of(study).running] == [0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (3, "3 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (10.2, "10 s"),
        (59.6, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
        (86400, "1 d"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_long_numbers_are_shortened_and_ranks_are_not() -> None:
    assert (
        shortened("a=0.0032005908742293865 ranks=50-35-25 b=1e-05 c=2.25")
        == "a=0.003201 ranks=50-35-25 b=1e-05 c=2.25"
    )


def test_at_its_end_a_study_says_only_how_fast_it_was(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    study.set_user_attr("n_trials", 2)
    for at in (0, 3600):
        studies.add(study, TrialState.COMPLETE, (1.0, 1.0), at=at, seconds=3600)
    now = of(study, seconds=7200, workers=1)
    assert (now.seconds_left, now.hourly) == (0, 1)
    assert pace(now) == "1 h a trial, 1 an hour with 1 worker"
    assert pace(now, running=False) == "1 h a trial"
    assert pace(of(study, seconds=7200, workers=0)) == pace(now)  # nobody is no pace at all
    endless = standing(study.get_trials(), studies.OBJECTIVES, None, 2)
    assert endless.seconds_left is None
    assert counts(endless) == "2 trials done"
    assert pace(endless) == "1 h a trial, 2 an hour with 2 workers"
    assert endless.objectives == studies.OBJECTIVES


def test_trials_of_no_time_have_no_pace(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.COMPLETE, (1.0, 1.0), seconds=0)
    assert of(study).hourly is None


def test_a_trial_in_words(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    overrides = ["training.l1=0.1", "tracking.uri=http://a:b@c"]
    studies.add(study, TrialState.FAIL, overrides=overrides, cause="no\ndisk at http://a:b@c", params={})
    studies.add(study, TrialState.COMPLETE, (1.0, 1.0), params={"estimator": "svd"}, seconds=7)
    study.enqueue_trial({"estimator": "whitened", "training.l1": 0.5})
    failed, done, queued = study.get_trials()
    assert settings_of(failed) == "training.l1=0.1 tracking.uri=http://a:***@c"
    assert cause_of(failed) == "no disk at http://a:***@c"
    assert settings_of(queued) == "estimator=whitened training.l1=0.5"
    assert (ranks_of(done), run_of(done), seconds_of(done)) == ("16-12", "01ababab", 7)
    assert (ranks_of(queued), run_of(queued), seconds_of(queued)) == ("-", "-", None)
    assert cause_of(queued) == "no cause was recorded"
    done.user_attrs.pop("seconds")  # as a study of another program has it
    assert seconds_of(done) == 7
