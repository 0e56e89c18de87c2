"""What becomes of trials, told to real studies."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import nan
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna import Study
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ccsweep.study import trials
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.objectives import read_constraint
from ccsweep.study.trials import (
    Completed,
    EndedEarly,
    Ending,
    Failed,
    Reused,
    Rules,
    enqueue_points,
    first_attempt,
    handle,
    last_attempts,
    params_of,
    sort,
    tell,
    try_again,
)

RULES = Rules(
    {"validation_error": "minimize", "measured_speedup_batch1": "maximize"},
    [read_constraint("false_off<=0.25")],
    retries=1,
)
REPORT = {
    "validation_error": 2,
    "measured_speedup_batch1": 3.5,
    "false_off": 0.5,
    "ranks": "16-12",
    "run_id": "ab" * 16,
    "samples": {"validation": 100},
    "layers": [{"density": 0.5}],
}


@pytest.fixture
def study() -> Study:
    return optuna.create_study(
        directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )


def begin(study: Study, point: Mapping[str, Any] | None = None) -> Trial:
    """A trial that runs, at a point if one is given."""
    if point is not None:
        study.enqueue_trial(dict(point))
    trial = study.ask()
    for name in point or {}:
        trial.suggest_float(name, 0, 1)
    return trial


def ended(study: Study, ending: Ending, point: Mapping[str, Any] | None = None) -> FrozenTrial:
    trial = begin(study, point)
    tell(trial, ending, RULES)
    return study.get_trials()[trial.number]


def waiting(study: Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.WAITING,))


def test_a_trial_that_completed(study: Study) -> None:
    trial = ended(study, Completed(REPORT))
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [2.0, 3.5])
    assert trial.constraints == {"false_off<=0.25": 0.25}
    report = {key: value for key, value in REPORT.items() if key not in ("samples", "layers")}
    assert notes(trial) == Notes(report=report | {"samples.validation": 100}, ranks="16-12", run_id="ab" * 16)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"validation_error": nan}, "validation_error is nan"),
        ({"measured_speedup_batch1": None}, "the report has no measured_speedup_batch1"),
        ({"false_off": "low"}, "the report has 'low' as its false_off"),
    ],
)
def test_a_result_without_usable_figures_is_final(change: dict[str, Any], cause: str, study: Study) -> None:
    trial = ended(study, Completed(REPORT | change), {"x": 0.5})
    assert (trial.state, trial.values, trial.constraints) == (TrialState.FAIL, None, {})
    known = notes(trial)
    assert (known.kind, known.cause, known.ranks) == ("trial", cause, "16-12")
    assert waiting(study) == []


def test_a_trial_that_gets_the_result_of_another(study: Study) -> None:
    twin = ended(study, Completed(REPORT))
    trial = ended(study, Reused(twin))
    assert (trial.state, trial.values, trial.constraints) == (
        TrialState.COMPLETE,
        twin.values,
        twin.constraints,
    )
    assert trial.user_attrs == {**twin.user_attrs, "reuses": 0}


def test_a_trial_that_is_the_same_as_a_pruned_one(study: Study) -> None:
    twin = ended(study, EndedEarly("beaten by 2 trials"))
    assert (twin.state, notes(twin)) == (TrialState.PRUNED, Notes(cause="beaten by 2 trials", kind="pruned"))
    trial = ended(study, Reused(twin))
    assert trial.state == TrialState.PRUNED
    assert notes(trial) == Notes(cause="beaten by 2 trials", kind="pruned", reuses=0)


def test_a_trial_is_told_once(study: Study) -> None:
    trial = begin(study)
    tell(trial, EndedEarly("beaten"), RULES)
    with pytest.raises((ValueError, UpdateFinishedTrialError)):
        tell(trial, Completed(REPORT), RULES)
    assert study.get_trials()[0].state == TrialState.PRUNED


def test_a_fault_of_its_own_is_final(study: Study) -> None:
    trial = ended(study, Failed(Kind.TRIAL, "ValueError: a bug"), {"x": 0.5})
    assert trial.state == TrialState.FAIL
    assert notes(trial) == Notes(cause="ValueError: a bug", kind="trial")
    assert waiting(study) == []


def test_what_the_machine_failed_at_is_tried_again_as_often_as_the_rules_say(study: Study) -> None:
    trial = ended(study, Failed(Kind.MACHINE, "MemoryError"), {"x": 0.5})
    assert (trial.state, notes(trial)) == (TrialState.FAIL, Notes(cause="MemoryError", kind="machine"))
    (again,) = waiting(study)
    assert (params_of(again), notes(again)) == ({"x": 0.5}, Notes(retry_of=0, resumes=0, attempt=1))
    tell(begin(study), Failed(Kind.MACHINE, "OSError"), RULES)  # RULES.retries is 1
    assert waiting(study) == []
    assert notes(study.get_trials()[1]) == Notes(
        cause="OSError", kind="machine", retry_of=0, resumes=0, attempt=1
    )


def test_an_excused_failure_counts_among_no_tries(study: Study) -> None:
    gone = Failed(Kind.MACHINE, "the sweeper is gone", excused=True)
    first = ended(study, gone, {"x": 0.5})
    assert notes(first) == Notes(cause="the sweeper is gone", kind="machine", excused=True)
    for attempt in (1, 2):
        tell(begin(study), gone, RULES)
        (again,) = waiting(study)
        assert notes(again) == Notes(retry_of=0, resumes=attempt, attempt=attempt + 1)
    tell(begin(study), Failed(Kind.MACHINE, "MemoryError"), RULES)  # the first that counts
    (again,) = waiting(study)
    assert notes(again) == Notes(retry_of=0, resumes=3, attempt=4)
    tell(begin(study), Failed(Kind.MACHINE, "MemoryError"), RULES)
    assert waiting(study) == []
    tell(begin(study, {"x": 0.25}), Failed(Kind.MACHINE, "MemoryError"), RULES)  # another point has its own
    assert [params_of(trial) for trial in waiting(study)] == [{"x": 0.25}]


def test_only_failures_of_the_machine_count_as_tries(study: Study) -> None:
    ended(study, Failed(Kind.STOPPED, "stopped with its sweep"), {"x": 0.5})
    try_again(study, study.get_trials()[0], study.get_trials())
    tell(begin(study), Failed(Kind.MACHINE, "MemoryError"), RULES)
    (again,) = waiting(study)
    assert notes(again) == Notes(retry_of=0, resumes=1, attempt=2)


def test_the_next_try_is_in_the_queue_before_the_failure_is_told(tmp_path: Path) -> None:
    """Who is killed in between loses no point."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))), directions=["minimize"] * 2
    )
    trial = begin(study, {"x": 0.5})
    before = len(path.read_text().splitlines())
    tell(trial, Failed(Kind.MACHINE, "MemoryError"), RULES)
    written = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    states = [line["state"] for line in written if "state" in line]
    assert states == [TrialState.WAITING, TrialState.FAIL]


