"""ccsweep from Python: what it offers by name, and the examples of docs/python.md, run in their order."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ccsweep
from ccsweep.errors import UserError
from tests.conftest import ROOT, User

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)


def test_names() -> None:
    assert ccsweep.__version__ == version("ccsweep")
    assert dir(ccsweep) == ["Run", "Study", "__version__", "accelerate", "load", "study", "train"]
    assert all(hasattr(ccsweep, name) for name in dir(ccsweep))
    with pytest.raises(AttributeError, match=r"module 'ccsweep' has no attribute 'trian'"):
        _ = ccsweep.trian  # type: ignore[attr-defined]


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, ccsweep; dir(ccsweep); sys.exit(bool({'torch', 'mlflow', 'numba'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call, line in (
        (
            lambda: ccsweep.train("ranks=control"),
            "train('ranks=control'): expected a list of overrides, as in train(['ranks=control'])",
        ),
        (
            lambda: ccsweep.train(["training.lr=1"]),
            "training.lr: no such key; did you mean 'training.learning_rate'?",
        ),
        (lambda: ccsweep.train(["training.epochs=0"]), "training.epochs=0: expected a positive whole number"),
        (
            lambda: ccsweep.load(tmp_path),
            f"{tmp_path}/config.yaml is missing; expected a run id or the folder of a ccsweep run",
        ),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_examples_run(user: User) -> None:
    done = user.run(
        "-m",
        "+sweeps=digits_pareto",
        "sweep.n_trials=3",
        "sweep.name=mine",
        "training.epochs=2",
        "tracking.system_metrics=false",
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert len(BLOCKS) == 4
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCKS)],
        cwd=user.folder,
        env=user.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "{'validation_error': 'minimize', 'measured_speedup_batch1': 'maximize'} 3" in ran.stdout
