"""What goes wrong while a study runs: real processes, real kills, real stores.

After each: the right number of finished trials, none running, none computed twice, the parent run closed.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from omegaconf import DictConfig
from optuna.trial import TrialState

from ccsweep.errors import UserError
from ccsweep.sweep import lease
from tests.sweep.conftest import (
    GRID,
    STUDY,
    Shell,
    Sweep,
    assert_nothing_twice,
    attributes,
    computed,
    states,
    stored,
)


def until(what: Callable[[], object], seconds: float = 300) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def leases() -> list[lease.Contents]:
    found = [lease.read(path) for path in sorted(Path("out/workers").glob("w*.json"))]
    return [contents for contents in found if contents is not None]


def at_work() -> list[lease.Contents]:
    """Workers that live and are at a trial, with the run opened if there is one."""
    return [w for w in leases() if w["ended"] is None and w.get("trial") is not None and lease.runs_here(w)]


def in_a_run() -> bool:
    return any(Path(f"out/trials/{w['trial']}/run.json").exists() for w in at_work())


def assert_no_orphans() -> None:
    """No worker lives on, and nothing that could hold a password was left."""
    assert not [w for w in leases() if lease.runs_here(w)]
    here = str(Path("out").resolve())
    for process in psutil.process_iter():
        try:
            assert here not in " ".join(process.cmdline())
        except psutil.Error:
            continue
    assert not list(Path("out/submitit").glob("*.pkl"))


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_trial(shell: Shell) -> None:
    shell.environment["TRACKED"] = "1"
    process = shell.start(*GRID, "training.source='1'")
    until(in_a_run)
    victim = at_work()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert states() == {"COMPLETE": 3, "FAIL": 1}
    assert attributes("cause") == ["worker died: killed, or its process exited"]
    assert attributes("kind") == ["machine"]
    (again,) = [t for t in stored().get_trials() if "retry_of" in t.user_attrs]
    assert again.params == stored().get_trials()[again.user_attrs["retry_of"]].params
    assert shell.statuses() == {"sweep": ["FINISHED"], "trial": [*["FINISHED"] * 3, "KILLED"]}
    (parent,) = [run for run in shell.runs() if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics == {"best/validation_error": 1.0, "hypervolume": 2.0}
    assert len(computed()) == 4
    assert_no_orphans()


@pytest.mark.slow
def test_a_sweeper_that_is_killed_and_its_command_given_again(shell: Shell) -> None:
    shell.environment["TRACKED"] = "1"
    command = [*GRID, "training.source='1.5'"]
    process = shell.start(*command)
    until(in_a_run)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    until(lambda: not at_work())  # they notice by themselves
    assert {t.user_attrs["cause"] for t in stored().get_trials() if t.state.name == "FAIL"} <= {
        "the sweeper is gone"
    }
    status, out = shell.run(*command)
    assert status == 0, out
    assert states() == {"COMPLETE": 3, "FAIL": 1}
    assert shell.statuses() == {"sweep": ["FINISHED"], "trial": [*["FINISHED"] * 3, "KILLED"]}
    assert_no_orphans()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_and_goes_on(shell: Shell, number: signal.Signals) -> None:
    tracked = number == signal.SIGINT  # MLflow takes its time
    if tracked:
        shell.environment["TRACKED"] = "1"
    command = [*GRID, "training.source='2'", "sweep.workers=2"]
    process = shell.start(*command)
    until(in_a_run if tracked else lambda: len(at_work()) == 2)
    process.send_signal(number)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130, out
    assert "go on with: python -m ccsweep -m" in out
    assert set(attributes("kind")) == {"stopped"}
    assert set(states()) == {"FAIL", "WAITING"}
    assert_no_orphans()
    if tracked:
        assert shell.statuses()["sweep"] == ["KILLED"]
        assert set(shell.statuses()["trial"]) == {"KILLED"}
    else:
        status, out = shell.run(*command)
        assert status == 0, out
        assert states() == {"COMPLETE": 3, "FAIL": 2}  # the points that were stopped, once more


def test_trials_that_raise_return_nan_or_run_out_of_memory(sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep(
            "training.source=raise,nan,no memory,fine".replace("no memory", "'no memory'"), "sweep.workers=2"
        )
    assert str(caught.value) == "3 of 4 runs failed; see above"
    trials = {t.params["training.source"]: t for t in stored().get_trials() if "retry_of" not in t.user_attrs}
    assert trials["raise"].user_attrs["cause"] == "ValueError: a bug in the task"
    assert trials["raise"].user_attrs["kind"] == "trial"
    assert trials["nan"].user_attrs["cause"] == "validation_error is nan"
    assert trials["'no memory'"].user_attrs["cause"] == "MemoryError"
    (again,) = [t for t in stored().get_trials() if "retry_of" in t.user_attrs]
    assert again.params["training.source"] == "'no memory'"
    assert states() == {"COMPLETE": 1, "FAIL": 4}
    log = "".join(path.read_text() for path in Path("out/workers").glob("*.log"))
    assert "Traceback" in log
    assert_no_orphans()


def test_a_trial_that_never_ends(sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep("training.source='no end',fine", "sweep.trial_timeout=0.02")
    assert str(caught.value) == "1 of 2 runs failed; see above"
    assert attributes("cause") == ["ran longer than sweep.trial_timeout=0.02 minutes"]
    assert attributes("kind") == ["trial"]
    assert states() == {"COMPLETE": 1, "FAIL": 1}
    assert_no_orphans()


def test_a_worker_that_dies_at_every_attempt_is_given_up(sweep: Sweep) -> None:
    with pytest.raises(UserError):
        sweep("training.source=killed,fine", "sweep.retries=1")
    assert attributes("cause") == ["worker died: killed, or its process exited"] * 2
    assert states() == {"COMPLETE": 1, "FAIL": 2}


def test_a_full_study_is_done_and_goes_on_with_a_higher_target(sweep: Sweep) -> None:
    first = sweep(*STUDY, "sweep.n_trials=3")
    assert [t.number for t in sweep(*STUDY, "sweep.n_trials=3")] == [0, 1, 2]
    assert len(computed()) == 3
    trials = sweep(*STUDY, "sweep.n_trials=5", "sweep.workers=2")
    assert [t.number for t in trials] == [0, 1, 2, 3, 4]
    assert [t.params for t in trials[:3]] == [t.params for t in first]
    assert_nothing_twice()


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_a_storage_file_cut_in_half(share: float, sweep: Sweep) -> None:
    sweep(*STUDY, "sweep.n_trials=6", "sweep.workers=2")
    before = {json.dumps(t.params): t.values for t in stored().get_trials()}
    journal = Path("out/study.journal")
    content = journal.read_bytes()
    left = content[: int(share * len(content))]
    journal.write_bytes(left)
    trials = sweep(*STUDY, "sweep.n_trials=7", "sweep.workers=2")
    assert {json.dumps(t.params): t.values for t in trials}.items() >= before.items()
    assert states() == {"COMPLETE": 7}
    assert len(computed()) == 7
    assert_nothing_twice()
    if left:
        assert Path("out/study.journal.damaged").read_bytes() == left


def test_a_study_whose_trials_are_pruned_or_fail(sweep: Sweep) -> None:
    """What fails is counted; only a study where everything failed is a failure."""
    space = ["training.source=pruned,nan,fine", "sweep.workers=2"]
    sweep("+sweep.objectives.validation_error=minimize", "sweep.sampler=grid", *space)
    assert states() == {"COMPLETE": 1, "FAIL": 1, "PRUNED": 1}
    assert attributes("cause", TrialState.PRUNED) == ["not worth it"]
    assert Path("out/report.html").exists()


class Unloadable:
    """A task that cannot be brought to another process."""

    def __call__(self, cfg: DictConfig) -> None:
        raise AssertionError

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("no number",)


def test_workers_that_cannot_even_start(sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep(*GRID, task=Unloadable())
    assert str(caught.value).startswith("3 workers in a row came to nothing (worker ended before it began")
    assert states() == {"WAITING": 3}
    assert_no_orphans()


@pytest.mark.slow
def test_eight_workers_at_once_on_a_fresh_store(sweep: Sweep) -> None:
    sweep(
        *STUDY,
        "sweep.n_trials=8",
        "sweep.workers=8",
        "sweep.storage=sqlite:///study.db",
        "training.source='0.3'",
    )
    from ccsweep.study.folder import StudyFolder
    from ccsweep.study.storage import open_study

    trials = open_study(StudyFolder(Path("out").resolve()), "sqlite:///study.db").get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"] * 8
    assert len({t.user_attrs["worker"] for t in trials}) >= 4  # a quick one may do two
    assert len(computed()) == len(set(computed())) == 8
    assert_no_orphans()


def test_the_same_point_is_computed_once(sweep: Sweep) -> None:
    """A control has no estimator: its settings make no other point."""
    trials = sweep(
        "ranks=control,16-12", "estimator=svd,whitened", "estimator.threshold=0,0.1", "sweep.workers=2"
    )
    assert states() == {"COMPLETE": 5, "REUSED": 3}
    table = json.loads(Path("out/table.json").read_text())
    assert all(run["report"] is not None for run in table["runs"])
    assert len(table["rows"]) == 8
    by_hash = {}
    for trial in trials:
        assert by_hash.setdefault(trial.user_attrs["hash"], trial.values) == trial.values


def test_a_small_space_ends_when_it_is_done(sweep: Sweep) -> None:
    space = ["training.l1=choice(0,0.1,0.2)", "training.l2=range(0,2)", "sweep.sampler=tpe"]
    trials = sweep(
        *[o for o in STUDY if "training" not in o and "sampler" not in o], *space, "sweep.n_trials=50"
    )
    assert states()["COMPLETE"] == 6
    assert len(computed()) == 6
    assert not [t for t in trials if not t.state.is_finished()]


@pytest.mark.slow
def test_only_one_sweep_works_on_a_study(shell: Shell) -> None:
    process = shell.start(*GRID, "training.source='1'")
    until(lambda: Path("out/sweeper.json").exists())
    status, out = shell.run(*GRID, "training.source='1'")
    assert status == 2
    here = Path("out").resolve()
    line = (
        f"ccsweep: {here}: another sweep is at work there; wait for it, stop it, or choose another sweep.name"
    )
    assert out.splitlines()[-1] == line
    process.communicate(timeout=300)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_finished_study_is_run_again_to_its_page_or_to_an_error(shell: Shell) -> None:
    command = [*STUDY, "sweep.n_trials=3"]
    status, out = shell.run(*command)
    assert status == 0, out
    page = Path("out/report.html")
    page.unlink()
    for _ in range(2):  # pandas, half imported by another thread, once was in the way
        status, out = shell.run(*command)
        assert (status, "Traceback" in out, page.is_file()) == (0, False, True), out
    page.unlink()
    page.mkdir()
    status, out = shell.run(*command)
    assert (status, "Traceback" in out) == (2, False)
    last = out.splitlines()[-1]
    assert last.startswith(f"ccsweep: {page.resolve()}: could not be written (")
    assert last.endswith("); the trials stand: mend it, then give the same command again")
    assert states() == {"COMPLETE": 3}
    assert_nothing_twice()
