"""The life of a trial, in this process: real configs, a real study, a task without work."""

import errno
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna import Study
from optuna.trial import Trial, TrialState

from ccsweep import watch
from ccsweep.errors import Pruned
from ccsweep.study import trials
from ccsweep.study.folder import TrialFolder
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.trials import Completed, Failed, Reused, enqueue_points, tell
from ccsweep.sweep.compose import Composer
from ccsweep.sweep.trial import Bench, Held, ending_after, run_trial
from tests.sweep.conftest import Command

REPORT = {"validation_error": 2.0, "ranks": "16-12"}


def test_what_an_exception_means(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ccsweep.sweep"):
        assert ending_after(7, Pruned("not worth it")) == trials.EndedEarly("not worth it")
        assert caplog.messages == ["trial 7: pruned: not worth it"]
        assert ending_after(7, MemoryError()) == Failed(Kind.MACHINE, "MemoryError")
        assert caplog.messages[1:] == ["trial 7: MemoryError\n"]
    full = RuntimeError("torch says only that it failed to write")
    full.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert ending_after(7, full) == Failed(
        Kind.MACHINE, "OSError: [Errno 28] No space left on device", excused=True
    )
    assert ending_after(7, ValueError("a bug")) == Failed(Kind.TRIAL, "ValueError: a bug")
    assert ending_after(7, SystemExit(3)) == Failed(Kind.TRIAL, "SystemExit: 3")
    for stop in (KeyboardInterrupt(), SystemExit(130)):
        with pytest.raises(KeyboardInterrupt):
            ending_after(7, stop)


@dataclass
class Worker:
    """A bench of its own, and what its trials come to."""

    bench: Bench
    study: Study

    def run(self) -> tuple[Any, Trial, TrialFolder]:
        """Run the next trial; nothing is told."""
        trial = self.study.ask()
        folder = self.bench.plan.folder.new_trial(trial.number)
        return run_trial(self.bench, trial, folder), trial, folder


@pytest.fixture
def worker(command: Callable[..., Command]) -> Callable[..., Worker]:
    def worker(task: Any, *overrides: str) -> Worker:
        read = command(*overrides)
        study = read.study()
        enqueue_points(study, read.plan.points)
        composer = Composer(read.context.config_loader, read.master)
        GlobalHydra.instance().clear()
        return Worker(
            Bench(read.plan, study, composer, read.context, task, FileLock(read.plan.folder.claim_lock)),
            study,
        )

    return worker


def hashed(number: int, study: Study) -> str:
    found = notes(study.get_trials()[number]).hash
    assert found is not None
    return found


def test_a_trial_runs_in_its_folder_with_its_settings(worker: Callable[..., Worker], folder: Path) -> None:
    seen: list[Any] = []

    def task(cfg: DictConfig) -> dict[str, Any]:
        hydra = HydraConfig.get()
        record = json.loads(TrialFolder(Path(hydra.runtime.output_dir)).record.read_text())
        seen.append((cfg.training.l1, cfg.tracking.sweep, hydra.job.num, hydra.job.id, record["state"]))
        seen.append(hydra.runtime.output_dir)
        assert "hydra" not in cfg
        return REPORT

    at = worker(task, "training.l1=0.25,0.5", "ranks=16-12")
    ending, _, place = at.run()
    assert ending == Completed(REPORT)
    assert seen == [(0.25, str(folder / "out"), 0, "0", "RUNNING"), str(place.path)]
    assert place.path == folder / "out" / "trials" / "0"
    assert place.read_report() == REPORT
    known = notes(at.study.get_trials()[0])
    assert known == Notes(
        overrides=["training.l1=0.25"],
        hash=known.hash,
        ranks="16-12",
        folder="trials/0",
        point='{"training.l1": 0.25}',
    )
    record = json.loads(place.record.read_text())
    assert record["user_attrs"] == at.study.get_trials()[0].user_attrs
    assert at.run()[0] == Completed(REPORT)
    assert seen[2] == (0.5, str(folder / "out"), 1, "1", "RUNNING")
    assert hashed(0, at.study) != hashed(1, at.study)


def test_a_report_that_the_task_wrote_stays(worker: Callable[..., Worker]) -> None:
    def task(cfg: DictConfig) -> dict[str, Any]:
        TrialFolder(Path(HydraConfig.get().runtime.output_dir)).write_report(REPORT | {"more": 1})
        return REPORT

    ending, _, place = worker(task, "training.l1=0").run()
    assert ending == Completed(REPORT)
    assert place.read_report() == REPORT | {"more": 1}


def test_a_task_that_returns_nothing(worker: Callable[..., Worker]) -> None:
    ending, _, place = worker(lambda cfg: None, "training.l1=0").run()
    assert ending == Completed({})
    assert place.read_report() == {}


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ValueError("a bug"), Failed(Kind.TRIAL, "ValueError: a bug")),
        (MemoryError(), Failed(Kind.MACHINE, "MemoryError")),
        (Pruned("not worth it"), trials.EndedEarly("not worth it")),
        (SystemExit(3), Failed(Kind.TRIAL, "SystemExit: 3")),
    ],
)
def test_a_task_that_ends_early(error: BaseException, ending: Any, worker: Callable[..., Worker]) -> None:
    def task(cfg: DictConfig) -> None:
        raise error

    found, _, place = worker(task, "training.l1=0").run()
    assert found == ending
    assert place.read_report() is None


