"""The sweeper behind ``-m``: one study, whether a grid or a search, from its first trial to its last.

It runs no trial itself. It checks the command, keeps the study's storage in order, and sees to it that there
are workers; it notices those that died, and what they were at is tried again.
"""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ccsweep.errors import UserError
from ccsweep.interrupt import finishing
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import Kind
from ccsweep.study.storage import persistently
from ccsweep.study.trials import Failed, enqueue_points, sort
from ccsweep.sweep.lease import Lease
from ccsweep.sweep.plan import Plan, make_plan
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import Status, describe

if TYPE_CHECKING:  # half a second, which --help does not have
    from optuna import Study
    from optuna.trial import FrozenTrial

    from ccsweep.sweep.crew import Crew, Member
    from ccsweep.sweep.mlflow import Tracker

POLL = 0.25  # seconds
_KILLED = "worker killed (signal 9)"
_DEATHS = 3  # in a row, of workers that never got to a trial

log = logging.getLogger(__name__)


@dataclass
class Sweeper:
    """Runs studies for Hydra; see ``hydra_plugins/ccsweep``."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    _deaths: int = field(default=0, init=False)

    def sweep(self, arguments: list[str]) -> "list[FrozenTrial]":
        """Run the study that a command describes, or go on with it; returns its trials.

        Raises:
            UserError: something in the command or the folder is wrong (nothing has run), trials of a
                grid failed, or all of a study's.
        """
        plan = make_plan(arguments, self.config, self.context.config_loader)
        if plan.sweep.preview is not None:
            from ccsweep.sweep.preview import show

            show(plan)
            return []
        from optuna.exceptions import StorageInternalError

        with _sole_sweeper(plan.folder):
            try:
                return self._run_study(plan)
            except StorageInternalError as error:
                shown = mask(str(plan.sweep.storage))
                reason = mask(str(error.__cause__ or error)).strip().partition("\n")[0]
                raise UserError(
                    f"sweep.storage={shown}: failed ({reason}); mend it, then give the same command again"
                ) from error

    def _run_study(self, plan: Plan) -> "list[FrozenTrial]":
        from ccsweep.sweep import recover

        name = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{socket.gethostname()}"
        study = recover.open_or_begin(plan)
        with _lease(plan.folder.sweeper, name) as lease:
            recover.clear(study, plan)
            enqueue_points(study, plan.points)
            return self._run_to_its_end(plan, study, lease)

    def _run_to_its_end(self, plan: Plan, study: "Study", lease: Lease) -> "list[FrozenTrial]":
        from ccsweep.sweep import conclusion
        from ccsweep.sweep.crew import Crew, remove_pickles
        from ccsweep.sweep.mlflow import Tracker

        tracker = Tracker(study, plan.folder, plan.objectives, plan.uri)
        crew = Crew(plan.folder, plan.sweep, self._payload(plan, lease))
        status: Status = "KILLED"
        files: list[Path] = []
        try:
            self._keep_workers(plan, study, crew, tracker)
            trials = study.get_trials(deepcopy=False)
            status = "FAILED" if sort(trials).failed else "FINISHED"
            files = conclusion.write(plan, study)
        except BaseException:
            with finishing():  # a second Ctrl-C does not wait
                with suppress(OSError):  # a full disk must not keep workers alive
                    lease.set(stop=True)
                crew.stop()
                self._stop_trials(plan, study)
            raise
        finally:
            with finishing():
                crew.leave()
                remove_pickles(plan.folder)
                tracker.finish(files, status)
                if status == "KILLED":
                    print(f"go on with: {plan.command_to_go_on}")
        conclusion.judge(plan, trials)
        return trials

    def _payload(self, plan: Plan, lease: Lease) -> Any:
        from ccsweep.sweep.worker import Payload

        return Payload(
            plan=plan,
            storage=plan.sweep.storage,
            context=self.context,
            master=self.config,
            task=self.task,
            singletons=Singleton.get_state(),
            sweeper=lease.contents["id"],
        )

    def _keep_workers(self, plan: Plan, study: "Study", crew: "Crew", tracker: "Tracker") -> None:
        """Keep workers at work until there is no more to do."""
        from ccsweep.report.study.live import View
        from ccsweep.sweep.worker import EXHAUSTED, remaining

        exhausted = False
        with View(plan.objectives, plan.target) as view:
            while True:
                trials = persistently(lambda: study.get_trials(deepcopy=False))
                view.update(trials, [m.lease or {"id": m.name} for m in crew.members], time.time())
                tracker.update(trials)
                for member in crew.overdue():
                    self._end_overdue(plan, study, crew, member)
                for member, how in crew.take_dead():
                    exhausted |= how == EXHAUSTED
                    self._see_to(plan, study, member, how)
                now = sort(study.get_trials(deepcopy=False))
                due = len(now.waiting) if exhausted else remaining(plan, now)
                busy = sum(m.trial is not None for m in crew.members)
                idle = len(crew.members) - busy
                for _ in range(min(due - idle, plan.sweep.workers - len(crew.members))):
                    crew.start()
                if due <= 0 and not crew.members and not self._settle_lost(plan, study, None, _KILLED, {}):
                    break
                time.sleep(POLL)
            view.update(study.get_trials(deepcopy=False), [], time.time())
        if exhausted and plan.target > now.done:
            log.warning("all points of the space are done: %d, and not %d", now.done, plan.target)

    def _end_overdue(self, plan: Plan, study: "Study", crew: "Crew", member: "Member") -> None:
        """Kill a worker whose trial takes too long; the trial is not tried again."""
        number = member.trial
        cause = f"ran longer than sweep.trial_timeout={plan.sweep.trial_timeout:g} minutes"
        crew.kill(member)
        deadline = time.monotonic() + 60
        dead = crew.take_dead()
        while member in crew.members and time.monotonic() < deadline:
            time.sleep(0.05)
            dead += crew.take_dead()
        for other, how in dead:
            if other is member:
                self._settle_lost(plan, study, member, how, {number: cause})
            else:
                self._see_to(plan, study, other, how)

    def _see_to(self, plan: Plan, study: "Study", member: "Member", how: str) -> None:
        """See to what a worker that has ended left behind."""
        from ccsweep.sweep.worker import DONE, EXHAUSTED, FAILED

        lost = self._settle_lost(plan, study, member, how, {})
        if how in (DONE, EXHAUSTED) or (lost and not how.startswith(FAILED)):
            self._deaths = 0
            return
        log.warning("%s: %s", member.name, how)
        self._deaths += 1
        if self._deaths >= _DEATHS:
            raise UserError(
                f"{_DEATHS} workers in a row came to nothing ({how}); see "
                f"{member.path.with_suffix('.log')} and {member.job.paths.stderr}"
            )

    def _settle_lost(
        self, plan: Plan, study: "Study", member: "Member | None", how: str, causes: dict[int | None, str]
    ) -> int:
        """Settle the trials that a dead worker was at, None being all of them; returns how many."""
        from ccsweep.sweep import recover

        # One that was killed before it could put its name to a trial is found when nobody is left.
        lost = recover.running_of(study, None if member is None else member.name)
        for trial in lost:
            cause = causes.get(trial.number)
            ending = Failed(Kind.MACHINE, how) if cause is None else Failed(Kind.TRIAL, cause)
            recover.settle(plan, study, trial, ending)
        return len(lost)

    def _stop_trials(self, plan: Plan, study: "Study") -> None:
        from ccsweep.sweep import recover

        try:
            for trial in recover.running_of(study, None):
                recover.settle(plan, study, trial, Failed(Kind.STOPPED, "stopped with its sweep"))
        except Exception as error:  # the storage may be why the sweep ends: the next one settles them
            log.warning("trials that were running could not be ended: %s", describe(error))


@contextmanager
def _sole_sweeper(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's folder; the lock falls with the process, however that ends."""
    from filelock import FileLock, Timeout

    path = folder.path
    try:
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.sweeper_lock, timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{path}: another sweep is at work there; wait for it, stop it, or choose another sweep.name"
        ) from None
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        if not _within(error.filename, path):
            raise
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another sweep.name or hydra.sweep.dir"
        ) from error


def _within(filename: Any, folder: Path) -> bool:
    path = Path(str(filename))
    return path in (folder, *folder.parents) or path.parent == folder


@contextmanager
def _lease(path: Path, name: str) -> Iterator[Lease]:
    lease = Lease(path, name)
    lease.set(stop=False)
    try:
        yield lease
    finally:
        lease.release(ended="done")
