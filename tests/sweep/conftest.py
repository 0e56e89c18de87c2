"""Studies in a folder of their own: the real sweeper, real worker processes, a task without work."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from ccsweep.config.places import root
from ccsweep.study.folder import StudyFolder
from ccsweep.study.storage import create, open_study
from ccsweep.sweep.plan import Plan, make_plan
from ccsweep.tracking.store import prepare, sqlite_uri
from tests.conftest import ROOT
from tests.sweep.tasks import computed, task

Sweep = Callable[..., list[FrozenTrial]]

QUIET = ["hydra.sweep.dir=out", "hydra/job_logging=none", "hydra/hydra_logging=none"]
STUDY = [
    "+sweep.objectives.validation_error=minimize",
    "+sweep.objectives.measured_speedup_batch1=maximize",
    "sweep.sampler=random",
    "training.l1=interval(0,1)",
    "training.l2=interval(0,1)",
    *QUIET,
]
"""A search without end over two numbers, in ``out``."""


AIM = "+sweep.objectives.validation_error=minimize"

GRID = ["training.l1=range(0,3)", *QUIET]
"""Three points, in ``out``; no page at the end, which takes seconds to draw."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of the test, from where workers find the tests' modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    GlobalHydra.instance().clear()
    yield tmp_path
    GlobalHydra.instance().clear()


@pytest.fixture
def sweep(folder: Path) -> Sweep:
    """What ``python -m ccsweep -m ...`` does in the folder of the test, its figures in ``out``."""

    def sweep(*overrides: str, task: Any = task) -> list[FrozenTrial]:
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
        return hydra.multirun("config", task, [*overrides, *QUIET], with_log_configuration=False)

    return sweep


@dataclass
class Command:
    """A command as the sweeper has read it; nothing has run, and nothing is written."""

    plan: Plan
    context: HydraContext
    master: DictConfig

    def study(self) -> Study:
        """Its study, begun in its folder."""
        self.plan.folder.path.mkdir(parents=True, exist_ok=True)
        return create(self.plan.folder, None, self.plan.objectives)


@pytest.fixture(scope="session")
def hydra() -> Hydra:
    """Hydra with this project's configs."""
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
    GlobalHydra.instance().clear()
    return hydra


@pytest.fixture
def command(folder: Path, hydra: Hydra) -> Callable[..., Command]:
    """What ``python -m ccsweep -m ...`` reads in the folder of the test, its figures in ``out``."""

    def command(*overrides: str) -> Command:
        master = hydra.compose_config(
            "config", [*overrides, *QUIET], RunMode.MULTIRUN, with_log_configuration=False
        )
        arguments = list(master.hydra.overrides.task)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        return Command(make_plan(arguments, master, hydra.config_loader), context, master)

    return command


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, made once for all tests; tests write to copies of it."""
    path = tmp_path_factory.mktemp("prepared") / "mlflow.db"
    prepare(sqlite_uri(path))
    return path


@pytest.fixture
def uri(prepared: Path, tmp_path: Path) -> str:
    """A store of the test's own."""
    return sqlite_uri(Path(shutil.copy(prepared, tmp_path / "mlflow.db")))


class Shell:
    """Someone who starts sweeps from a shell, and may end them as one does."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, **variables}

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        """Start a sweep."""
        return subprocess.Popen(
            [sys.executable, "-c", "from tests.sweep.tasks import main; main()", "-m", *overrides],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A job in the background of a script is started deaf to Ctrl-C, and its children with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *overrides: str, timeout: float = 300) -> tuple[int, str]:
        """Run a sweep to its end; its exit status and all that it said."""
        with self.start(*overrides) as process:
            out, _ = process.communicate(timeout=timeout)
        return process.returncode, out

    def statuses(self) -> dict[str, list[str]]:
        """Statuses of the runs in MLflow: of the parent under ``sweep``, else of all by their name."""
        found: dict[str, list[str]] = {}
        for run in self.runs():
            name = "sweep" if "mlflow.parentRunId" not in run.data.tags else "trial"
            found.setdefault(name, []).append(run.info.status)
        return {name: sorted(statuses) for name, statuses in found.items()}

    def runs(self) -> list[Any]:
        """All runs in MLflow."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/outputs/mlflow.db")
        return client.search_runs([e.experiment_id for e in client.search_experiments()])


@pytest.fixture
def shell(folder: Path) -> Shell:
    return Shell(folder)


def stored() -> Study:
    """The study of the test, as it is on the disk."""
    return open_study(StudyFolder(Path("out").resolve()))


def states() -> dict[str, int]:
    """How many trials there are in which state; those that reused a result apart."""
    found: dict[str, int] = {}
    for trial in stored().get_trials():
        name = "REUSED" if "reuses" in trial.user_attrs else trial.state.name
        found[name] = found.get(name, 0) + 1
    return found


def attributes(name: str, state: TrialState = TrialState.FAIL) -> list[Any]:
    """An attribute of all trials in a state."""
    return [t.user_attrs.get(name) for t in stored().get_trials() if t.state == state]


def assert_nothing_twice() -> None:
    """No point was computed again after it had a result."""
    complete = [
        t for t in stored().get_trials() if t.state == TrialState.COMPLETE and "reuses" not in t.user_attrs
    ]
    assert len({t.user_attrs["hash"] for t in complete}) == len(complete)
    assert len(set(computed())) == len(computed())
