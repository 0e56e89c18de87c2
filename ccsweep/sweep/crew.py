"""The processes of a sweep's workers: started through submitit, watched, ended.

The same code runs here and on a cluster. submitit's controller is the parent of a local worker; what is
watched is the worker itself, by its lease.
"""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ccsweep.config.schema import SweepConfig
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from ccsweep.sweep import lease
from ccsweep.sweep.cluster import gpus, slurm
from ccsweep.sweep.lease import Contents, Heartbeats
from ccsweep.sweep.worker import Payload, work
from ccsweep.tracking.mask import mask

UNBORN = "cancelled by the cluster before it began"
_YEAR = 60 * 24 * 365  # submitit wants a time limit, in minutes; here there is none
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_STOP_SECONDS = 10.0
_GONE_SECONDS = 10.0  # without a beat, of a worker whose job its cluster does not know any more

log = logging.getLogger(__name__)


@dataclass
class Member:
    """A worker that was started."""

    name: str
    slot: int
    """Of the places for workers that run at once, counted from 0: which GPU it has."""
    job: Any
    path: Path
    trial: int | None = None
    trial_since: float = 0.0
    """When the trial was first seen here, by this process's monotonic clock."""

    @property
    def lease(self) -> Contents | None:
        """What the worker last said; None before it has begun."""
        return lease.read(self.path)


