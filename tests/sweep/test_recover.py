"""What is found when a sweep begins: a study of that name, a storage that lost trials, workers left over."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna import Study
from optuna.trial import TrialState

from ccsweep.errors import UserError
from ccsweep.study import record
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import Definition, Kind, Notes, note, notes, study_notes
from ccsweep.study.storage import create, open_study
from ccsweep.study.trials import Completed, Failed, enqueue_points, handle, params_of, tell
from ccsweep.sweep import lease, recover
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import Run
from tests.sweep.conftest import AIM, Command

SEARCH = [AIM, "training.l1=interval(0,1)", "sweep.n_trials=3", "sweep.sampler=random"]
REPORT = {"validation_error": 2.0}


@pytest.fixture
def plan(command: Callable[..., Command]) -> Callable[..., Plan]:
    """A plan whose folder is there."""

    def plan(*overrides: str) -> Plan:
        found = command(*overrides).plan
        found.folder.path.mkdir(exist_ok=True)
        return found

    return plan


def begin(plan: Plan, study: Study, worker: str = "w0") -> int:
    """A trial that a worker is at, as far as it gets before its task starts; its number."""
    trial = study.ask()
    note(trial, Notes(worker=worker, overrides=plan.space.overrides(plan.space.suggest(trial))))
    folder = plan.folder.new_trial(trial.number)
    note(trial, Notes(folder=f"trials/{folder.path.name}"))
    record.write(folder, study.get_trials()[trial.number])
    return trial.number


def end(plan: Plan, study: Study, number: int, error: float) -> None:
    tell(handle(study, study.get_trials()[number]), Completed({"validation_error": error}), plan.rules)
    trial = study.get_trials()[number]
    place = notes(trial).place(plan.folder)
    assert place is not None
    record.write(place, trial)


def test_a_study_says_what_it_is(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH, "training.l2=0.5", "tracking.uri=postgresql://ann:s3cret@db/runs")
    study = recover.open_or_begin(found)
    known = study_notes(study)
    assert known.definition == found.definition
    assert known.definition.base == ["training.l2=0.5"]
    assert known.settings == found.settings
    assert known.settings is not None
    assert known.settings["training"]["l2"] == 0.5
    assert (known.folder, known.host, known.n_trials) == (str(found.folder.path), socket.gethostname(), 3)
    assert (known.uri, known.command) == ("postgresql://ann:***@db/runs", found.command_to_go_on)
    assert known.commit is not None
    assert len(known.commit) == 40 or known.commit == "unknown"
    content = json.loads(found.folder.definition.read_text())
    assert Definition.read(content) == found.definition
    assert (content["settings"], content["command"]) == (found.settings, found.shown_command)
    assert found.folder.definition.read_text() == json.dumps(content, indent=2) + "\n"
    assert recover.open_or_begin(found).study_name == "out"


def test_more_trials_are_no_other_study(plan: Callable[..., Plan]) -> None:
    recover.open_or_begin(plan(*SEARCH))
    study = recover.open_or_begin(plan(*SEARCH, "sweep.n_trials=9", "sweep.workers=2"))
    assert study_notes(study).n_trials == 9


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("+sweep.objectives.density=minimize", "began with sweep.objectives.density=nothing, found minimize"),
        ("training.l1=choice(0,1)", "began with sweep.space.training.l1=interval(0,1), found choice(0,1)"),
        (
            "+sweep.conditions={training.l1:'ranks=16-12'}",
            "began with sweep.conditions.training.l1=nothing, found ranks=16-12",
        ),
        ("sweep.constraints=['density<=1']", 'began with sweep.constraints=[], found ["density<=1"]'),
        ("sweep.sampler=tpe", "began with sweep.sampler=random, found tpe"),
        ("sweep.pruning=validation/error", "began with sweep.pruning=nothing, found validation/error"),
        ("training.l2=0.5", "began with training.l2=0.0005, found 0.5"),
        ("data.samples=100", "began with data.samples=nothing, found 100"),
        ("ranks.layers=[8,6]", "began with ranks.layers=[16, 12], found [8, 6]"),
    ],
)
def test_another_definition_is_refused(change: str, complaint: str, plan: Callable[..., Plan]) -> None:
    began = plan(*SEARCH)
    recover.open_or_begin(began)
    other = plan(*SEARCH, change)

    def refused() -> None:
        with pytest.raises(UserError) as caught:
            recover.open_or_begin(other)
        assert str(caught.value) == f"sweep.name=out: {complaint}; choose another sweep.name"

    refused()
    for account in (began.folder.journal, began.folder.definition):  # either of the two is enough
        away = account.rename(account.with_suffix(".away"))
        refused()
        away.rename(account)


def test_the_same_settings_may_be_written_in_several_ways(plan: Callable[..., Plan]) -> None:
    recover.open_or_begin(plan(*SEARCH))
    recover.open_or_begin(plan(*SEARCH, "data.verify=false", "training.l2=5e-4", "ranks.layers=[16,12]"))


def test_the_order_of_objectives_is_the_order_of_values(plan: Callable[..., Plan]) -> None:
    two = [
        "+sweep.objectives.density=minimize",
        "+sweep.objectives.seconds=minimize",
        "training.l1=0,1",
        "training.l2=0,1",
    ]
    recover.open_or_begin(plan(*two, "sweep.sampler=grid"))
    turned = plan(two[1], two[0], two[3], two[2], "sweep.sampler=grid")
    with pytest.raises(UserError) as caught:
        recover.refuse_change(turned)
    assert str(caught.value) == (
        'sweep.name=out: began with sweep.objectives={"density": "minimize", "seconds": "minimize"}, '
        'found {"seconds": "minimize", "density": "minimize"}; choose another sweep.name'
    )
    recover.refuse_change(plan(*two[:2], two[3], two[2], "sweep.sampler=grid"))


def test_seeds_are_part_of_a_study(plan: Callable[..., Plan]) -> None:
    recover.open_or_begin(plan("training.l1=0,1", "seeds=2"))
    with pytest.raises(UserError) as caught:
        recover.open_or_begin(plan("training.l1=0,1", "seeds=3"))
    complaint = "began with sweep.space.training.seed=range(0,2), found range(0,3)"
    assert str(caught.value) == f"sweep.name=out: {complaint}; choose another sweep.name"


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"settings": null, "colour": "red"}'])
def test_a_definition_that_says_nothing_refuses_nothing(content: str, plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    found.folder.definition.write_text(content)
    recover.refuse_change(found)


def test_a_folder_that_belongs_to_a_run(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    (found.folder.path / "run.json").write_text(json.dumps({"run_id": "ab" * 16, "uri": "sqlite:///x.db"}))
    with pytest.raises(UserError) as caught:
        recover.open_or_begin(found)
    assert str(caught.value) == (
        f"hydra.sweep.dir={found.folder.path}: holds run {'ab' * 16} already; choose another folder"
    )
    found.folder.definition.write_text("{}")  # a study's own parent
    recover.open_or_begin(found)


def test_a_study_of_that_name_in_another_folder(plan: Callable[..., Plan], tmp_path: Path) -> None:
    overrides = [*SEARCH, f"sweep.storage=sqlite:///{tmp_path}/study.db"]
    study = recover.open_or_begin(plan(*overrides))
    other = StudyFolder(tmp_path / "elsewhere" / "out")
    study.set_user_attr("folder", str(other.path))
    recover.open_or_begin(plan(*overrides))  # it was moved here
    study.set_user_attr("folder", str(other.path))
    other.path.mkdir(parents=True)
    other.definition.write_text("{}")
    with pytest.raises(UserError) as caught:
        recover.open_or_begin(plan(*overrides))
    assert str(caught.value) == (
        f"sweep.name=out: sweep.storage holds a study of that name whose folder is {other.path} on "
        f"{socket.gethostname()}; choose another sweep.name"
    )


def test_a_folder_of_the_same_path_on_another_host(plan: Callable[..., Plan], tmp_path: Path) -> None:
    """Two hosts, one database, disks not shared: the second one must not end the first one's trials."""
    overrides = [*SEARCH, f"sweep.storage=sqlite:///{tmp_path}/study.db"]
    found = plan(*overrides)
    study = recover.open_or_begin(found)
    study.set_user_attr("host", "first")
    here = found.folder.definition
    own = here.read_text()
    for theirs in (None, own.replace(study.user_attrs["id"], "0" * 32)):
        here.unlink(missing_ok=True)
        if theirs is not None:
            here.write_text(theirs)
        with pytest.raises(UserError) as caught:
            recover.open_or_begin(found)
        assert str(caught.value) == (
            f"sweep.name=out: sweep.storage holds a study of that name whose folder is {found.folder.path} "
            "on first; choose another sweep.name"
        )
    here.write_text(own)
    recover.open_or_begin(found)