def test_a_machines_failure_at_nobody_knows_what_is_let_go(study: Study) -> None:
    trial = ended(study, Failed(Kind.MACHINE, "worker died: killed, or its process exited"))
    assert notes(trial) == Notes(cause="worker died: killed, or its process exited", kind="stopped")
    assert waiting(study) == []


def test_the_one_point_of_a_grid_without_parameters_is_tried_again(study: Study) -> None:
    enqueue_points(study, [{}])
    trial = study.ask()
    tell(trial, Failed(Kind.MACHINE, "MemoryError"), RULES)
    (again,) = waiting(study)
    assert notes(again) == Notes(retry_of=0, resumes=0, attempt=1, point="{}")


def test_a_point_is_put_into_the_queue_once(study: Study) -> None:
    trial = ended(study, Failed(Kind.STOPPED, "stopped"), {"x": 0.5})
    for _ in range(2):
        try_again(study, trial, study.get_trials())
    assert [notes(again) for again in waiting(study)] == [Notes(retry_of=0, resumes=0, attempt=1)]
    unknown = ended(study, Failed(Kind.STOPPED, "stopped"))  # takes the one that waits
    assert unknown.number == 1
    nothing = ended(study, Failed(Kind.STOPPED, "stopped"))
    try_again(study, nothing, study.get_trials())
    assert waiting(study) == []


