"""The sweeper behind ``-m``: one study, whether a grid or a search, from its first trial to its last.

It runs no trial itself. It checks the command, keeps the study's storage in order, and sees to it that there
are workers; it notices those that died, and what they were at is tried again.
"""

import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ccsweep.errors import UserError, is_full_disk
from ccsweep.files import has_room, sole
from ccsweep.interrupt import finishing
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import Kind, notes
from ccsweep.study.storage import reason_of
from ccsweep.study.trials import Ending, Failed, enqueue_points, sort
from ccsweep.sweep.cluster.claim import Guests, claimed, too_long
from ccsweep.sweep.lease import Lease
from ccsweep.sweep.plan import Plan, make_plan, unchecked
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import Status, describe

if TYPE_CHECKING:  # half a second, which --help does not have
    from optuna import Study
    from optuna.trial import FrozenTrial

    from ccsweep.sweep.crew import Crew, Member
    from ccsweep.sweep.mlflow import Tracker

POLL = 0.25  # seconds
MOST_DEATHS = 3  # in a row, of workers that never got to a trial
UNNAMED = Failed(
    Kind.MACHINE, "worker died: killed, or its process exited"
)  # before it could put its name to its trial
LOST = Failed(Kind.MACHINE, "a worker from elsewhere was killed, or its machine lost")
STOPPED = Failed(Kind.STOPPED, "stopped with its sweep")

log = logging.getLogger(__name__)


