"""The life of a trial: drawn, composed, compared with the others, run; and what its end says.

:func:`run_trial` never raises for what the trial did: it returns an :data:`~ccsweep.study.trials.Ending`, and
telling the study is its caller's. Only an interrupt comes out as itself.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ccsweep import errors, watch
from ccsweep.config.quoting import quoted
from ccsweep.dotted import is_under
from ccsweep.errors import UserError
from ccsweep.figures import VALIDATION_ERROR
from ccsweep.files import sole
from ccsweep.study import record
from ccsweep.study.folder import TrialFolder
from ccsweep.study.identity import identity
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.storage import persistently
from ccsweep.study.trials import Completed, EndedEarly, Ending, Failed, Reused
from ccsweep.sweep.compose import Composer, settings_in
from ccsweep.sweep.plan import ELSEWHERE, Plan
from ccsweep.sweep.pruning import Pruner
from ccsweep.tracking.outcome import describe, status_after

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

OUT_OF_TIME = "its time on the cluster was up"
CANCELLED = "worker cancelled by the cluster"
TOO_LONG = "longer than the time that a worker has on the cluster"
HANDED_BACK = 3  # times that a trial may have all of a worker's time on a cluster and leave no checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """A trial that waits: another worker computes the same."""

    twin: int


@dataclass
class Bench:
    """What a worker runs its trials with."""

    plan: Plan
    study: "Study"
    composer: Composer
    context: HydraContext
    task: TaskFunction
    lock: AbstractContextManager[Any]
    """Held while one looks what others do, and says what it will do itself."""
    show: Callable[[int, float], None] = lambda epoch, error: None
    """Told of each epoch of a trial with its validation error, for who looks on."""

    def frozen(self, trial: "Trial | int") -> "FrozenTrial":
        """A trial as the storage has it now."""
        number = trial if isinstance(trial, int) else trial.number
        return self.study.get_trials(deepcopy=False)[number]


def run_trial(bench: Bench, trial: "Trial", folder: TrialFolder) -> Ending | Held:
    """Run a trial to its end, whatever that is.

    Args:
        bench: of the worker.
        trial: asked for.
        folder: its own; written to only if it is really run.

    Raises:
        KeyboardInterrupt: it was stopped.
        StorageInternalError, OSError: the study's storage stayed away.
    """
    own = persistently(lambda: _draw(bench.plan, trial))
    log.info("trial %d: %s", trial.number, " ".join(own))
    overrides = bench.plan.overrides(own)
    try:
        cfg = bench.composer.config(overrides)
        settings = settings_in(cfg)
        same = identity(settings, overrides, own)
    except Exception as error:
        return ending_after(trial.number, error)
    twin = persistently(lambda: _take(bench, trial, same))
    if twin is not None:
        return Reused(twin) if twin.state.is_finished() else Held(twin.number)
    before = _left_off(bench, trial)
    if before is not None:
        folder, epochs = before
        log.info("trial %d: goes on where %s was stopped", trial.number, folder.path)
        note(trial, Notes(epochs=epochs))
        tracked = [line for line in overrides if is_under(line.partition("=")[0], ELSEWHERE)]
        cfg = bench.composer.config([*tracked, f"training.resume={quoted(str(folder.path))}"])
    # A run that is evaluated again has ranks of its own, which its report will tell.
    ranks = settings.rank_notation if settings.task == "train" else None
    persistently(lambda: note(trial, Notes(ranks=ranks, folder=f"trials/{folder.path.name}")))
    record.write(folder, bench.frozen(trial))
    sweep = bench.plan.sweep
    is_objective = ([*sweep.objectives], sweep.pruning) == ([VALIDATION_ERROR.key], VALIDATION_ERROR.metric)
    pruner = Pruner(
        trial, sweep.pruning, bench.plan.constraints, before[1] if before else (), is_objective=is_objective
    )

    def heard(epoch: int, figures: Mapping[str, float]) -> None:
        if VALIDATION_ERROR.metric in figures:
            bench.show(epoch, float(figures[VALIDATION_ERROR.metric]))
        pruner(epoch, figures)

    with watch.watching(heard):
        result = _run_task(bench, trial.number, cfg, folder)
    if isinstance(result, BaseException):
        return ending_after(trial.number, result)
    if folder.read_report() is None:
        folder.write_report(result)
    return Completed(result)


def handed_back(bench: Bench, trial: "Trial", announced: bool, since: float | None) -> Failed:
    """How a trial ended whose worker the cluster ended: excused, unless that would go on for ever.

    Args:
        bench: of the worker.
        trial: that it was at.
        announced: the worker's time was up; else it was cancelled.
        since: when the trial began, if it had all of the worker's time, in seconds since the epoch.
    """
    known = notes(bench.frozen(trial))
    folder, got_on = known.place(bench.plan.folder), since is None or known.attempt < HANDED_BACK
    if folder is not None and since is not None:
        with suppress(OSError):
            got_on |= folder.last_checkpoint.stat().st_mtime > since
    why = OUT_OF_TIME if announced else CANCELLED
    if got_on:
        return Failed(Kind.MACHINE, why, excused=True)
    return Failed(Kind.MACHINE, TOO_LONG if announced else CANCELLED)


def finish(bench: Bench) -> None:
    """Run ``task=sweep_finish`` on the study.

    Raises:
        Exception: what the task raised.
    """
    folder, url = bench.plan.folder.path, bench.plan.sweep.storage
    given = [line for line in bench.plan.plain if line.startswith(("tracking.uri=", "cluster="))]
    given += [] if url is None else [f"sweep.storage={quoted(url)}"]
    cfg = bench.composer.config([*given, "task=sweep_finish", f"sweep.name={quoted(str(folder))}"])
    result = _run_task(bench, 0, cfg, TrialFolder(folder / "finish"))
    if isinstance(result, BaseException):
        raise result


def _draw(plan: Plan, trial: "Trial") -> list[str]:
    """The trial's own overrides; what was drawn before the storage failed is not drawn again."""
    own = plan.space.overrides(plan.space.suggest(trial))
    note(trial, Notes(overrides=own))
    return own


