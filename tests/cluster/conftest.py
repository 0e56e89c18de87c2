"""Sweeps on a real cluster of one machine: SLURM with two nodes, PostgreSQL and an MLflow server.

The services are brought up once for all tests here. CCSWEEP_SERVICES names the folder of services that are up
already (``make services``), which are then used and left.
"""

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial

from benchmarks.services import Missing, Services
from ccsweep.study.folder import StudyFolder
from ccsweep.study.storage import open_study
from ccsweep.sweep import lease
from tests.conftest import ROOT

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Up and well."""
    if (known := os.environ.get("CCSWEEP_SERVICES")) is not None:
        yield Services(Path(known))
        return
    with tempfile.TemporaryDirectory(prefix="ccsweep-services-") as folder:
        services = Services(Path(folder))
        try:
            services.up()
        except Missing as reason:
            pytest.skip(str(reason))
        try:
            yield services
        finally:
            services.down()


class Lab:
    """Someone who starts sweeps on the cluster from a shell, each study with a name that no other one has.

    Args:
        services: of the cluster.
        folder: the working directory, which all nodes see.
    """

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.folder = services, folder
        self._study: Study | None = None
        self.name = f"study-{uuid.uuid4().hex[:8]}"
        self.study = StudyFolder(folder / self.name)
        self.environment = {**os.environ, **services.environment, "PYTHONPATH": str(ROOT)}
        self.environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def start(self, *overrides: str, command: str = "tests.sweep.tasks", **options: Any) -> Any:
        """Start a sweep whose workers are jobs."""
        words = ["-m", *overrides, f"hydra.sweep.dir={self.study.path}", "sweep.cluster=slurm"]
        words += [f"sweep.storage={self.services.database}", f"tracking.uri={self.services.tracking}"]
        code = f"from {command} import main; main()"
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=self.folder, env=self.environment, **options
        )

    def run(self, *overrides: str, timeout: float = 400, **options: Any) -> tuple[int, str]:
        """Run a sweep to its end; its exit status and all that it said."""
        with self.start(*overrides, **options) as process:
            try:
                out, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, out

    def slurm(self, *words: str) -> str:
        """What one of SLURM's commands answers."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True).stdout

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.slurm("squeue", "-h", "-o", "%A", "-n", f"ccsweep-{self.name}").split()

    def trials(self) -> list[FrozenTrial]:
        """Of the study, as they are in its storage."""
        return self.stored().get_trials()

    def stored(self) -> Study:
        """The study as it is in its storage."""
        if self._study is None:
            self._study = open_study(self.study, self.services.database)
        return self._study

    def leave(self) -> None:
        """Leave no job and no connection behind."""
        for job in self.jobs():
            self.slurm("scancel", "--full", job)
        if self._study is not None:
            self._study._storage._backend._backend.engine.dispose()

    def states(self) -> dict[str, int]:
        """How many trials there are in which state."""
        found: dict[str, int] = {}
        for trial in self.trials():
            found[trial.state.name] = found.get(trial.state.name, 0) + 1
        return found

    def causes(self) -> list[str]:
        """Why trials failed."""
        return [str(t.user_attrs["cause"]) for t in self.trials() if t.state.name == "FAIL"]

    def workers(self) -> list[lease.Contents]:
        """Leases of those that are at a trial."""
        found = [lease.read(path) for path in self.study.leases()]
        return [w for w in found if w is not None and w["ended"] is None and w.get("trial") is not None]

    def in_a_run(self) -> bool:
        """Whether a worker is at a trial whose run has begun."""
        return any((self.study.trial(str(w["trial"])).path / "run.json").exists() for w in self.workers())

    def computed(self) -> list[str]:
        """What the task of the tests was called with, one line a call."""
        path = self.folder / "computed"
        return path.read_text().splitlines() if path.exists() else []

    def runs(self) -> dict[str, list[str]]:
        """Statuses in MLflow, of the study's run under ``sweep`` and of its trials' under ``trial``."""
        from mlflow import MlflowClient

        client = MlflowClient(self.services.tracking)
        found: dict[str, list[str]] = {}
        for run in client.search_runs(
            [e.experiment_id for e in client.search_experiments()], max_results=9999
        ):
            if str(self.folder) in run.data.tags.get("ccsweep.folder", ""):
                what = "trial" if "mlflow.parentRunId" in run.data.tags else "sweep"
                found[what] = sorted([*found.get(what, []), run.info.status])
        return found


@pytest.fixture
def lab(services: Services, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(services, tmp_path)
    yield lab
    lab.leave()


def until(what: Callable[[], object], seconds: float = 400) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
