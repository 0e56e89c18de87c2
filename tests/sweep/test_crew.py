"""Workers without a sweep: processes of this test, some with a lease as a worker has one."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ccsweep.study.folder import StudyFolder
from ccsweep.sweep import crew as crews
from ccsweep.sweep import lease
from ccsweep.sweep.crew import Crew, Member, kill_tree
from tests.sweep.conftest import Command

WORKER = """
import signal, sys, time
from pathlib import Path
from ccsweep.sweep.lease import Lease
held = Lease(Path(sys.argv[1]), "w")
def end(number, frame):
    held.release(ended="stopped")
    sys.exit()
signal.signal(signal.SIGTERM, {"deaf": signal.SIG_IGN, "hears": end}[sys.argv[2]])
held.set(trial=3, ready=True)
time.sleep(60)
"""


class Job:
    """What submitit gives for a worker that was started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.over = self.cancelled = False
        self.job_id = "7"
        self.paths = SimpleNamespace(stderr="w_log.err")

    def done(self) -> bool:
        return self.over

    def cancel(self, check: bool = True) -> None:
        self.over = self.cancelled = True
        if self.path.exists():
            said(self.path, ended="cancelled")


@pytest.fixture
def crew(command: Callable[..., Command]) -> Callable[..., Crew]:
    """Nobody is in it, yet."""

    def crew(*overrides: str) -> Crew:
        plan = command("training.l1=0,1", *overrides).plan
        plan.folder.path.mkdir(exist_ok=True)
        return Crew(plan.folder, plan.sweep, None, plan.workers)  # type: ignore[arg-type]

    return crew


@pytest.fixture
def worker() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """A process that holds a lease as a worker does."""
    with ExitStack() as stack:

        def worker(path: Path, how: str = "hears") -> "subprocess.Popen[bytes]":
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(path), how],
                    env={**os.environ, lease.WORKER: os.path.realpath(path)},
                )
            )
            stack.callback(process.kill)
            while not (lease.read(path) or {}).get("ready"):
                time.sleep(0.02)
            return process

        yield worker


def member(crew: Crew, name: str, slot: int = 0) -> Member:
    found = Member(name, slot, Job(crew.folder.lease(name)), crew.folder.lease(name))
    crew.members.append(found)
    return found


def said(path: Path, **contents: Any) -> None:
    known: dict[str, Any] = {"id": path.stem, "path": os.path.realpath(path), "host": socket.gethostname()}
    known |= {"pid": os.getpid(), "beat": 1, "ended": None}
    path.write_text(json.dumps(known | {"pid_started": lease.started(os.getpid())} | contents))


def test_what_a_sweep_that_was_killed_left(crew: Callable[..., Crew], folder: Path) -> None:
    study = StudyFolder(folder / "out")
    study.workers.mkdir(parents=True)
    study.submitit.mkdir()
    for name in ("w0.json", "w11.json", "w9.json", "wx.json"):
        (study.workers / name).touch()
    (study.submitit / "1_submitted.pkl").write_text("a password")
    made = crew()
    assert made._next == 12  # no worker has the name of another
    assert list(study.submitit.glob("*.pkl")) == []
    assert stat.S_IMODE(study.submitit.stat().st_mode) == 0o700


def test_workers_that_have_ended(crew: Callable[..., Crew]) -> None:
    made = crew()
    lives, ended, killed, crashed, unborn, waits = (member(made, f"w{i}") for i in range(6))
    said(lives.path, trial=4)
    said(ended.path, ended="done")
    said(killed.path, pid_started="long ago")
    killed.path.with_suffix(".log").write_text("a log\n")
    said(crashed.path, pid_started="long ago")
    crashed.path.with_suffix(".log").write_bytes(
        b"\xff" + b"x" * 5000 + b"\nFatal Python error: Segmentation fault\n\nstack"
    )
    unborn.job.over = True
    assert made.take_dead() == [
        (ended, "done"),
        (killed, "worker died: killed, or its process exited"),
        (crashed, "worker died: Segmentation fault"),
        (unborn, "worker ended before it began, see w_log.err"),
    ]
    assert made.members == [lives, waits]
    assert (lives.trial, waits.trial, waits.lease) == (4, None, None)
    assert made.take_dead() == []


