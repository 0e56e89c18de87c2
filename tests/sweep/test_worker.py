"""A worker in this process: it asks for trials, runs them and tells how they went, with nobody to watch it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import DictConfig
from optuna import Study
from optuna.trial import Trial, TrialState, create_trial

from ccsweep.study import record
from ccsweep.study.folder import TrialFolder
from ccsweep.study.identity import identity
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.storage import open_study
from ccsweep.study.trials import Failed, Sorted, enqueue_points, handle, tell
from ccsweep.sweep import lease
from ccsweep.sweep import trial as trials_of_workers
from ccsweep.sweep import worker as workers
from ccsweep.sweep.lease import Lease
from ccsweep.sweep.worker import DONE, EXHAUSTED, Payload, Worker, remaining
from tests.sweep.conftest import AIM, STUDY, Command

Begin = Callable[..., tuple[Worker, Study]]


def report(cfg: DictConfig) -> dict[str, Any]:
    return {"validation_error": 1 + cfg.training.l1}


@pytest.fixture
def begin(command: Callable[..., Command]) -> Iterator[Begin]:
    """A worker of a study whose sweeper seems to be there."""
    with ExitStack() as stack:

        def begin(task: Any, *overrides: str) -> tuple[Worker, Study]:
            read = command(*overrides)
            study = read.study()
            enqueue_points(study, read.plan.points)
            read.plan.folder.workers.mkdir()
            sweeper = Lease(read.plan.folder.sweeper, "sweeper")
            stack.callback(sweeper.release, ended="done")
            state = Singleton.get_state()
            stack.callback(Singleton.set_state, state)
            payload = Payload(read.plan, read.context, read.master, task, state, "sweeper")
            worker = Worker(payload, "w0", 0)
            stack.callback(worker.lease.release, ended="done")
            worker.prepare()
            return worker, study

        yield begin


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_all_points_of_a_grid(begin: Begin) -> None:
    seen = []

    def task(cfg: DictConfig) -> dict[str, Any]:
        contents = lease.read(Path("out/workers/w0.json"))
        assert contents is not None
        assert abs(time.time() - contents["trial_started"]) < 60
        seen.append((contents["trial"], cfg.training.l1))
        return report(cfg)

    worker, study = begin(task, "training.l1=0,0.5,1")
    assert worker.work() == DONE
    assert seen == [(0, 0), (1, 0.5), (2, 1)]
    trials = study.get_trials()
    assert [trial.values for trial in trials] == [[1.0], [1.5], [2.0]]
    assert [notes(trial).worker for trial in trials] == ["w0"] * 3
    assert all(0 < (notes(trial).seconds or 0) < 60 for trial in trials)
    assert [trial.values for trial in record.records(worker.folder)] == [[1.0], [1.5], [2.0]]
    worker.end(DONE)
    contents = lease.read(worker.folder.lease("w0"))
    assert contents is not None
    assert (contents["ended"], contents["trial"]) == (DONE, None)


def test_no_more_than_were_asked_for(begin: Begin) -> None:
    worker, study = begin(
        report, AIM, "training.l1=interval(0,1)", "sweep.n_trials=3", "sweep.sampler=random"
    )
    assert worker.work() == DONE
    assert states(study) == ["COMPLETE"] * 3
    assert len({trial.params["training.l1"] for trial in study.get_trials()}) == 3


def test_a_space_of_which_every_point_was_tried(begin: Begin) -> None:
    """A sampler draws what was drawn before: after ten of those the points that are left are tried."""
    space = [AIM, "training.l1=range(0,5)", "sweep.n_trials=50", "sweep.sampler=random", "sweep.seed=1"]
    worker, study = begin(report, *space)
    assert worker.work() == EXHAUSTED
    computed = [trial for trial in study.get_trials() if notes(trial).reuses is None]
    assert sorted(trial.params["training.l1"] for trial in computed) == [0, 1, 2, 3, 4]
    assert set(states(study)) == {"COMPLETE"}


def test_points_that_are_all_the_same_are_given_up_where_there_is_no_end_of_them(
    begin: Begin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a control the estimator's threshold changes nothing."""
    space = [
        "ranks=control",
        "estimator.threshold=interval(0,1)",
        "sweep.n_trials=500",
        "sweep.sampler=random",
    ]
    worker, study = begin(report, AIM, *space)
    monkeypatch.setattr(workers, "REUSES", 12)
    assert worker.work() == EXHAUSTED
    assert len(study.get_trials()) == 1 + 12
    assert "12 points in a row were tried before: no new ones are found" in caplog.messages


