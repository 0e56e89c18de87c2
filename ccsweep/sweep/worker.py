"""A worker: asks the study for a trial, runs it, tells how it went, and asks again.

It lives in a process of its own that imports everything once. No worker waits for another: what they
share are the storage and a lock that is held while one looks how far the study is.
"""

import logging
import os
import random
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ccsweep.errors import UserError
from ccsweep.files import has_room
from ccsweep.study import alone, record
from ccsweep.study.folder import TrialFolder
from ccsweep.study.notes import Kind, Notes, let_go, note, notes
from ccsweep.study.storage import persistently
from ccsweep.study.trials import Completed, Ending, Failed, Reused, Sorted, params_of, sort, tell
from ccsweep.sweep import lease, mlflow
from ccsweep.sweep.cluster.slurm import use_what_was_allocated
from ccsweep.sweep.cluster.turn import turn
from ccsweep.sweep.compose import Composer
from ccsweep.sweep.plan import Plan
from ccsweep.sweep.process import GONE, Tie, forget_pickle, install_signals, redirect, time_is_up
from ccsweep.sweep.trial import OUT_OF_TIME, Bench, Held, finish, handed_back, run_trial
from ccsweep.tracking import prepare, resolve_uri
from ccsweep.tracking.outcome import describe

if TYPE_CHECKING:
    from optuna.trial import Trial

DONE = "done"
FAILED, STOPPED_WELL = "failed", "stopped"
EXHAUSTED = "all points of the space are done"
MAX_FINITE = 100_000  # points of a space that is searched for untried ones
REUSES_FINITE, REUSES = 10, 100  # in a row, before something else is done
HELD = 3  # trials that wait for another worker's result, at most
STORE_PATIENCE = 600.0  # seconds that a worker waits for room on the disk, or for the store of its runs

log = logging.getLogger(__name__)


@dataclass
class Payload:
    """What a worker is started with; pickled into a file that only its owner can read."""

    plan: Plan
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
    install_signals()
    use_what_was_allocated()
    forget_pickle()
    redirect(payload.plan.folder.lease(name).with_suffix(".log"))
    worker = Worker(payload, name, index)
    try:
        worker.prepare()
        worker.end(worker.work())
    except KeyboardInterrupt:
        worker.end(OUT_OF_TIME if time_is_up() else STOPPED_WELL)
    except BaseException as error:
        log.exception("worker %s", name)
        worker.end(f"{FAILED}: {describe(error)}")
    finally:
        logging.shutdown()