def test_trials_that_take_too_long(crew: Callable[..., Crew]) -> None:
    made = crew("sweep.trial_timeout=0.5")
    one, two = member(made, "w0"), member(made, "w1")
    said(one.path, trial=1)
    said(two.path)
    made.take_dead()
    assert abs(one.trial_since - time.monotonic()) < 10
    assert made.overdue() == []
    one.trial_since -= 31
    two.trial_since -= 31  # is at none
    assert made.overdue() == [one]
    made.take_dead()  # the same trial: its time runs on
    assert made.overdue() == [one]
    said(one.path, trial=2)
    made.take_dead()
    assert made.overdue() == []
    without = crew()
    without.members = [one]
    one.trial_since = 0.0
    assert without.overdue() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "_STOP_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
def test_stopped_workers_end_by_themselves_or_are_killed(
    crew: Callable[..., Crew], worker: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    made = crew()
    hears, deaf, elsewhere = (member(made, f"w{i}") for i in range(3))
    processes = [worker(hears.path), worker(deaf.path, "deaf")]
    said(elsewhere.path, host="elsewhere")
    made.stop()
    assert [process.wait(timeout=10) for process in processes] == [0, -signal.SIGKILL]
    assert made.members == []
    assert elsewhere.job.cancelled
    contents = lease.read(hears.path)
    assert contents is not None
    assert contents["ended"] == "stopped"


def test_a_worker_is_killed_with_its_children(
    crew: Callable[..., Crew], worker: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    made = crew()
    one, unborn = member(made, "w0"), member(made, "w1")
    process = worker(one.path, "deaf")
    made.kill(one)
    assert process.wait(timeout=10) == -signal.SIGKILL
    made.kill(unborn)
    assert unborn.job.cancelled
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"])
    while len(children := psutil.Process(shell.pid).children()) < 2:
        time.sleep(0.02)
    kill_tree(shell.pid)
    assert shell.wait(timeout=10) == -signal.SIGKILL
    assert psutil.wait_procs(children, timeout=10)[1] == []
    kill_tree(shell.pid)  # there is none any more


def test_local_workers_take_turns_at_the_gpus(
    crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    made = crew()
    assert [made._gpu(slot) for slot in range(3)] == ["0", "2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert crew()._gpu(0) is None


def test_workers_share_the_cores(crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    made = crew("sweep.workers=3")
    for given, threads in (("", 2), ("1", 1), ("64", 2), ("many", 2), ("0", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert made._threads() == dict.fromkeys(names, str(threads))
    made.size = 9
    assert made._threads() == dict.fromkeys(names, "1")


def test_a_cluster_has_its_own_ways(
    crew: Callable[..., Crew], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("srun", "squeue", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    made = crew("sweep.cluster=slurm", "+sweep.slurm={partition:gpu,mem_gb:8,slurm_qos:low,timeout_min:60}")
    assert made._parameters(0, "w0") == {
        "timeout_min": 60,
        "name": "ccsweep-out",
        "slurm_comment": str(made.folder.path),
        "slurm_additional_parameters": {"no-requeue": True, "ntasks": 1},
        "slurm_partition": "gpu",
        "mem_gb": 8,
        "slurm_qos": "low",
    }
    assert (made._gpu(0), made._threads()) == (None, {})
    lost = member(made, "w0")
    said(lost.path, pid_started="long ago")
    assert made.take_dead() == [(lost, "worker killed, or its machine lost")]
    assert crew()._parameters(0, "w7") == {"timeout_min": 60 * 24 * 365, "name": "w7"}


def test_a_child_gets_its_variables_and_no_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "before")
    monkeypatch.delenv("TWO", raising=False)
    code = "import os, signal; print(os.environ['ONE'], os.environ['TWO'], signal.SIGINT in signal.pthread_sigmask(0, []))"
    with crews._for_child({"ONE": "1", "TWO": "2"}):
        out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out == "1 2 True\n"
    assert os.environ["ONE"] == "before"
    assert "TWO" not in os.environ
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