class Crew:
    """Starts and ends the workers of one sweep.

    Args:
        folder: of the study.
        sweep: its settings.
        payload: what a worker needs to know.
        size: how many may be at work at once.
    """

    def __init__(self, folder: StudyFolder, sweep: SweepConfig, payload: Payload, size: int) -> None:
        self.folder, self.sweep, self.payload, self.size = folder, sweep, payload, size
        self.members: list[Member] = []
        self._jobs: list[Any] = []
        self._workers, self._of_gone_jobs = Heartbeats(), Heartbeats(_GONE_SECONDS)
        self._watch = slurm.Watch()
        self._gpus = gpus.visible() if sweep.cluster == "local" else []
        if sweep.cluster == "slurm":
            slurm.cancel_left_over(folder.path)
        folder.workers.mkdir(exist_ok=True)
        known = [path.stem[1:] for path in folder.leases()]
        self._next = 1 + max((int(n) for n in known if n.isdigit()), default=-1)
        self._executor = self._make_executor()

    def start(self) -> None:
        """Start one more worker."""
        taken = {member.slot for member in self.members}
        slot = next(i for i in range(self.size) if i not in taken)
        index, self._next = self._next, self._next + 1
        name = f"w{index}"
        try:
            self._executor.update_parameters(**self._parameters(slot, name))
            with _for_child({**self._threads(), lease.WORKER: str(self.folder.lease(name))}):
                job = self._executor.submit(work, self.payload, name, index, self._gpu(slot))
        except Exception as error:
            if self.sweep.cluster == "local":
                raise
            reason = mask(str(error)).strip().partition("\n")[0]
            raise UserError(
                f"sweep.cluster={self.sweep.cluster}: no worker can be started ({reason})"
            ) from error
        self._jobs.append(job)
        self.members.append(Member(name, slot, job, self.folder.lease(name)))

    def look(self) -> list[str]:
        """What there is to say of workers that wait for their machine.

        Raises:
            UserError: one would wait for ever.
        """
        if self.sweep.cluster != "slurm":
            return []
        unborn = [member.job.job_id for member in self.members if member.lease is None]
        self._watch.look([member.job.job_id for member in self.members])
        return self._watch.waiting(unborn)

    def dismiss_waiting(self) -> None:
        """Cancel the jobs that wait for a machine: there is nothing left for them to do."""
        if self.sweep.cluster == "slurm":
            waiting = [member for member in self.members if member.lease is None]
            slurm.cancel(member.job.job_id for member in waiting)
            self.members = [member for member in self.members if member not in waiting]

    def take_dead(self) -> list[tuple[Member, str]]:
        """The workers that have ended since the last call, each with how; they are members no more."""
        dead = []
        for member in list(self.members):
            contents = member.lease
            how = self._end_of(member, contents)
            if how is not None:
                self.members.remove(member)
                dead.append((member, how))
                continue
            trial = None if contents is None else contents.get("trial")
            if trial != member.trial:
                member.trial, member.trial_since = trial, time.monotonic()
        return dead

    def overdue(self) -> list[Member]:
        """The workers whose trial has run longer than ``sweep.trial_timeout``."""
        if self.sweep.trial_timeout is None:
            return []
        limit = time.monotonic() - 60 * self.sweep.trial_timeout
        return [m for m in self.members if m.trial is not None and m.trial_since < limit]

    def kill(self, member: Member) -> None:
        """End a worker and all its children at once."""
        contents = member.lease
        if contents is not None and lease.is_worker(contents):
            kill_tree(contents["pid"])
        else:
            with contextlib.suppress(Exception):
                member.job.cancel(check=False)

    def stop(self) -> None:
        """Ask all workers to end, and end those that do not within 10 seconds."""
        for member in self.members:
            contents = member.lease
            if contents is None or not lease.is_worker(contents):
                self._cancel_job(member)
            else:
                with contextlib.suppress(OSError):
                    os.kill(contents["pid"], signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        waiting = [m for m in self.members if self.sweep.cluster == "local" or m.lease is not None]
        while waiting and time.monotonic() < deadline:
            time.sleep(0.05)
            waiting = [m for m in waiting if self._end_of(m, m.lease) is None]
        for member in waiting:
            self.kill(member)
        while any(self._end_of(m, m.lease) is None for m in waiting) and time.monotonic() < deadline + 5:
            time.sleep(0.05)
        self.members.clear()

    def leave(self) -> None:
        """See the processes of this host out: a worker that has ended takes a moment to be gone."""
        processes = [p for job in self._jobs if (p := getattr(job, "_process", None)) is not None]
        for process in processes:
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill_tree(process.pid)
                process.wait()
        if self.sweep.cluster == "slurm":
            slurm.cancel(set(slurm.jobs() or ()) & {job.job_id for job in self._jobs})

    def _cancel_job(self, member: Member) -> None:
        process = getattr(member.job, "_process", None)
        with contextlib.suppress(Exception):
            if process is None:
                member.job.cancel(check=False)  # the cluster's own way
            else:
                kill_tree(process.pid)  # not yet at work: there is nothing to end well

    def _end_of(self, member: Member, contents: Contents | None) -> str | None:
        gone = self.sweep.cluster == "slurm" and self._watch.is_gone(member.job.job_id)
        if contents is None:
            over = gone if self.sweep.cluster == "slurm" else member.job.done()
            if over and gone and slurm.was_cancelled(member.job.paths.stderr):
                return UNBORN
            return f"worker ended before it began, see {member.job.paths.stderr}" if over else None
        if contents["ended"] is not None:
            return str(contents["ended"])
        if self._workers.alive(contents) and (not gone or self._of_gone_jobs.alive(contents)):
            return None
        contents = member.lease or contents  # it may have ended well between the two looks
        return str(contents["ended"]) if contents["ended"] is not None else self._cause(member)

    def _cause(self, member: Member) -> str:
        """How a worker died that could not say so itself."""
        try:
            tail = member.path.with_suffix(".log").read_bytes()[-4000:].decode(errors="replace")
        except OSError:
            tail = ""
        _, marker, fatal = tail.rpartition("Fatal Python error: ")
        if marker:
            return f"worker died: {fatal.partition(chr(10))[0]}"
        if self.sweep.cluster != "local":
            return "worker killed, or its machine lost"
        return "worker died: killed, or its process exited"

    def _make_executor(self) -> Any:
        import submitit

        folder = self.folder.submitit
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)  # what a worker is started with may hold passwords
        remove_pickles(self.folder)
        return submitit.AutoExecutor(folder=folder, cluster=self.sweep.cluster)

    def _parameters(self, slot: int, name: str) -> dict[str, Any]:
        if self.sweep.cluster == "slurm":
            return slurm.parameters(self.sweep.slurm, self.folder.name, self.folder.path)
        return {"timeout_min": _YEAR, "name": name}

    def _gpu(self, slot: int) -> str | None:
        """The GPU of a local worker; on a cluster that is the scheduler's business."""
        if self.sweep.cluster != "local" or not self._gpus:
            return None
        return self._gpus[slot % len(self._gpus)]

    def _threads(self) -> dict[str, str]:
        """Each local worker gets its share of the cores, unless less was asked for."""
        if self.sweep.cluster != "local":
            return {}
        share = max(1, len(os.sched_getaffinity(0)) // self.size)
        given = [os.environ.get(name, "") for name in _THREADS]
        asked = [int(text) for text in given if text.isdigit() and int(text) > 0]
        return {name: str(min([share, *asked])) for name in _THREADS}


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all that it started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()


def remove_pickles(folder: StudyFolder) -> None:
    """Remove what workers were started from, should one have died before it could do so."""
    for path in folder.submitit.glob("*.pkl"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _for_child(variables: dict[str, str]) -> Iterator[None]:
    """Start a process inside: it gets ``variables``, and the terminal's Ctrl-C does not reach it."""
    before = {name: os.environ.get(name) for name in variables}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
