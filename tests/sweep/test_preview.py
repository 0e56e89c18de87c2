"""``sweep.preview``: commands and nothing else."""

from pathlib import Path

import pytest

from tests.sweep.conftest import GRID, STUDY, Sweep, stored


def test_the_first_points_as_commands(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    points = "sweep.points=['training.l1=0.5 training.l2=0.25']"
    sweep(*STUDY, "training.epochs=4", points, "sweep.n_trials=9", "sweep.preview=3")
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "python -m ccsweep training.epochs=4 training.l1=0.5 training.l2=0.25 test=false"
    assert len(others) == 2
    assert all(line.startswith("python -m ccsweep training.epochs=4 training.l1=0.") for line in others)
    assert list(Path(".").iterdir()) == []


def test_a_grid_and_what_is_left_of_it(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(*GRID, "sweep.n_trials=1")
    capsys.readouterr()
    sweep(*GRID, "sweep.preview=5")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["python -m ccsweep training.l1=1", "python -m ccsweep training.l1=2"]
    assert len([t for t in stored().get_trials() if t.state.is_finished()]) == 1