class Worker:
    """A process that runs trials of a study; one of a sweeper's crew."""

    def __init__(self, payload: Payload, name: str, index: int) -> None:
        self.name, self.index = name, index
        self.payload, self.plan = payload, payload.plan
        self.folder = self.plan.folder
        self._sweepers = lease.Heartbeats()
        self._tie = Tie(self.is_sweeper_there, self._give_up)
        self._trial: Trial | None = None
        self._held: list[tuple[Trial, int]] = []
        self._reuses = self._begun = 0
        self._failed: Failed | None = None
        self.lease = lease.Lease(self.folder.lease(name), name, self.look)

    def prepare(self) -> None:
        """Import what it takes and open the study."""
        from ccsweep.study import samplers
        from ccsweep.study.storage import open_study

        warnings.filterwarnings("ignore", module="optuna")
        Singleton.set_state(self.payload.singletons)  # resolvers, too
        url = self.plan.sweep.storage
        study = persistently(lambda: open_study(self.folder, url, True), also=(UserError,))
        begun, seed = len(study.get_trials(deepcopy=False)), self.plan.sweep.seed
        study.sampler = samplers.make(self.plan.sampler, seed, begun, self.index)
        self._random = random.Random(f"{seed} {begun} {self.index}")
        context = self.payload.context
        composer = Composer(context.config_loader, self.payload.master)
        lock = turn(study, self.folder, url)
        self.bench = Bench(self.plan, study, composer, context, self.payload.task, lock, self._show)

    def work(self) -> str:
        """Trial after trial, until the study has what it is to have; returns why it ends."""
        try:
            while True:
                self._wait_for_machine()
                self._settle_held()
                trial = None if len(self._held) >= HELD else persistently(self._claim)
                if trial is not None:
                    self._live(trial)
                elif not self._held:
                    self.finish()
                    return DONE
                else:  # all that is left is what others compute
                    if self.lease.contents["trial"] is not None:
                        self.lease.set_if_possible(trial=None)
                    time.sleep(0.2)
                if self._reuses >= self._reuse_limit() and not persistently(self._enqueue_untried):
                    return EXHAUSTED
        except KeyboardInterrupt:
            if self._trial is not None and not self.bench.frozen(self._trial).state.is_finished():
                ending = self._interrupted(self._trial)
                tell(self._trial, ending, self.plan.rules)
                place = notes(self.bench.frozen(self._trial)).place(self.folder)
                if isinstance(ending, Completed) and place is not None:
                    mlflow.settle_run(place, self.plan.uri)
            raise

    def end(self, how: str) -> None:
        """Let go of the lease, and of trials that were waiting for another worker's result."""
        for trial, _ in self._held:
            with suppress(Exception):
                tell(trial, Failed(Kind.MACHINE, f"worker ended: {how}", excused=True), self.plan.rules)
        self.lease.release(ended=how, trial=None)

    def _show(self, epoch: int, error: float) -> None:
        """Let those who look at the study see how far its trial is."""
        self.lease.set_if_possible(epoch=[epoch, error])

    def _wait_for_machine(self) -> None:
        """After a trial that found the disk full or the store away: until its next try does not find that."""
        failed, self._failed = self._failed, None
        if failed is None or failed.kind != Kind.MACHINE:
            return
        began, lacks = time.monotonic(), self._lacks(failed)
        if lacks is not None:
            log.warning("%s; waiting until that is mended", lacks)
            self.lease.set_if_possible(trial=None)
        while lacks is not None and time.monotonic() - began < STORE_PATIENCE:
            time.sleep(1.0)
            lacks = self._lacks(failed)

    def _lacks(self, failed: Failed) -> str | None:
        """What the next try would fail for, too."""
        if failed.excused and not has_room(self.folder.path):
            return f"{self.folder.path}: no space left on device"
        if failed.cause.startswith("tracking.uri:"):
            try:
                prepare(resolve_uri(self.plan.uri))
            except UserError as error:
                return str(error)
        return None

    def _claim(self) -> "Trial | None":
        """The next trial, its number in the lease before anybody else can look; None if none is due."""
        with self.bench.lock:
            if remaining(self.plan, sort(self.bench.study.get_trials(deepcopy=False))) <= 0:
                return None
            self._trial = trial = self.bench.study.ask()
            note(trial, Notes(worker=self.name))
            self._begun += 1
            self.lease.set_if_possible(trial=trial.number, trial_started=time.time(), begun=self._begun)
            return trial

    def _live(self, trial: "Trial") -> None:
        """Run a trial, and tell the study how it ended."""
        began = time.perf_counter()
        folder = self.folder.new_trial(trial.number)
        ending = run_trial(self.bench, trial, folder)
        if isinstance(ending, Failed) and ending.kind == Kind.MACHINE and self._lacks(ending) is not None:
            ending = replace(ending, excused=True)
        if isinstance(ending, Held):
            self._held.append((trial, ending.twin))
            self._reuses += 1
        elif isinstance(ending, Reused):
            self._reuse(trial, ending)
        else:
            self._reuses = 0
            self._tell(trial, ending, folder, time.perf_counter() - began)
        self._trial = None

    def _tell(self, trial: "Trial", ending: Ending, folder: TrialFolder, seconds: float) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            persistently(lambda: note(trial, Notes(seconds=seconds)))
            persistently(lambda: tell(trial, ending, self.plan.rules))
        except (UpdateFinishedTrialError, ValueError):
            if not self.bench.frozen(trial).state.is_finished():
                raise
            log.warning("trial %d: was ended by the sweeper, which took this worker for dead", trial.number)
        frozen = self.bench.frozen(trial)
        with suppress(OSError):
            record.write(notes(frozen).place(self.folder) or folder, frozen)
        self._failed = ending if isinstance(ending, Failed) else None

    def _reuse(self, trial: "Trial", ending: Reused) -> None:
        log.info("trial %d: the same as trial %d, whose result it gets", trial.number, ending.twin.number)
        persistently(lambda: tell(trial, ending, self.plan.rules))
        self._reuses += 1

    def _interrupted(self, trial: "Trial") -> Ending:
        """How a trial ended that was stopped: by whom and why."""
        folder = notes(self.bench.frozen(trial)).place(self.folder)
        if folder is not None and (report := folder.read_report()) is not None:
            return Completed(report)  # it was done, and only not told yet
        if self._tie.broken:
            return Failed(Kind.MACHINE, GONE, excused=True)
        if (lease.read(self.folder.sweeper) or {}).get("stop"):
            return Failed(Kind.STOPPED, "stopped with its sweep")
        return self.ended_by_others(trial)

    def ended_by_others(self, trial: "Trial") -> Failed:
        """How a trial ended whose worker was ended from outside."""
        if self.plan.sweep.cluster == "local":
            return Failed(Kind.MACHINE, "worker terminated (signal 15)")
        since = float(self.lease.contents["trial_started"])
        return handed_back(self.bench, trial, time_is_up(), None if self._begun > 1 else since)

    def finish(self) -> None:
        """The last worker that leaves sees to the front, alone; it has imported all that it takes."""
        if not self.plan.sweep.objectives:
            return
        if not persistently(self._is_last) or not alone.due(self.bench.study):
            return
        try:
            finish(self.bench)
        except UserError as error:  # the trials stand, and task=sweep_finish tries again
            log.warning("the front was not timed again: %s", error)
        except Exception:
            log.exception("the front was not timed again")

    def _is_last(self) -> bool:
        with self.bench.lock:
            self.lease.set_if_possible(trial=None, leaving=True)
            others = [other for other in lease.at_work(self.folder) if other["id"] != self.name]
        return all(other.get("leaving") for other in others)

    def _settle_held(self) -> None:
        """Give trials that wait for another worker's result that result, or run them if there is none."""
        for trial, number in list(self._held):
            twin = self.bench.frozen(number)
            if not twin.state.is_finished():
                continue
            self._held.remove((trial, number))
            let_go(trial)
            self.lease.set_if_possible(trial=trial.number, trial_started=time.time(), epoch=None)
            self._trial = trial
            if twin.values is not None:
                self._reuse(trial, Reused(twin))
                self._trial = None
            else:  # it failed, and may do better here
                self._live(trial)

    def _reuse_limit(self) -> int:
        count = self.plan.space.count()
        if self.plan.is_grid:
            return sys.maxsize
        return REUSES_FINITE if count is not None and count <= MAX_FINITE else REUSES

    def _enqueue_untried(self) -> bool:
        """Put a point that was never tried into the queue; False if there is none left."""
        self._reuses = 0
        space, study = self.plan.space, self.bench.study
        count = space.count()
        if count is None or count > MAX_FINITE:
            log.warning("%d points in a row were tried before: no new ones are found", REUSES)
            return False
        with self.bench.lock:
            tried = {tuple(space.overrides(params_of(t))) for t in study.get_trials(deepcopy=False)}
            untried = [point for point in space.points() if tuple(space.overrides(point)) not in tried]
            if untried:
                study.enqueue_trial(self._random.choice(untried))
        return bool(untried)

    def look(self) -> None:
        """About every second, in the heartbeat's thread."""
        self._tie.look()

    def is_sweeper_there(self) -> bool:
        """In the heartbeat's thread."""
        sweeper = lease.read(self.folder.sweeper)
        if sweeper is None or sweeper["id"] != self.payload.sweeper or sweeper["ended"] is not None:
            return False
        return self._sweepers.alive(sweeper)

    def _give_up(self) -> None:
        if self._trial is not None:
            with suppress(Exception):
                tell(self._trial, Failed(Kind.MACHINE, GONE, excused=True), self.plan.rules)


def is_over(plan: Plan, trials: Sorted) -> bool:
    """Whether ``sweep.minutes`` are over, or the front has not grown for ``sweep.patience`` trials."""
    minutes, patience = plan.sweep.minutes, plan.sweep.patience
    if minutes is not None and time.time() > plan.began + 60 * minutes:
        return True
    if patience is None:
        return False
    from ccsweep.study import front

    volumes = [volume for _, volume in front.hypervolume(trials.complete, plan.objectives)]
    return len(volumes) > patience and volumes[-1] <= volumes[-1 - patience]


def remaining(plan: Plan, trials: Sorted) -> int:
    """How many more trials may begin now."""
    if is_over(plan, trials):
        return 0
    room = plan.target - trials.done - len(trials.running)
    if not plan.is_grid:
        return room
    due = len(trials.waiting)
    return due if plan.sweep.n_trials is None else min(due, room)
