"""What SLURM says of a sweep's jobs: they speak while they wait, and a job that is gone is noticed.

Asked with squeue, which every cluster has; sacct wants a database that many do not have.
"""

import logging
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccsweep.errors import UserError
from ccsweep.tracking.mask import mask

EVERY = 5.0
"""Seconds between two looks."""
MINUTES = 60 * 24
"""Of a worker's time, unless the user says otherwise."""
NEVER = {
    *("PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "InvalidAccount"),
    *("InvalidQOS", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit"),
}
"""Reasons for which a job would wait until someone changes it, or the cluster."""
_OF_SUBMITIT = ("timeout_min", "mem_gb", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node")
_ONE = ("nodes", "ntasks", "tasks_per_node", "ntasks_per_node")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

log = logging.getLogger(__name__)


def check(slurm: Mapping[str, Any]) -> None:
    """Refuse a job of several processes.

    Raises:
        UserError: one line with the key.
    """
    for key in _ONE:
        if (count := slurm.get(key, slurm.get(f"slurm_{key}", 1))) != 1:
            raise UserError(
                f"sweep.slurm.{key}={count}: a worker is one process; expected 1, and more sweep.workers"
            )


def parameters(slurm: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """What submitit is told of a worker's job.

    Args:
        slurm: ``sweep.slurm``.
        name: of the study.
        folder: of the study; its jobs are known by it.
    """
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters()  # submitit has no public one
    given: dict[str, Any] = {}
    # A worker that is lost is replaced: SLURM starting it again, too, would only make one that has no task.
    # gpus_per_task wants to be told of the one task.
    own: dict[str, Any] = {"no-requeue": True, "ntasks": 1}
    for key, value in slurm.items():
        word = key.removeprefix("slurm_")
        if key in _OF_SUBMITIT:
            given[key] = value
        elif word in known:
            given[f"slurm_{word}"] = value
        else:  # sbatch knows more words
            own[word.replace("_", "-")] = value
    own |= given.pop("slurm_additional_parameters", {})
    about = {"timeout_min": MINUTES, "name": f"ccsweep-{name}", "slurm_comment": str(folder)}
    return {**about, "slurm_additional_parameters": own, **given}


@dataclass(frozen=True)
class Job:
    """How a job stands."""

    state: str
    reason: str
    comment: str


def jobs() -> dict[str, Job] | None:
    """This user's jobs that wait or run, by number; None if SLURM does not answer."""
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%T|%r|%k"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.split("|", 3) for line in done.stdout.splitlines()]
    return {line[0]: Job(*line[1:]) for line in lines if len(line) == 4}


def cancel(numbers: Iterable[str]) -> None:
    """End jobs, and what their scripts started, too; one that is gone is no mistake."""
    numbers = list(numbers)
    if numbers:
        try:
            subprocess.run(["scancel", "--full", *numbers], capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("jobs %s could not be cancelled: %s", ", ".join(numbers), mask(str(error)))


def was_cancelled(stderr: Path) -> bool:
    """Whether SLURM says so in what a job has written: by a person, for another job, or with its node."""
    try:
        return "CANCELLED" in stderr.read_text(errors="replace")
    except OSError:
        return False


def cancel_left_over(folder: Path) -> None:
    """End jobs that a sweeper that is gone has left waiting."""
    cancel(number for number, job in (jobs() or {}).items() if job.comment == str(folder))


class Watch:
    """Looks at a sweep's jobs from time to time."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._jobs: dict[str, Job] = {}
        self._missed: dict[str, int] = {}
        self._told: dict[str, Job] = {}

    def look(self, numbers: Iterable[str]) -> None:
        """Ask SLURM, if it is time to; say what has changed of jobs that wait.

        Raises:
            UserError: a job will never start.
        """
        if time.monotonic() - self._looked < EVERY:
            return
        self._looked = time.monotonic()
        if (found := jobs()) is None:
            return
        self._jobs = found
        for number in numbers:
            self._missed[number] = 0 if number in found else self._missed.get(number, 0) + 1
            job = found.get(number)
            if job is None or job.state != "PENDING" or job == self._told.get(number):
                continue
            if job.reason in NEVER:
                raise UserError(
                    f"sweep.slurm: job {number} would wait for ever ({job.reason}); ask for what its "
                    "partition has: scontrol show partition"
                )
            self._told[number] = job
            log.info("%s", self._said(number, job))

    def is_gone(self, number: str) -> bool:
        """Whether SLURM knew nothing of the job in two looks: in one, it may just have been made."""
        return self._missed.get(number, 0) >= 2

    def waiting(self, numbers: Iterable[str]) -> list[str]:
        """What there is to say of jobs that wait."""
        found = [(number, self._jobs.get(number)) for number in numbers]
        return [
            self._said(number, job) for number, job in found if job is not None and job.state == "PENDING"
        ]

    def _said(self, number: str, job: Job) -> str:
        return f"job {number} waits" + (f" ({job.reason})" if job.reason != "None" else "")


def use_what_was_allocated() -> None:
    """Have torch, numba and BLAS take no more threads than the job's CPUs; before they are imported."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":  # a sweeper in a job may have workers of its own
        return
    texts = [os.environ.get(name, "") for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")]
    counts = [int(text) for text in texts if text.isdigit()][:1]
    share = min([len(os.sched_getaffinity(0)), *counts])
    for name in _THREADS:
        asked = os.environ.get(name, "")
        if not asked.isdigit() or not 0 < int(asked) <= share:
            os.environ[name] = str(share)
