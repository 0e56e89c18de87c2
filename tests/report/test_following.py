"""The commands that are printed at the end of a study, a grid and a status."""

import os
from pathlib import Path

import pytest
from optuna.trial import TrialState

from ccsweep.report import following
from ccsweep.study.folder import StudyFolder
from ccsweep.tracking.find import write_run_file
from tests.report.study import studies

MORE = "more    python -m ccsweep -m +sweeps=digits_pareto sweep.n_trials=40"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    return StudyFolder(Path(os.getcwd()) / "outputs" / "sweeps" / "digits_pareto")


def test_after_a_study(place: StudyFolder) -> None:
    study = studies.typical(place.path)
    write_run_file(place.path, f"sqlite:///{os.getcwd()}/outputs/mlflow.db", "ab" * 16)
    (place.path.parents[1] / "mlflow.db").touch()
    assert following.lines(study, place, None) == [
        "compare python -m ccsweep.tracking.ui --study outputs/sweeps/digits_pareto",
        "confirm python -m ccsweep task=confirm sweep.name=digits_pareto pick=front seeds=5",
        "export  python -m ccsweep task=export sweep.name=digits_pareto pick=trial:7",
        MORE,
    ]


def test_after_a_study_of_one_trained_network(place: StudyFolder) -> None:
    """There is nothing to train again, and it is not tracked."""
    study = studies.create(place.path, base=["task=evaluate", "run=abcdef"])
    study.set_user_attr("command", "python -m ccsweep -m +sweeps=digits_pareto sweep.n_trials=20")
    studies.add(study, TrialState.COMPLETE, (3.0, 1.0))
    assert following.lines(study, place, None) == [
        "export  python -m ccsweep task=export sweep.name=digits_pareto pick=trial:0",
        MORE,
    ]


def test_after_a_grid(place: StudyFolder) -> None:
    study = studies.create(place.path, {})
    for error in (3.0, 2.0):
        studies.add(study, TrialState.COMPLETE, (error,))
    assert following.lines(study, place, None) == [
        "export  python -m ccsweep task=export sweep.name=digits_pareto pick=trial:1"
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sweep.storage=postgresql+psycopg://ann@h/db", "sweep.storage=postgresql+psycopg://ann@h/db"),
        ("'sweep.storage=postgresql+psycopg://ann:***@h/db'", "sweep.storage=URL"),
        ("--config-dir=profiles cluster=lab", "cluster=lab --config-dir=profiles"),
        ("cluster=slurm", "sweep.storage=URL"),
        ("", "sweep.storage=URL"),
    ],
)
def test_where_the_trials_are_kept_is_said_as_it_was(typed: str, said: str, tmp_path: Path) -> None:
    """Only a folder's own journal needs no word."""
    study = studies.create(tmp_path / "s")
    study.set_user_attr("command", f"python -m ccsweep -m {typed} sweep.name=s")
    elsewhere = StudyFolder(tmp_path / "away" / "s")
    asked = following.command_about(study, elsewhere, "task=export", "pick=knee")
    assert asked == f"python -m ccsweep task=export sweep.name={elsewhere.path} pick=knee {said}"