@dataclass
class Sweeper:
    """Runs studies for Hydra; see ``hydra_plugins/ccsweep``."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    says_what_is_next: bool = True
    """False where a study is a part of something, which says it."""

    def sweep(self, arguments: list[str]) -> "list[FrozenTrial]":
        """Run the study that a command describes, or go on with it; returns its trials.

        Raises:
            UserError: something in the command or the folder is wrong (nothing has run), trials of a
                grid failed, or all of a study's.
        """
        if self.config.sweep.preview is None:  # which prints commands, and nothing else
            print(f"sweep {self.config.sweep.name or ''}".rstrip(), flush=True)  # before a second of imports
        plan = make_plan(arguments, self.config, self.context.config_loader)
        if plan.sweep.preview is not None:
            from ccsweep.sweep.preview import show

            show(plan)
            return []
        from optuna.exceptions import StorageInternalError

        from ccsweep.sweep import recover

        recover.look_up(unchecked(self.config), {d.key.lstrip("+") for d in plan.space.dimensions}, plan.run)
        with _sole_sweeper(plan.folder):
            try:
                return self._run(plan)
            except StorageInternalError as error:
                shown = mask(str(plan.sweep.storage))
                raise UserError(
                    f"sweep.storage={shown}: failed ({reason_of(error)}); mend it, then give the same "
                    "command again"
                ) from error
            except OSError as error:
                if not is_full_disk(error):
                    raise
                raise UserError(
                    f"{plan.folder.path}: no space left on device; make room there, then go on with: "
                    f"{plan.command_to_go_on}"
                ) from error

    def _run(self, plan: Plan) -> "list[FrozenTrial]":
        """Open the study, put its points into the queue, and have workers run them."""
        from ccsweep.sweep import conclusion, recover
        from ccsweep.sweep.crew import Crew
        from ccsweep.sweep.mlflow import Tracker
        from ccsweep.sweep.worker import Payload

        study = recover.open_or_begin(plan)
        name = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{socket.gethostname()}"
        shared = plan.sweep.storage is not None  # else it is in the folder, which is held
        held = claimed(study, name, plan.began) if shared else nullcontext()
        with _lease(plan.folder.sweeper, name) as lease, held:
            guests = Guests(study)
            guests.see_out()
            recover.clear(study, plan)
            enqueue_points(study, plan.points)
            singletons = Singleton.get_state()
            payload = Payload(plan, self.context, self.config, self.task, singletons, name)
            crew = Crew(plan.folder, plan.sweep, payload, plan.workers)
            tracker = Tracker(study, plan.folder, plan.objectives, plan.uri, plan.patience)
            overseer = _Overseer(plan, study, crew, tracker, lease, guests)
            trials = overseer.see_through()
            if self.says_what_is_next:  # last, when the prompt is about to be back
                conclusion.say_what_is_next(plan, study, overseer.files)
        conclusion.judge(plan, trials)
        return trials


@dataclass
class _Overseer:
    """Keeps workers at a study until it is done, and leaves nothing running."""

    plan: Plan
    study: "Study"
    crew: "Crew"
    tracker: "Tracker"
    lease: Lease
    guests: Guests
    deaths: int = 0
    short_of_room: bool = False
    files: Sequence[Path] = ()
    """That the end of the study left."""

    def see_through(self) -> "list[FrozenTrial]":
        """From the first worker to the study's table or page; returns its trials."""
        from ccsweep.sweep import conclusion
        from ccsweep.sweep.crew import remove_pickles

        status: Status = "KILLED"
        files: list[Path] = []
        try:
            self._keep_workers()
            trials = self._trials()
            status = "FAILED" if sort(trials).failed else "FINISHED"
            self.tracker.wait()  # MLflow imports pandas in its thread, and the page would find half of it
            files = conclusion.write(self.plan, self.study)
        except BaseException:
            with finishing():  # a second Ctrl-C does not wait
                self.lease.set_if_possible(stop=True)  # a full disk must not keep workers alive
                self.crew.stop()
                self._stop_trials()
            raise
        finally:
            with finishing():
                self.crew.leave()
                remove_pickles(self.plan.folder)
                self.tracker.finish(files, status)
                if status == "KILLED":
                    print(f"go on with: {self.plan.command_to_go_on}")
        self.files = files
        return trials

    def _trials(self) -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)

    def _keep_workers(self) -> None:
        """Keep workers at work until there is no more to do."""
        from ccsweep.report.study.live import View
        from ccsweep.study import alone
        from ccsweep.sweep import recover
        from ccsweep.sweep.worker import EXHAUSTED, is_over, remaining

        plan, crew, exhausted, finished = self.plan, self.crew, False, False
        with View(plan.objectives, plan.target) as view:
            while True:
                trials, waiting = self._trials(), crew.look()
                at_work = [m.lease or {"id": m.name} for m in crew.members]
                at_work += [{"id": name} for name in self.guests.names]
                view.update(trials, at_work, time.time(), waiting)
                self.tracker.update(trials)
                for guest in self.guests.look():
                    self._settle(recover.running_of(self.study, guest), LOST)
                for member in crew.overdue():
                    self._end_overdue(member)
                self._end_overdue_guests()
                for member, how in crew.take_dead():
                    exhausted |= how == EXHAUSTED
                    self._bury(member, how)
                now = sort(self._trials())
                due = len(now.waiting) if exhausted else remaining(plan, now)
                busy = sum(m.trial is not None for m in crew.members)
                idle = len(crew.members) - busy
                for _ in range(min(due - idle, plan.workers - len(crew.members))):
                    self._start_worker()
                if due <= 0 and not busy:
                    crew.dismiss_waiting()
                if due <= 0 and not crew.members and not self._is_one_left():
                    if finished or not (plan.sweep.objectives and alone.due(self.study)):
                        break
                    finished = True  # the last worker died over it: another one may do better, once
                    crew.start()
                time.sleep(POLL)
            view.update(self._trials(), [], time.time())
        if exhausted and plan.target > now.done:
            log.warning("all points of the space are done: %d, and not %d", now.done, plan.target)
        elif plan.target > now.done and is_over(plan, now):
            log.info("no more trials, by sweep.minutes or sweep.patience: %d of %d", now.done, plan.target)

    def _is_one_left(self) -> bool:
        """Whether a trial runs though no worker is there: a guest's, or one that is settled here."""
        from ccsweep.sweep import recover

        running = recover.running_of(self.study, None)
        if running:
            self.guests.look(now=True)
        self._settle([trial for trial in running if notes(trial).worker not in self.guests.names], UNNAMED)
        return bool(running)

    def _start_worker(self) -> None:
        """Start one more worker, unless the disk is full: then it is tried again at the next look."""
        room = has_room(self.plan.folder.path)
        if room:
            self.crew.start()
        elif not self.short_of_room:
            log.warning("%s: the disk is full; waiting until there is room", self.plan.folder.path)
        self.short_of_room = not room

    def _end_overdue(self, member: "Member") -> None:
        """End a trial that takes too long, for good, and then its worker, which may be on another host."""
        from ccsweep.sweep import recover

        mine = [t for t in recover.running_of(self.study, member.name) if t.number == member.trial]
        if not mine:  # it has come to its end just now
            return
        recover.settle(self.plan, self.study, mine[0], too_long(self.plan.sweep.trial_timeout))
        self.crew.kill(member)
        deadline = time.monotonic() + 60
        dead = self.crew.take_dead()
        while member in self.crew.members and time.monotonic() < deadline:
            time.sleep(0.05)
            dead += self.crew.take_dead()
        for other, how in dead:
            if other is member:
                self._settle_trials_of(member, Failed(Kind.MACHINE, how))
            else:
                self._bury(other, how)

    def _end_overdue_guests(self) -> None:
        """The same of trials of guests, who see it in the storage and leave what they are at."""
        from ccsweep.sweep import recover

        limit = self.plan.sweep.trial_timeout
        running = [] if limit is None else recover.running_of(self.study, None)
        for trial in self.guests.overdue(running, 60 * (limit or 0)):
            with suppress(ValueError, RuntimeError):  # of Optuna: it has come to its end just now
                recover.settle(self.plan, self.study, trial, too_long(limit))

    def _bury(self, member: "Member", how: str) -> None:
        """See to what a worker that has ended left behind."""
        from ccsweep.sweep.crew import UNBORN
        from ccsweep.sweep.trial import OUT_OF_TIME
        from ccsweep.sweep.worker import DONE, EXHAUSTED, FAILED, STOPPED_WELL

        lost = self._settle_trials_of(member, Failed(Kind.MACHINE, how))
        full = not has_room(self.plan.folder.path)  # and it could not even write its lease
        useful = lost or (member.lease or {}).get("begun")
        if (
            full
            or how in (DONE, EXHAUSTED, OUT_OF_TIME, STOPPED_WELL, UNBORN)
            or (useful and not how.startswith(FAILED))
        ):
            self.deaths = 0
            return
        log.warning("%s: %s", member.name, how)
        self.deaths += 1
        if self.deaths >= MOST_DEATHS:
            raise UserError(
                f"{MOST_DEATHS} workers in a row came to nothing ({how}); see "
                f"{member.path.with_suffix('.log')} and {member.job.paths.stderr}"
            )

    def _settle_trials_of(self, member: "Member | None", ending: Ending) -> int:
        """End the trials that a dead worker was at, None being all of them; returns how many.

        Args:
            member: the worker.
            ending: of its trials, where they left no result.
        """
        from ccsweep.sweep import recover

        lost = recover.running_of(self.study, None if member is None else member.name)
        self._settle(lost, ending)
        return len(lost)

    def _settle(self, trials: "list[FrozenTrial]", ending: Ending) -> None:
        from ccsweep.sweep import recover

        for trial in trials:
            recover.settle(self.plan, self.study, trial, ending)

    def _stop_trials(self) -> None:
        try:
            self._settle_trials_of(None, STOPPED)
        except Exception as error:  # the storage may be why the sweep ends: the next one settles them
            log.warning("trials that were running could not be ended: %s", describe(error))


@contextmanager
def _sole_sweeper(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's folder; the lock falls with the process, however that ends."""
    path = folder.path
    refusal = f"{path}: another sweep is at work there; wait for it, stop it, or choose another sweep.name"
    try:
        made = [place for place in (path, *path.parents) if not place.exists()]
        with sole(folder.sweeper_lock, refusal):
            try:
                yield
            except UserError:  # before there was anything to keep
                if made and [*path.iterdir()] == [folder.sweeper_lock]:
                    folder.sweeper_lock.unlink()
                    with suppress(OSError):  # another study has come to be there
                        for place in made:
                            place.rmdir()
                raise
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        at_fault = Path(str(error.filename))
        if at_fault not in (path, *path.parents) and at_fault.parent != path:
            raise
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another sweep.name or hydra.sweep.dir"
        ) from error


@contextmanager
def _lease(path: Path, name: str) -> Iterator[Lease]:
    lease = Lease(path, name)
    lease.set(stop=False)
    try:
        yield lease
    finally:
        lease.release(ended="done")
