"""A worker: asks the study for a trial, runs it, tells how it went, and asks again.

It lives in a process of its own that imports everything once. No worker waits for another: what they
share are the storage and a lock that is held while one looks how far the study is.
"""

import logging
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ccsweep.errors import Pruned
from ccsweep.interrupt import finishing
from ccsweep.study import record, trials
from ccsweep.study.folder import SWEEPER, TRIALS, WORKERS
from ccsweep.study.identity import identity
from ccsweep.sweep.compose import Composer
from ccsweep.sweep.faults import kind_of
from ccsweep.sweep.lease import Lease, Watch
from ccsweep.sweep.lease import read as read_lease
from ccsweep.sweep.plan import Plan
from ccsweep.sweep.process import forget_pickle, install_signals, redirect, restore_hydra
from ccsweep.sweep.pruning import Pruner
from ccsweep.tracking.outcome import describe, status_after

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

DONE = "done"
FAILED = "failed"
GONE = "the sweeper is gone"
EXHAUSTED = "all points of the space are done"
MAX_FINITE = 100_000  # points of a space that is searched for untried ones
REUSES_FINITE, REUSES = 10, 100  # in a row, before something else is done
MISSES = 3  # looks, a second apart, at which the sweeper was not there
HELD = 3  # trials that wait for another worker's result, at most
GRACE = 15.0  # seconds for a trial to end after the sweeper has gone
_STORAGE_SECONDS = 60.0  # that a storage may be away for

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Payload:
    """What a worker is started with; pickled into a file that only its owner can read."""

    plan: Plan
    storage: str | None
    context: HydraContext
    master: DictConfig
    task: TaskFunction
    singletons: dict[Any, Any]
    sweeper: str
    """Id of the sweeper that it belongs to."""


def work(payload: Payload, name: str, index: int, gpu: str | None) -> None:
    """Entry point of the process; returns when there is nothing left to do.

    Args:
        payload: of the sweep.
        name: id of the worker.
        index: a number that no other worker of the study has or had.
        gpu: the one that is this worker's; None: as the environment has it.
    """
    if gpu is not None:  # torch is not imported yet
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    folder = payload.plan.folder
    forget_pickle()
    redirect(folder / WORKERS / f"{name}.log")
    install_signals()
    worker = _Worker(payload, name, index)
    try:
        worker.prepare()
        worker.end(worker.run())
    except KeyboardInterrupt:
        worker.end("stopped")
    except BaseException as error:
        log.exception("worker %s", name)
        worker.end(f"{FAILED}: {describe(error)}")
    finally:
        logging.shutdown()


