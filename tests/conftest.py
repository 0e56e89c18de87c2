"""Small fixtures; real data, real stores, real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from ccsweep.config.register import register

register()
settings.register_profile("ccsweep", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("ccsweep")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CCSWEEP_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with MNIST and the SVHN sample; tests that ask for it skip where it is not."""
    if not (SHARED / "mnist").is_dir():
        pytest.skip(f"no real data at {SHARED}; set CCSWEEP_SHARED_DATA")
    return SHARED


class User:
    """Someone at a shell in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("CCSWEEP", "MLFLOW"))}

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start ``python -m ccsweep ...``."""
        return subprocess.Popen(
            [sys.executable, "-m", "ccsweep", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background of a script is started deaf to Ctrl-C, and its children with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        )

    def run(self, *arguments: str, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
        """Run ``python -m ccsweep ...`` to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def runs(self) -> list[Any]:
        """All runs in this folder's store, the oldest first."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/outputs/mlflow.db")
        experiments = [e.experiment_id for e in client.search_experiments()]
        return client.search_runs(experiments, order_by=["attributes.start_time ASC"])


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)