def test_a_machines_failure_is_tried_again_by_the_same_worker(begin: Begin) -> None:
    errors: list[Exception] = [MemoryError(), ValueError("a bug")]

    def task(cfg: DictConfig) -> dict[str, Any]:
        if errors:
            raise errors.pop(0)
        return report(cfg)

    worker, study = begin(task, "training.l1=0,1")
    assert worker.work() == DONE
    assert states(study) == ["FAIL", "FAIL", "COMPLETE"]
    assert [(notes(t).kind, notes(t).cause) for t in study.get_trials()] == [
        ("machine", "MemoryError"),
        ("trial", "ValueError: a bug"),
        (None, None),
    ]
    assert notes(study.get_trials()[2]).retry_of == 0


@pytest.mark.parametrize(
    ("how", "announced", "cause", "excused"),
    [
        ("at its first try", True, "its time on the cluster was up", True),
        ("at its second trial", True, "its time on the cluster was up", True),
        ("with a checkpoint", True, "its time on the cluster was up", True),
        ("with an old checkpoint", True, "longer than the time that a worker has on the cluster", False),
        ("with nothing", True, "longer than the time that a worker has on the cluster", False),
        ("at its second trial", False, "worker cancelled by the cluster", True),
        ("with nothing", False, "worker cancelled by the cluster", False),
    ],
)
def test_a_trial_is_handed_back_unless_it_would_be_for_ever(
    how: str, announced: bool, cause: str, excused: bool, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(cfg: DictConfig) -> dict[str, Any]:
        if how == "at its second trial" and cfg.training.l1 == 0:
            return report(cfg)
        if "checkpoint" in how:
            saved = TrialFolder(Path(HydraConfig.get().runtime.output_dir)).last_checkpoint
            saved.parent.mkdir(parents=True)
            saved.touch()
            if "old" in how:
                os.utime(saved, (1e9, 1e9))
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "time_is_up", lambda: announced)
    monkeypatch.setattr(trials_of_workers, "HANDED_BACK", int(how == "at its first try"))
    worker, study = begin(task, "training.l1=0,1")
    worker.plan.sweep.cluster = "slurm"
    with pytest.raises(KeyboardInterrupt):
        worker.work()
    (ended,) = [trial for trial in study.get_trials() if trial.state == TrialState.FAIL]
    assert (notes(ended).kind, notes(ended).cause, notes(ended).excused) == ("machine", cause, excused)
    again = notes(study.get_trials()[2])
    assert (again.retry_of, again.resumes) == (ended.number, ended.number)


@pytest.mark.parametrize(
    ("how", "state", "cause", "kind"),
    [
        ("killed", "FAIL", "worker terminated (signal 15)", "machine"),
        ("stopped", "FAIL", "stopped with its sweep", "stopped"),
        ("gone", "FAIL", "the sweeper is gone", "machine"),
        ("done", "COMPLETE", None, None),
    ],
)
def test_an_interrupt(how: str, state: str, cause: str | None, kind: str | None, begin: Begin) -> None:
    def task(cfg: DictConfig) -> None:
        if how == "stopped":
            sweeper = Lease(worker.folder.sweeper, "sweeper")
            sweeper.release(stop=True)
        if how == "gone":
            worker._tie._gone_since = time.monotonic()
        if how == "done":  # and not told, yet
            TrialFolder(Path(HydraConfig.get().runtime.output_dir)).write_report(report(cfg))
        raise KeyboardInterrupt

    worker, study = begin(task, "training.l1=0,1")
    with pytest.raises(KeyboardInterrupt):
        worker.work()
    trial = study.get_trials()[0]
    assert (trial.state.name, notes(trial).cause, notes(trial).kind) == (state, cause, kind)
    assert notes(trial).excused == (how == "gone")
    assert len(states(study)) == (3 if kind == "machine" else 2)