class _Worker:
    def __init__(self, payload: Payload, name: str, index: int) -> None:
        self.name, self.index = name, index
        self.payload, self.plan = payload, payload.plan
        self.folder = self.plan.folder
        self.retries = self.plan.sweep.retries
        self._watch = Watch()
        self._gone_since: float | None = None
        self._missed = 0
        self._trial: Trial | None = None
        self._held: list[tuple[Trial, int]] = []
        self._reuses = 0
        self._leaving = False
        path = self.folder / WORKERS / f"{name}.json"
        self.lease = Lease(path, name, self._look_for_sweeper)

    def prepare(self) -> None:
        """Import what it takes and open the study."""
        from filelock import FileLock

        from ccsweep.study import samplers
        from ccsweep.study.storage import open_study

        warnings.filterwarnings("ignore", module="optuna")
        restore_hydra(self.payload.singletons)
        self.composer = Composer(self.payload.context.config_loader, self.payload.master)
        self.lock = FileLock(self.folder / ".claim.lock")
        self.study: Study = open_study(self.folder, self.payload.storage, ready=True)
        begun = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = samplers.make(self.plan.sampler, self.plan.sweep.seed, begun, self.index)
        self._random = random.Random(f"{self.plan.sweep.seed} {begun} {self.index}")

    def run(self) -> str:
        """Trial after trial, until the study has what it is to have; returns why it ends."""
        try:
            while not self._leaving:
                self._settle_held()
                full = len(self._held) >= HELD
                trial = None if full else self._persistently(self._claim)
                if trial is None and not self._held:
                    return DONE
                if trial is None:  # all that is left is what others compute
                    if self.lease.contents["trial"] is not None:
                        self.lease.set(trial=None)
                    time.sleep(0.2)
                    continue
                self._one(trial)
                self._trial = None
                if self._reuses >= self._reuse_limit() and not self._try_untried():
                    return EXHAUSTED
            return "out of time"
        except KeyboardInterrupt:
            if self._trial is not None:
                self._interrupted(self._trial)
            raise

    def end(self, how: str) -> None:
        """Let go of the lease, and of trials that were waiting for another worker's result."""
        for trial, _ in self._held:
            with suppress(Exception):
                trials.fail(trial, trials.MACHINE, f"worker ended: {how}", excused=True)
        self.lease.release(ended=how, trial=None)

    def _claim(self) -> "Trial | None":
        """The next trial, its number in the lease before anybody else can look; None if none is due."""
        with self.lock:
            count = trials.tally(self.study.get_trials(deepcopy=False))
            if remaining(self.plan, count) <= 0:
                return None
            self._trial = trial = self.study.ask()
            trial.set_user_attr("worker", self.name)
            self.lease.set(trial=trial.number, trial_started=time.time())
            return trial

    def _one(self, trial: "Trial") -> None:
        """Run a trial to its end, whatever that is."""
        began = time.perf_counter()
        own = self._persistently(lambda: self._suggest(trial))
        overrides = self.plan.overrides(own)
        log.info("trial %d: %s", trial.number, " ".join(own))
        folder = self._own_folder(trial)
        try:
            config = self.composer.checked(overrides)
            cfg = self.composer.config(overrides)
            same = identity(config, overrides)
        except Exception as error:
            cause = error  # Python forgets the name of an exception after its block
            self._conclude(trial, folder, began, lambda: self._failed(trial, cause))
            return
        if config.task == "train":  # a run that is evaluated again has ranks of its own
            self._persistently(lambda: trial.set_user_attr("ranks", config.rank_notation))
        twin = self._persistently(lambda: self._take(trial, same))
        if twin is not None and not twin.state.is_finished():
            self._held.append((trial, twin.number))
            self._reuses += 1
            return
        if twin is not None:
            self._reuse(trial, twin)
            return
        self._run(trial, cfg, folder, began)

    def _suggest(self, trial: "Trial") -> list[str]:
        """The trial's own overrides; what was drawn before the storage failed is not drawn again."""
        own = self.plan.space.overrides(self.plan.space.suggest(trial))
        trial.set_user_attr("overrides", own)
        return own

    def _run(self, trial: "Trial", cfg: DictConfig, folder: Path, began: float) -> None:
        self._reuses = 0
        self._persistently(lambda: trial.set_user_attr("folder", str(folder)))
        record.write(folder, self._frozen(trial))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(trial.number), trial.number
            cfg.hydra.sweep.dir = str(self.folder)
            cfg.hydra.sweep.subdir = str(folder.relative_to(self.folder))
        from ccsweep.watch import watching

        with watching(Pruner(trial, self.plan.sweep.pruning, self.plan.constraints)):
            found = self._job(cfg)
        if isinstance(found, BaseException):
            self._conclude(trial, folder, began, lambda: self._failed(trial, found))
            return
        if record.report_in(folder) is None:
            record.write_report(folder, found)
        self._conclude(trial, folder, began, lambda: self._completed(trial, found))

    def _job(self, cfg: DictConfig) -> dict[str, Any] | BaseException:
        """Run the task as Hydra's launchers do; returns its report, or what it raised."""
        try:
            result = run_job(
                hydra_context=self.payload.context,
                task_function=self.payload.task,
                config=cfg,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except SystemExit as error:
            return error
        found = result._return_value
        if result.status == JobStatus.COMPLETED and not isinstance(found, dict):
            return {}
        return found

    def _conclude(self, trial: "Trial", folder: Path, began: float, tell: Callable[[], None]) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        seconds = time.perf_counter() - began
        try:
            self._persistently(lambda: trial.set_user_attr("seconds", seconds))
            self._persistently(tell)
        except (UpdateFinishedTrialError, ValueError):
            if not self._frozen(trial).state.is_finished():
                raise
            log.warning("trial %d: was ended by the sweeper, which took this worker for dead", trial.number)
        with suppress(OSError):
            record.write(folder, self._frozen(trial))

    def _completed(self, trial: "Trial", report: dict[str, Any]) -> None:
        trials.complete(trial, report, self.plan.objectives, self.plan.constraints)

    def _failed(self, trial: "Trial", error: BaseException) -> None:
        if isinstance(error, Pruned):
            log.info("trial %d: pruned: %s", trial.number, error)
            trials.prune(trial, describe(error))
            return
        if status_after(error) == "KILLED":
            raise KeyboardInterrupt
        log.error("trial %d: %s", trial.number, "".join(traceback.format_exception(error)))
        if type(error).__name__ == "UncompletedJobError":  # submitit: the cluster's time limit is near
            self._leaving = True
            trials.fail(trial, trials.MACHINE, "the worker's time on the cluster was up", excused=True)
            return
        trials.fail(trial, kind_of(error), describe(error), self.retries)

    def _interrupted(self, trial: "Trial") -> None:
        """Record that a trial was stopped, by whom and why."""
        frozen = self._frozen(trial)
        if frozen.state.is_finished():
            return
        if (report := record.report_in(Path(frozen.user_attrs.get("folder", os.devnull)))) is not None:
            self._completed(trial, report)  # it was done, and only not told yet
        elif self._gone_since is not None:
            trials.fail(trial, trials.MACHINE, GONE, excused=True)
        elif (read_lease(self.folder / SWEEPER) or {}).get("stop"):
            trials.fail(trial, trials.STOPPED, "stopped with its sweep")
        else:
            trials.fail(trial, trials.MACHINE, "worker terminated (signal 15)", self.retries)

    def _own_folder(self, trial: "Trial") -> Path:
        """A folder for the trial that no other one has had, not even in a storage that was lost."""
        folder = self.folder / TRIALS / str(trial.number)
        count = 1
        while folder.exists() and any(folder.iterdir()):
            count += 1
            folder = self.folder / TRIALS / f"{trial.number}-{count}"
        return folder

    def _frozen(self, trial: "Trial") -> "FrozenTrial":
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _take(self, trial: "Trial", same: str) -> "FrozenTrial | None":
        """Say what the trial will compute; if another one has done that, or does it now, return that one."""
        with self.lock:
            trial.set_user_attr("hash", same)
            twin = self._twin(trial.number, same)
            if twin is not None and not twin.state.is_finished():
                trial.set_user_attr("held", twin.number)
            return twin

    def _twin(self, number: int, same: str) -> "FrozenTrial | None":
        """A trial with the same settings that has a result, or else one that is computing it."""
        from optuna.trial import TrialState

        with_result = (TrialState.COMPLETE, TrialState.PRUNED)
        found = [
            t
            for t in self.study.get_trials(deepcopy=False)
            if t.user_attrs.get("hash") == same
            and t.number != number
            and "reuses" not in t.user_attrs
            and t.user_attrs.get("held") is None
            and t.state in (*with_result, TrialState.RUNNING)
        ]
        return min(found, key=lambda t: t.state not in with_result, default=None)

    def _reuse(self, trial: "Trial", twin: "FrozenTrial") -> None:
        log.info("trial %d: the same as trial %d, whose result it gets", trial.number, twin.number)
        self._persistently(lambda: trials.reuse(trial, twin))
        self._reuses += 1

    def _settle_held(self) -> None:
        """Give trials that wait for another worker's result that result, or run them if there is none."""
        for trial, number in list(self._held):
            twin = self.study.get_trials(deepcopy=False)[number]
            if not twin.state.is_finished():
                continue
            self._held.remove((trial, number))
            trial.set_user_attr("held", None)
            self.lease.set(trial=trial.number, trial_started=time.time())
            self._trial = trial
            if twin.values is not None:
                self._reuse(trial, twin)
            else:  # it failed, and may do better here
                self._one(trial)
            self._trial = None

    def _reuse_limit(self) -> int:
        count = self.plan.space.count()
        if self.plan.is_grid:
            return sys.maxsize
        return REUSES_FINITE if count is not None and count <= MAX_FINITE else REUSES

    def _try_untried(self) -> bool:
        """Put a point that was never tried into the queue; False if there is none left."""
        self._reuses = 0
        count = self.plan.space.count()
        if count is None or count > MAX_FINITE:
            log.warning("%d points in a row were tried before: no new ones are found", REUSES)
            return False
        with self.lock:
            tried = {
                tuple(self.plan.space.overrides(trials.params_of(t)))
                for t in self.study.get_trials(deepcopy=False)
            }
            untried = [
                p for p in self.plan.space.points() if tuple(self.plan.space.overrides(p)) not in tried
            ]
            if untried:
                self.study.enqueue_trial(self._random.choice(untried))
        return bool(untried)

    def _persistently(self, action: Callable[[], T]) -> T:
        """Do it, again for a minute if the storage does not answer."""
        from optuna.exceptions import StorageInternalError

        began = time.monotonic()
        pause = 0.5
        while True:
            try:
                with finishing():  # an interrupt in the middle of a commit could leave half of it
                    return action()
            except (StorageInternalError, OSError) as error:
                if time.monotonic() - began > _STORAGE_SECONDS:
                    raise
                log.warning("the storage failed, trying again: %s", describe(error))
                time.sleep(pause)
                pause = min(2 * pause, 8.0)

    def _look_for_sweeper(self) -> None:
        """In the heartbeat's thread: end with the sweeper, and let no trial run on without it."""
        sweeper = read_lease(self.folder / SWEEPER)
        ours = sweeper is not None and sweeper["id"] == self.payload.sweeper
        if sweeper is not None and ours and sweeper["ended"] is None and self._watch.lives(sweeper):
            self._missed = 0
            return
        self._missed += 1
        if self._missed < MISSES:
            return
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
            log.warning("%s", GONE)
            os.kill(os.getpid(), 15)
        elif now - self._gone_since > GRACE:
            self._give_up()

    def _give_up(self) -> NoReturn:
        """End a process whose trial does not listen."""
        if self._trial is not None:
            with suppress(Exception):
                trials.fail(self._trial, trials.MACHINE, GONE, excused=True)
        os._exit(1)


def remaining(plan: Plan, count: trials.Tally) -> int:
    """How many more trials may begin now."""
    if plan.is_grid:
        due = count.waiting
        return due if plan.sweep.n_trials is None else min(due, plan.target - count.done - count.running)
    return plan.target - count.done - count.running