def test_trials_that_the_storage_lost_come_back(
    plan: Callable[..., Plan], caplog: pytest.LogCaptureFixture
) -> None:
    found = plan(*SEARCH)
    study = recover.open_or_begin(found)
    for error in (1.0, 2.0):
        end(found, study, begin(found, study), error)
    study.ask()  # has no folder, yet
    begin(found, study)
    before = study.get_trials()
    found.folder.journal.unlink()
    study = recover.open_or_begin(found)
    after = study.get_trials()
    assert caplog.messages == ["3 trials were put back from their own folders"]
    assert [t.state for t in after] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    for number in (0, 1, 3):
        one, other = before[number], after[number]
        assert (one.number, one.params, one.values, one.user_attrs) == (
            other.number,
            other.params,
            other.values,
            other.user_attrs,
        )
    assert notes(after[2]) == Notes(
        kind="stopped", cause="lost with the storage; it had no result of its own"
    )
    assert recover.restore(study, found.folder) == 0


def test_trials_that_a_cut_storage_has_behind_their_records(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH, "sweep.points=['training.l1=0.25','training.l1=0.75']")
    study = recover.open_or_begin(found)
    enqueue_points(study, found.points)
    cut = found.folder.journal.read_bytes()
    first = begin(found, study)
    half = found.folder.journal.read_bytes()
    end(found, study, first, 1.0)
    begin(found, study)
    before = study.get_trials()
    for content, count in ((cut, 2), (half, 2)):  # both wait; the first one runs
        found.folder.journal.write_bytes(content)
        study = open_study(found.folder)
        assert recover.restore(study, found.folder) == count
        after = study.get_trials()
        assert [t.state for t in after] == [TrialState.COMPLETE, TrialState.RUNNING]
        assert [t.values for t in after] == [[1.0], None]
        assert [t.params for t in after] == [t.params for t in before]
        assert [t.distributions for t in after] == [t.distributions for t in before]
        assert [t.user_attrs for t in after] == [t.user_attrs for t in before]
        assert [params_of(t) for t in after] == [{"training.l1": 0.25}, {"training.l1": 0.75}]
        assert recover.restore(study, found.folder) == 0