def test_an_interrupt_comes_out_as_itself(worker: Callable[..., Worker]) -> None:
    def task(cfg: DictConfig) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker(task, "training.l1=0").run()


def test_training_is_watched_by_the_rules_of_the_study(worker: Callable[..., Worker]) -> None:
    def task(cfg: DictConfig) -> None:
        watch.tell(1, {"validation/error": 4.0, "validation/speedup_limit": 20.0})
        watch.tell(0, {"bound": 1.5})

    at = worker(
        task,
        "training.l1=0",
        "sweep.pruning=validation/error",
        "sweep.constraints=['theoretical_speedup>=2']",
    )
    shown: list[tuple[int, float]] = []
    at.bench.show = lambda epoch, error: shown.append((epoch, error))
    ending, _, _ = at.run()
    assert ending == trials.EndedEarly("cannot keep theoretical_speedup>=2: these ranks give 1.5 at most")
    assert notes(at.study.get_trials()[0]).epochs == [[1, 4.0, 20.0]]
    assert shown == [(1, 4.0)]
    watch.tell(0, {"bound": 1.5})  # nobody listens any more


def test_settings_that_fit_together_in_no_run(worker: Callable[..., Worker], folder: Path) -> None:
    at = worker(lambda cfg: REPORT, "training.l1=0")
    at.bench.plan.plain.append("training.lr=3")
    ending, _, place = at.run()
    assert isinstance(ending, Failed)
    assert ending.kind is Kind.TRIAL
    assert ending.cause.startswith("ConfigCompositionException: Could not override 'training.lr'.")
    assert not place.path.exists()  # nothing was run


def test_a_run_that_is_evaluated_again_tells_its_own_ranks(worker: Callable[..., Worker]) -> None:
    at = worker(lambda cfg: REPORT, "task=evaluate", "run=abc", "training.seed=0,1")
    assert at.run()[0] == Completed(REPORT)
    assert notes(at.study.get_trials()[0]).ranks is None


# Two that are one: a control's estimator is not used.
TWINS = ["ranks=control", "estimator=svd,whitened,random"]


def test_the_result_of_a_trial_with_the_same_settings(worker: Callable[..., Worker]) -> None:
    calls = []
    at = worker(lambda cfg: calls.append(cfg.estimator.name) or REPORT, *TWINS)
    ending, first, _ = at.run()
    assert ending == Completed(REPORT)
    tell(first, ending, at.bench.plan.rules)
    for number in (1, 2):  # and not that of the one that reused it
        ending, trial, place = at.run()
        assert isinstance(ending, Reused)
        assert ending.twin.number == 0
        assert notes(at.bench.frozen(trial)).hash == hashed(0, at.study)
        assert notes(at.bench.frozen(trial)).held is None
        assert notes(at.bench.frozen(trial)).folder is None
        assert not place.path.exists()
        tell(trial, ending, at.bench.plan.rules)
        assert at.bench.frozen(number).values == [2.0]
    assert calls == ["svd"]


def test_a_pruned_trial_is_a_result_too_and_a_failed_one_is_none(worker: Callable[..., Worker]) -> None:
    endings: list[BaseException] = [ValueError("a bug"), Pruned("not worth it")]

    def task(cfg: DictConfig) -> None:
        raise endings.pop(0)

    at = worker(task, *TWINS)
    for number in (0, 1):
        ending, trial, _ = at.run()
        tell(trial, ending, at.bench.plan.rules)
        assert at.bench.frozen(number).state == (TrialState.FAIL, TrialState.PRUNED)[number]
    ending, _, _ = at.run()
    assert isinstance(ending, Reused)
    assert ending.twin.number == 1


def test_a_trial_waits_for_another_worker_that_computes_the_same(worker: Callable[..., Worker]) -> None:
    at = worker(lambda cfg: REPORT, *TWINS)
    ending, other, _ = at.run()  # and is not told yet
    assert ending == Completed(REPORT)
    held, trial, place = at.run()
    assert held == Held(0)
    assert notes(at.bench.frozen(trial)).held == 0
    assert not place.path.exists()
    # One that waits is no one to wait for; one with a result comes before one that still runs.
    third, last, _ = at.run()
    assert third == Held(0)
    trials.tell(other, ending, at.bench.plan.rules)
    note(last, Notes(hash="other"))
    assert isinstance(run_trial(at.bench, last, at.bench.plan.folder.new_trial(2)), Reused)
