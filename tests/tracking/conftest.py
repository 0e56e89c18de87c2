import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccsweep.tracking.store import prepare, sqlite_uri


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A store made by prepare, once for all tests: do not write to it."""
    path = tmp_path_factory.mktemp("prepared") / "mlflow.db"
    prepare(sqlite_uri(path))
    return path


@pytest.fixture
def uri(prepared, tmp_path) -> str:
    """A store of the test's own."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(prepared, path)
    return sqlite_uri(path)


@pytest.fixture
def start(uri, tmp_path):
    """Start a run in the test's store; takes what differs from a plain one."""
    from ccsweep.tracking.run import Run

    def start(**changes):
        settings = {
            "experiment": "mnist",
            "name": "a run",
            "params": {},
            "tags": {},
            "folder": tmp_path / "run",
            "system_metrics": False,
        }
        return Run.start(uri, **(settings | changes))

    return start


@pytest.fixture
def client(uri):
    from ccsweep.tracking.client import connect

    return connect(uri)


@pytest.fixture
def full_disk():
    """A disk on which no file may grow beyond some bytes, which is what a full one comes to."""

    @contextmanager
    def limit(size: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
