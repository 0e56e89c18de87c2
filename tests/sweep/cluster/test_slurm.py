"""What SLURM is asked and told; its squeue is a script here, the real one is asked in tests/cluster."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.sweep.cluster import slurm
from ccsweep.sweep.cluster.slurm import Watch, check, parameters, use_what_was_allocated


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What squeue says from now on."""
    monkeypatch.setattr(slurm, "EVERY", 0.0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def queue(*lines: str, status: int = 0) -> None:
        (tmp_path / "squeue").write_text(
            f"#!/bin/sh\nprintf '%s\\n' {' '.join(map(repr, lines))}\nexit {status}\n"
        )
        (tmp_path / "squeue").chmod(0o755)

    return queue


def test_a_job_that_waits_speaks_once(queue: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch()
    queue("7|PENDING|Resources|/s", "8|RUNNING|None|/s", "9|PENDING|None|/s")
    for _ in range(2):
        watch.look(["7", "8", "9"])
    assert watch.waiting(["7", "8", "9"]) == ["job 7 waits (Resources)", "job 9 waits"]
    assert caplog.messages == ["job 7 waits (Resources)", "job 9 waits"]
    queue("7|PENDING|Priority|/s")
    watch.look(["7"])
    assert caplog.messages[2:] == ["job 7 waits (Priority)"]


def test_a_job_that_would_wait_for_ever(queue: Callable[..., None]) -> None:
    queue("7|PENDING|PartitionTimeLimit|/s")
    with pytest.raises(UserError) as caught:
        Watch().look(["7"])
    assert str(caught.value) == (
        "sweep.slurm: job 7 would wait for ever (PartitionTimeLimit); ask for what its partition has: "
        "scontrol show partition"
    )


def test_a_job_that_is_gone(queue: Callable[..., None]) -> None:
    watch = Watch()
    queue("8|RUNNING|None|/s")
    watch.look(["7", "8"])
    assert not watch.is_gone("7")
    queue(status=1)  # it does not answer, which says nothing of jobs
    watch.look(["7", "8"])
    assert not watch.is_gone("7")
    queue("8|RUNNING|None|/s")
    watch.look(["7", "8"])
    assert watch.is_gone("7")
    assert not watch.is_gone("8")


@pytest.mark.parametrize("key", ["nodes", "ntasks", "tasks_per_node", "slurm_ntasks_per_node"])
def test_a_worker_is_one_process(key: str) -> None:
    check({key: 1, "time": 60})
    with pytest.raises(UserError) as caught:
        check({key: 2})
    name = key.removeprefix("slurm_")
    assert str(caught.value) == (
        f"sweep.slurm.{name}=2: a worker is one process; expected 1, and more sweep.workers"
    )


def test_what_a_job_is_made_from() -> None:
    """Also from words of sbatch that submitit does not know."""
    given = {"partition": "gpu", "additional_parameters": {"licenses": "a"}, "mem_gb": 8, "gpus_per_task": 1}
    given |= {"reservation": "night", "mem_bind": "local"}
    assert parameters(given, "digits", Path("/studies/digits")) == {
        "timeout_min": 1440,
        "name": "ccsweep-digits",
        "slurm_comment": "/studies/digits",
        "slurm_additional_parameters": {
            **{"no-requeue": True, "ntasks": 1},
            **{"reservation": "night", "mem-bind": "local", "licenses": "a"},
        },
        "slurm_partition": "gpu",
        "mem_gb": 8,
        "slurm_gpus_per_task": 1,
    }


@pytest.mark.parametrize(
    ("said", "asked", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "8"}, None, "3"),
        ({"SLURM_CPUS_ON_NODE": "2"}, "64", "2"),
        ({"SLURM_CPUS_PER_TASK": "3"}, "1", "1"),
        ({"SLURM_CPUS_PER_TASK": "3"}, "many", "3"),
        ({"SLURM_CPUS_PER_TASK": "30"}, None, "7"),
        ({}, None, "7"),
    ],
)
def test_threads_are_what_was_allocated(
    said: dict[str, str], asked: str | None, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", *slurm._THREADS):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**said, "SUBMITIT_EXECUTOR": "slurm"}.items():
        monkeypatch.setenv(name, value)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    for name in slurm._THREADS:  # put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))
    use_what_was_allocated()
    assert os.environ["OMP_NUM_THREADS"] == threads
    assert int(os.environ["NUMBA_NUM_THREADS"]) <= 7