def test_a_damaged_storage_is_mended_and_filled_up(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    study = recover.open_or_begin(found)
    for error in (1.0, 2.0, 3.0):
        end(found, study, begin(found, study), error)
    content = found.folder.journal.read_bytes()
    found.folder.journal.write_bytes(content[: 2 * len(content) // 3])
    study = recover.open_or_begin(found)
    assert [t.values for t in study.get_trials()] == [[1.0], [2.0], [3.0]]
    assert (found.folder.path / "study.journal.damaged").exists()


LEFT = Failed(Kind.MACHINE, "worker died: killed, or its process exited")


def test_a_trial_that_nobody_is_at_any_more(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    study = recover.open_or_begin(found)
    done, lost = begin(found, study), begin(found, study, "w1")
    place = notes(study.get_trials()[done]).place(found.folder)
    assert place is not None
    place.write_report(REPORT)  # it got that far, whatever was told
    assert [t.number for t in recover.running_of(study, None)] == [0, 1]
    assert [t.number for t in recover.running_of(study, "w1")] == [1]
    for number in (done, lost):
        recover.settle(found, study, study.get_trials()[number], LEFT)
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "WAITING"]
    assert (trials[0].values, notes(trials[1]).cause) == ([2.0], "worker died: killed, or its process exited")
    assert notes(trials[2]).retry_of == 1
    assert [t.state.name for t in record.records(found.folder)] == ["COMPLETE", "FAIL"]
    nameless = study.ask()  # takes the new try, and was killed before it had a folder
    recover.settle(found, study, study.get_trials()[nameless.number], LEFT)
    assert study.get_trials()[nameless.number].state == TrialState.FAIL


def test_the_run_of_a_trial_that_nobody_is_at_is_ended(plan: Callable[..., Plan], uri: str) -> None:
    found = plan(*SEARCH)
    study = recover.open_or_begin(found)
    number = begin(found, study)
    place = notes(study.get_trials()[number]).place(found.folder)
    assert place is not None
    run = Run.start(
        uri, experiment="tests", name="0", params={}, tags={}, folder=place.path, system_metrics=False
    )
    recover.settle(found, study, study.get_trials()[number], LEFT)
    assert run._client.get_run(run.id).info.status == "KILLED"


def test_what_a_sweeper_left_is_settled(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    study = recover.open_or_begin(found)
    stopped, running = begin(found, study), begin(found, study)
    tell(
        handle(study, study.get_trials()[stopped]),
        Failed(Kind.STOPPED, "stopped with its sweep"),
        found.rules,
    )
    params = [params_of(trial) for trial in study.get_trials()]
    recover.clear(study, found)
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert notes(trials[running]).cause == "its sweeper was gone"
    assert notes(trials[running]).excused
    assert [params_of(t) for t in trials[2:]] == [params[1], params[0]]
    recover.clear(study, found)
    assert len(study.get_trials()) == 4


def test_workers_that_outlived_their_sweeper_are_ended(
    plan: Callable[..., Plan], caplog: pytest.LogCaptureFixture
) -> None:
    found = plan(*SEARCH)
    found.folder.workers.mkdir()
    found.folder.submitit.mkdir()
    (found.folder.submitit / "1_submitted.pkl").write_text("a password")
    code = "import sys, time; from pathlib import Path; from ccsweep.sweep.lease import Lease; Lease(Path(sys.argv[1]), 'w0'); time.sleep(60)"
    path = found.folder.lease("w0")
    environment = {**os.environ, lease.WORKER: str(path)}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment) as process:
        while (contents := lease.read(path)) is None:
            time.sleep(0.02)
        forged = contents | {"pid": os.getpid(), "pid_started": lease.started(os.getpid())}
        for name, ended in (("w1", "done"), ("w3", None)):  # who can write into the folder can write this
            other = found.folder.lease(name)
            other.write_text(json.dumps(forged | {"id": name, "path": str(other), "ended": ended}))
        found.folder.lease("w2").write_text("half")
        recover.end_workers(found.folder)
        assert process.wait(timeout=5) == -signal.SIGKILL
    assert caplog.messages == ["worker w0 of a sweep that is gone was still at work: ended"]
    assert list(found.folder.submitit.iterdir()) == []


def test_a_worker_on_another_host_is_waited_for(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(*SEARCH)
    found.folder.workers.mkdir()
    path = found.folder.lease("w0")
    contents: dict[str, Any] = {
        "id": "w0",
        "path": str(path),
        "host": "elsewhere",
        "pid": 1,
        "pid_started": "x",
        "beat": 1,
        "ended": None,
    }
    path.write_text(json.dumps(contents))
    looks = []

    def sleep(seconds: float) -> None:
        """It notices at the second look that its sweeper is gone."""
        looks.append(seconds)
        ended = None if len(looks) < 2 else "the sweeper is gone"
        path.write_text(json.dumps(contents | {"beat": len(looks) + 1, "ended": ended}))

    monkeypatch.setattr(recover.time, "sleep", sleep)
    recover.end_workers(found.folder)
    assert looks == [1.0, 1.0]


def test_a_study_that_was_begun_without_a_definition_gets_one(plan: Callable[..., Plan]) -> None:
    found = plan(*SEARCH)
    create(found.folder, None, found.objectives)
    assert study_notes(recover.open_or_begin(found)).definition == found.definition


@pytest.mark.parametrize("in_database", [False, True])
def test_a_study_whose_trials_all_failed_is_begun_anew(
    in_database: bool, plan: Callable[..., Plan], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = [f"sweep.storage=sqlite:///{tmp_path}/study.db"] if in_database else []
    began = plan(*SEARCH, *where, "training.l2=0.5")
    study = recover.open_or_begin(began)
    for _ in range(2):
        number = begin(began, study)
        tell(handle(study, study.get_trials()[number]), Failed(Kind.TRIAL, "no such run"), began.rules)
    changed = plan(*SEARCH, *where, "training.l2=0.25")
    again = recover.open_or_begin(changed)
    assert again.get_trials() == []
    aside = began.folder.path / "failed-1"
    assert caplog.messages == [f"all 2 trials had failed: begun anew; what they left is in {aside}"]
    assert (aside / "study.json").exists()
    assert (aside / "trials" / "1" / "trial.json").exists()
    end(changed, again, begin(changed, again), 1.0)
    with pytest.raises(UserError) as caught:  # this one has a result
        recover.open_or_begin(plan(*SEARCH, *where, "training.l2=0.5"))
    assert str(caught.value) == (
        "sweep.name=out: began with training.l2=0.25, found 0.5; choose another sweep.name"
    )