def _take(bench: Bench, trial: "Trial", same: str) -> "FrozenTrial | None":
    """Say what the trial will compute; if another one has done that, or does it now, return that one."""
    with bench.lock:
        note(trial, Notes(hash=same))
        twin = _twin(bench, trial.number, same)
        if twin is not None and not twin.state.is_finished():
            note(trial, Notes(held=twin.number))
        return twin


def _twin(bench: Bench, number: int, same: str) -> "FrozenTrial | None":
    """A trial with the same settings that has a result, or else one that is computing it."""
    from optuna.trial import TrialState

    with_result = (TrialState.COMPLETE, TrialState.PRUNED)
    twins = []
    for trial in bench.study.get_trials(deepcopy=False):
        known = trial.user_attrs  # and not its notes: there may be thousands of trials
        if known.get("hash") != same or trial.number == number:
            continue
        idle = known.get("reuses") is not None or known.get("held") is not None
        if not idle and trial.state in (*with_result, TrialState.RUNNING):
            twins.append(trial)
    return min(twins, key=lambda trial: trial.state not in with_result, default=None)


def _left_off(bench: Bench, trial: "Trial") -> tuple[TrialFolder, list[list[float]]] | None:
    """The folder of the try before and the figures of its epochs, if there is a checkpoint to go on from."""
    number = notes(trial).resumes
    before = None if number is None else notes(bench.frozen(number))
    folder = None if before is None else before.place(bench.plan.folder)
    if before is None or folder is None or not folder.last_checkpoint.is_file():
        return None
    from ccsweep.training.checkpoint import epochs_done

    try:
        with sole(folder.lock, "its worker is still at it"):
            done = epochs_done(folder.path)
    except (UserError, OSError) as error:
        log.warning("trial %d: begins anew, for %s", trial.number, describe(error))
        return None
    return folder, [entry for entry in before.epochs if entry[0] < done]


def _run_task(
    bench: Bench, number: int, cfg: DictConfig, folder: TrialFolder
) -> dict[str, Any] | BaseException:
    """Run the task as Hydra's launchers do; returns its report, or what it raised."""
    with open_dict(cfg):
        cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        cfg.hydra.sweep.dir = str(bench.plan.folder.path)
        cfg.hydra.sweep.subdir = str(folder.path.relative_to(bench.plan.folder.path))
    try:
        result = run_job(
            hydra_context=bench.context,
            task_function=bench.task,
            config=cfg,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except SystemExit as error:
        return error
    report = result._return_value
    if result.status == JobStatus.COMPLETED and not isinstance(report, dict):
        return {}
    return report


def ending_after(number: int, error: BaseException) -> Ending:
    """What an exception that ended trial ``number`` means for it.

    Raises:
        KeyboardInterrupt: someone stopped it.
    """
    if isinstance(error, errors.Pruned):
        log.info("trial %d: pruned: %s", number, error)
        return EndedEarly(describe(error))
    if status_after(error) == "KILLED":
        raise KeyboardInterrupt
    log.error("trial %d: %s", number, "".join(traceback.format_exception(error)))
    fault = errors.machine_fault(error)
    if fault is None:
        return Failed(Kind.TRIAL, describe(error))
    return Failed(Kind.MACHINE, describe(fault), excused=errors.is_full_disk(fault))
