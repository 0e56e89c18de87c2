"""The wheel, built and installed in an environment of its own: what a user gets who never sees the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    (found,) = folder.glob("ccsweep-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``python`` of an empty environment with the wheel; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def run(python: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CCSWEEP", "MLFLOW", "PYTHON"))}
    return subprocess.run(
        [str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("ccsweep/py.typed", "ccsweep/conf/config.yaml", "ccsweep/sweeps/digits_pareto.yaml"):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    (metadata,) = [name for name in names if name.endswith("METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "Classifier: Typing :: Typed" in text
    assert "License-Expression: MIT" in text


def test_it_is_itself_that_runs_and_the_users_files_stay_beside_his_work(
    installed: Path, tmp_path: Path
) -> None:
    where = run(installed, tmp_path, "-c", "import ccsweep; print(ccsweep.__file__, ccsweep.__version__)")
    assert where.stdout.startswith(str(installed.parents[1])), where.stderr
    before = sorted(installed.parents[1].glob("lib/python*/site-packages/ccsweep/conf/**/*.yaml"))
    done = run(
        installed,
        tmp_path,
        *("-m", "ccsweep", "-m", "ranks=16-12,control", "training.epochs=1", "sweep.name=two"),
        *("tracking.system_metrics=false", "test=false"),
    )
    assert done.returncode == 0, done.stderr
    exported = run(installed, tmp_path, "-m", "ccsweep", "task=export", "sweep.name=two", "to=best")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "conf" / "experiment" / "best.yaml").is_file()
    assert sorted(installed.parents[1].glob("lib/python*/site-packages/ccsweep/conf/**/*.yaml")) == before
    command = exported.stdout.rpartition("run it")[2].split()
    again = run(installed, tmp_path, *command[1:], "training.epochs=1", "tracking.system_metrics=false")
    assert again.returncode == 0, again.stderr
    shutil.rmtree(tmp_path / "outputs")
