"""The wheel, built and installed in an environment of its own: what a user gets who never sees the checkout."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks import journeys

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journeys.built(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``python`` of an empty environment with the wheel; its dependencies are this environment's."""
    return journeys.installed(wheel, tmp_path_factory.mktemp("environment") / "venv")


def run(python: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=journeys.environment(python),
        capture_output=True,
        text=True,
        check=False,
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
    python: Path, tmp_path: Path
) -> None:
    where = run(python, tmp_path, "-c", "import ccsweep; print(ccsweep.__file__, ccsweep.__version__)")
    assert where.stdout.startswith(str(python.parents[1])), where.stderr
    before = sorted(python.parents[1].glob("lib/python*/site-packages/ccsweep/conf/**/*.yaml"))
    done = run(
        python,
        tmp_path,
        *("-m", "ccsweep", "-m", "ranks=16-12,control", "training.epochs=1", "sweep.name=two"),
        *("tracking.system_metrics=false", "test=false"),
    )
    assert done.returncode == 0, done.stderr
    exported = run(python, tmp_path, "-m", "ccsweep", "task=export", "sweep.name=two", "to=best")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "conf" / "experiment" / "best.yaml").is_file()
    assert sorted(python.parents[1].glob("lib/python*/site-packages/ccsweep/conf/**/*.yaml")) == before
    command = exported.stdout.rpartition("run it")[2].split()
    again = run(python, tmp_path, *command[1:], "training.epochs=1", "tracking.system_metrics=false")
    assert again.returncode == 0, again.stderr
    shutil.rmtree(tmp_path / "outputs")