def test_points_are_put_into_the_queue_once(study: Study) -> None:
    enqueue_points(study, [{"b": 1, "a": None}, {"a": "x"}])
    enqueue_points(study, [{"a": "x"}, {"a": None, "b": 1}, {"a": "y"}])
    assert [params_of(trial) for trial in study.get_trials()] == [{"b": 1, "a": None}, {"a": "x"}, {"a": "y"}]
    assert [notes(trial).point for trial in study.get_trials()] == [
        '{"a": null, "b": 1}',
        '{"a": "x"}',
        '{"a": "y"}',
    ]


def test_what_a_trial_tries(study: Study) -> None:
    study.enqueue_trial({"x": 0.5, "y": 0.25})
    assert params_of(study.get_trials()[0]) == {"x": 0.5, "y": 0.25}
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.suggest_float("z", 0, 0)
    assert params_of(study.get_trials()[0]) == {"x": 0.5, "y": 0.25, "z": 0.0}


def test_a_handle_on_a_trial_that_another_process_began(study: Study) -> None:
    begin(study)
    begin(study)
    note(handle(study, study.get_trials()[1]), Notes(worker="w1"))
    assert [notes(trial).worker for trial in study.get_trials()] == [None, "w1"]
    assert handle(study, study.get_trials()[1]).study is study


def made(number: int, state: TrialState, minutes: int | None = None, **attrs: Any) -> FrozenTrial:
    trial = create_trial(
        state=state,
        values=[1.0, 1.0] if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs=attrs,
    )
    trial.number = number
    if state.is_finished():
        trial.datetime_complete = datetime(2026, 11, 23) + timedelta(
            minutes=number if minutes is None else minutes
        )
    return trial


EVERY_KIND = [
    made(0, TrialState.COMPLETE, minutes=9),
    made(1, TrialState.PRUNED, kind="pruned"),
    made(2, TrialState.FAIL, minutes=8, kind="trial"),
    made(3, TrialState.FAIL, kind="machine"),  # tried again as 5, and that as 6
    made(4, TrialState.FAIL, kind="stopped"),
    made(5, TrialState.FAIL, kind="machine", retry_of=3),
    made(6, TrialState.FAIL, kind="machine", retry_of=3),
    made(7, TrialState.COMPLETE, reuses=0),
    made(8, TrialState.PRUNED, reuses=1),
    made(9, TrialState.RUNNING),
    made(10, TrialState.RUNNING, held=9),
    made(11, TrialState.WAITING, retry_of=4),
    made(12, TrialState.RUNNING, held=None),
    made(13, TrialState.FAIL, kind="stopped", retry_of=4),
]


def test_each_trial_is_sorted_into_one_list() -> None:
    found = sort(reversed(EVERY_KIND))
    assert {name: [t.number for t in getattr(found, name)] for name in found.__dataclass_fields__} == {
        "complete": [0],
        "reused": [7, 8],
        "pruned": [1],
        "failed": [2, 6],
        "retried": [3, 5],
        "stopped": [4, 13],
        "running": [9, 12],
        "held": [10],
        "waiting": [11],
    }
    assert found.done == 4
    assert [t.number for t in found.finished] == [1, 6, 2, 0]  # as they ended
    assert trials.sort([]).done == 0


def test_attempts_at_a_point() -> None:
    assert [first_attempt(trial) for trial in EVERY_KIND] == [0, 1, 2, 3, 4, 3, 3, 7, 8, 9, 10, 4, 12, 4]
    assert last_attempts(EVERY_KIND[:7]) == {0: 0, 1: 1, 2: 2, 3: 6, 4: 4}