def test_a_trial_that_the_sweeper_has_ended_meanwhile(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    def task(cfg: DictConfig) -> dict[str, Any]:
        study = open_study(worker.folder)
        if len(study.get_trials()) == 1:
            tell(
                handle(study, study.get_trials()[0]), Failed(Kind.TRIAL, "taken for dead"), worker.plan.rules
            )
        return report(cfg)

    worker, study = begin(task, "training.l1=0")
    assert worker.work() == DONE
    assert states(study) == ["FAIL"]
    assert notes(study.get_trials()[0]).cause == "taken for dead"
    assert "trial 0: was ended by the sweeper, which took this worker for dead" in caplog.messages


TWINS = ["ranks=control", "estimator=svd,whitened"]


def elsewhere(worker: Worker, study: Study) -> Trial:
    """The study's first trial, as another worker is at it."""
    trial = study.ask()
    own = worker.plan.space.overrides(worker.plan.space.suggest(trial))
    overrides = worker.plan.overrides(own)
    note(trial, Notes(worker="w1", hash=identity(worker.bench.composer.checked(overrides), overrides)))
    return trial


def soon(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Timer(0.3, action)
    thread.start()
    return thread


def test_a_trial_that_waits_gets_the_result_of_the_other_worker(begin: Begin) -> None:
    worker, study = begin(lambda cfg: pytest.fail("computed twice"), *TWINS)
    other = elsewhere(worker, study)
    other_done = soon(lambda: study.tell(other, 2.5))
    assert worker.work() == DONE
    other_done.join()
    trial = study.get_trials()[1]
    assert (trial.values, notes(trial).reuses, notes(trial).held) == ([2.5], 0, None)


def test_ways_to_the_same_result_are_all_run_where_they_are_what_is_swept(begin: Begin) -> None:
    ran: list[str] = []
    worker, study = begin(
        lambda cfg: (ran.append(cfg.training.step), report(cfg))[1], "training.step=skipping,dense"
    )
    assert worker.work() == DONE
    assert ran == ["skipping", "dense"]
    assert [notes(trial).reuses for trial in study.get_trials()] == [None, None]


def test_a_trial_that_waited_for_a_failure_is_run(begin: Begin) -> None:
    worker, study = begin(report, *TWINS)
    other = elsewhere(worker, study)
    other_failed = soon(lambda: study.tell(other, state=TrialState.FAIL))
    assert worker.work() == DONE
    other_failed.join()
    trial = study.get_trials()[1]
    assert (trial.state, notes(trial).reuses, notes(trial).held) == (TrialState.COMPLETE, None, None)


def test_a_worker_that_ends_lets_go_of_what_waits(begin: Begin) -> None:
    worker, study = begin(report, *TWINS)
    elsewhere(worker, study)
    trial = study.ask()
    worker._trial = trial
    worker._live(trial)
    assert notes(study.get_trials()[1]).held == 0
    worker.end("stopped")
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["RUNNING", "FAIL", "WAITING"]
    assert (notes(trials[1]).cause, notes(trials[1]).excused) == ("worker ended: stopped", True)


def test_how_many_trials_may_begin(command: Callable[..., Command]) -> None:
    def some(count: int) -> list[Any]:
        return [create_trial(state=TrialState.RUNNING)] * count

    grid = command("training.l1=range(0,9)").plan
    part = command("training.l1=range(0,9)", "sweep.n_trials=5").plan
    search = command(AIM, "training.l1=interval(0,1)", "sweep.n_trials=5").plan
    trials = Sorted(
        complete=some(1), pruned=some(1), failed=some(1), running=some(1), waiting=some(3), held=some(1)
    )
    assert remaining(grid, trials) == 3  # what waits, and nothing else
    assert remaining(part, trials) == 1  # 5 less 3 that are done and 1 that runs
    assert remaining(search, trials) == 1
    assert remaining(search, Sorted(reused=some(9), stopped=some(9), retried=some(9))) == 5
    assert remaining(part, Sorted()) == 0
    assert remaining(part, Sorted(complete=some(6), waiting=some(3))) == -1


def test_a_search_ends_when_its_time_is_over(command: Callable[..., Command]) -> None:
    plan = command(*STUDY, "sweep.n_trials=9", "sweep.minutes=1").plan
    assert remaining(plan, Sorted()) == 9
    plan.began -= 61
    assert remaining(plan, Sorted()) == 0


def test_a_search_ends_when_its_front_does_not_grow(command: Callable[..., Command]) -> None:
    plan = command(*STUDY, "sweep.n_trials=9", "sweep.patience=2").plan
    ends = [datetime(2026, 11, 1, 0, k) for k in range(4)]

    def done(*values: tuple[float, float]) -> Sorted:
        trials = [create_trial(values=list(pair)) for pair in values]
        for number, trial in enumerate(trials):
            trial.number, trial.datetime_complete = number, ends[number]
        return Sorted(complete=trials)

    assert (
        remaining(plan, done((3, 1), (1, 2), (2, 1.5))) == 6
    )  # one trial after the last that was any better
    assert remaining(plan, done((3, 1), (1, 2), (2, 1.5), (3, 1))) == 0
    assert remaining(plan, done((3, 1), (1, 2), (2, 1.5), (2, 3))) == 5
