"""The second account of each trial says what the storage said."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccsweep.study import record
from ccsweep.study.folder import StudyFolder, TrialFolder

DISTRIBUTIONS = {
    "estimator": CategoricalDistribution(("svd", None)),
    "ranks.layers.0": IntDistribution(4, 64, log=True),
    "training.l1": FloatDistribution(0.0, 1.0, step=0.25),
}


def trial(number: int, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    made = create_trial(
        state=state,
        values=[1.5, 3.0] if state == TrialState.COMPLETE else None,
        params={"estimator": None, "ranks.layers.0": 8, "training.l1": 0.75},
        distributions=DISTRIBUTIONS,
        user_attrs={"hash": "ab", "report": {"test_error": 1.5}},
        system_attrs={"fixed_params": {"training.l1": 0.75}},
    )
    made.number = number
    made.datetime_start = datetime(2026, 11, 23, 10, 0, 0, 123456)
    made.datetime_complete = datetime(2026, 11, 23, 10, 5) if state.is_finished() else None
    made.set_constraint("false_off<=0.2", -0.1)
    return made


def same(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Apart from Optuna's own id, which a storage gives anew."""
    other._trial_id = one._trial_id
    return one == other


@pytest.mark.parametrize(
    "state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
)
def test_an_account_is_read_as_it_was_written(state: TrialState, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    original = trial(0, state)
    record.write(folder.new_trial(0), original)
    (read,) = record.records(folder)
    assert same(read, original)
    assert read.constraints == {"false_off<=0.2": -0.1}


def test_it_is_a_file_for_people_too(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials" / "7")
    record.write(folder, trial(7, TrialState.RUNNING))
    content = json.loads(folder.record.read_text())
    assert folder.record.read_text() == json.dumps(content, indent=1) + "\n"
    assert content | {"distributions": {}, "system_attrs": {}} == {
        "number": 7,
        "state": "RUNNING",
        "params": {"estimator": None, "ranks.layers.0": 8, "training.l1": 0.75},
        "distributions": {},
        "values": None,
        "user_attrs": {"hash": "ab", "report": {"test_error": 1.5}},
        "system_attrs": {},
        "started": "2026-11-23T10:00:00.123456",
        "ended": None,
    }
    waiting = trial(8)
    waiting.datetime_start = None
    record.write(folder, waiting)
    content = json.loads(folder.record.read_text())
    assert (content["number"], content["started"], content["ended"]) == (8, None, "2026-11-23T10:05:00")


def test_accounts_come_in_the_order_of_numbers_and_damaged_ones_not_at_all(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for number in (10, 9, 2):
        record.write(folder.new_trial(number), trial(number))
    (tmp_path / "trials" / "0").mkdir()  # never written
    for name, content in (("1", '{"number": '), ("3", '{"number": 3}'), ("4", "")):
        (tmp_path / "trials" / name).mkdir()
        (tmp_path / "trials" / name / "trial.json").write_text(content)
    assert [found.number for found in record.records(folder)] == [2, 9, 10]
    assert record.records(StudyFolder(tmp_path / "none")) == []
