"""ccsweep from Python: what it offers by name, and the examples of docs/python.md, run in their order."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ccsweep
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from tests.conftest import ROOT, User
from tests.report.study import studies

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


def test_a_study_in_hand(tmp_path: Path) -> None:
    made = studies.typical(tmp_path / "digits_pareto")
    study = ccsweep.study(str(tmp_path / "digits_pareto"))
    frame = study.frame()
    assert list(frame.index) == list(range(19))
    assert list(frame.index[frame["front"]]) == [1, 4, 7, 9]
    assert frame["ranks.layers.0"].dtype == "int64"
    assert frame.loc[7, ["validation_error", "measured_speedup_batch1", "estimator"]].tolist() == [
        2.0,
        4.2,
        "whitened",
    ]
    assert [run.folder.name for run in study.front()] == ["4", "1", "7", "9"]
    assert study.best().folder.name == "7"
    with pytest.raises(UserError) as caught:
        study.confirmed()
    place = tmp_path / "digits_pareto"
    assert str(caught.value) == f"{place}: was not confirmed yet; give task=confirm sweep.name={place}"
    spread = {"mean": 1.7, "sd": 0.1, "low": 1.5, "high": 1.9}
    points = {
        "trial4": {"trial": 4, "validation_error": spread},
        "control": {"trial": None, "validation_error": spread},
    }
    StudyFolder(place).confirmed.write_text(json.dumps({"study": made.study_name, "points": points}))
    confirmed = study.confirmed()
    assert list(confirmed.index) == ["trial4", "control"]
    assert confirmed.loc["trial4", "validation_error"] == 1.7
    assert confirmed.loc["control", "validation_error_high"] == 1.9
    assert study.best("error<=control").folder.name == "1"  # 1.6 by its own account, where trial 4 has no 1.4


def test_a_study_as_a_dataset(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    studies.typical(tmp_path / "digits_pareto")
    place = StudyFolder(tmp_path / "digits_pareto")
    place.trial("7").write_report({"layers": [{"density": 0.2, "rank": 39}, {"density": 0.4, "rank": None}]})
    dataset = ccsweep.study(str(place.path)).dataset()
    assert dict(dataset.sizes) == {"trial": 19, "layer": 2}
    assert dataset["layer_density"].sel(trial=7).values.tolist() == [0.2, 0.4]
    assert dataset["layer_rank"].sel(trial=7).isnull().values.tolist() == [False, True]
    assert dataset["layer_density"].sel(trial=8).isnull().all()
    assert dataset["validation_error"].sel(trial=7) == 2.0
    assert dataset.attrs == {"study": "digits_pareto", **studies.OBJECTIVES}


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
    assert len(BLOCKS) == 5
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
