"""One finished run in a shell, and a place where tasks run in this process."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna import Study

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.schema import Config
from ccsweep.engine import clock, tune
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import Definition, Notes, StudyNotes, note, note_study
from ccsweep.study.storage import create
from ccsweep.study.trials import Completed, Rules, tell
from ccsweep.tasks import benchmark, result, task
from tests.conftest import User
from tests.tasks.runs import SHORT

AIMS = {"validation_error": "minimize", "measured_speedup_batch1": "maximize"}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[User, Any]:
    """One finished run of ``python -m ccsweep``, shortened, with what it printed; others may come after it."""
    user = User(tmp_path_factory.mktemp("digits"))
    return user, user.run(*SHORT)


class Place:
    """A folder with a store, where tasks run as on a command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"

    def config(self, *overrides: str) -> Config:
        return check(composed(self.given(*overrides)))

    def given(self, *overrides: str) -> list[str]:
        return [f"tracking.uri={self.uri}", "tracking.system_metrics=false", *overrides]

    def run(self, name: str, *overrides: str) -> dict[str, Any]:
        config = self.config(*overrides)
        return task(config.task)(config, TrialFolder(self.folder / name), self.given(*overrides))

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Times are not looked at here: so few calls are enough. Other processes' timings are not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "SECONDS", 0.0)
        patch.setattr(benchmark, "SECONDS", 0.0)
        patch.setattr(result, "MEASURED_SECONDS", 0.0)
        patch.setattr(clock, "LOCK", f"\0ccsweep tests {os.getpid()}")
        yield


@pytest.fixture(scope="module")
def place(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("timing"))


@pytest.fixture(scope="module")
def trained(place: Place) -> dict[str, Any]:
    return place.run("trained", "training.epochs=2", "tracking.register=net")


@pytest.fixture(scope="module")
def searched(place: Place) -> tuple[StudyFolder, Study, list[dict[str, Any]]]:
    """A study of two trials: one trained for an epoch, the other not long enough to be any good."""
    folder = StudyFolder(place.folder / "study")
    folder.path.mkdir()
    study = create(folder, None, AIMS)
    note_study(study, StudyNotes(definition=Definition(objectives=AIMS), folder=str(folder.path)))
    aims = [f"+sweep.objectives.{key}={way}" for key, way in AIMS.items()]
    reports = []
    for number, own in enumerate(
        (["training.epochs=2"], ["training.epochs=1", "training.learning_rate=1e-9"])
    ):
        trial = study.ask()
        note(trial, Notes(folder=f"trials/{number}"))
        swept = [f"tracking.sweep={folder.path}", "test=false", *aims, *own]
        reports.append(place.run(f"study/trials/{number}", *swept))
        tell(trial, Completed(reports[-1]), Rules(AIMS, [], 0))
    return folder, study, reports
