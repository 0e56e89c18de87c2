"""Small fixtures; real data, real stores, real processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CCSWEEP_SHARED_DATA", ROOT.parent / "shared" / "data"))

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shared_data() -> Path:
    """The folder with MNIST and the SVHN sample; tests that ask for it skip where it is not."""
    if not (SHARED / "mnist").is_dir():
        pytest.skip(f"no real data at {SHARED}; set CCSWEEP_SHARED_DATA")
    return SHARED


@pytest.fixture
def ccsweep(tmp_path: Path) -> Command:
    """Run ``python -m ccsweep ...`` as a user would, in a folder of its own."""

    def run(*arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ccsweep", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
