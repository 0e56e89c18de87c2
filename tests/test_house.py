"""The house keeps its shape: imports run one way, no file is long, no room is full, a fact stands once."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

FILES = sorted((ROOT / "ccsweep").rglob("*.py"))
ONCE = {
    "#0072B2": "report/canvas.py",
    '"study.journal"': "study/folder.py",
    '"report.json"': "study/folder.py",
    '"run.json"': "tracking/find.py",
}
"""Facts that spread easily, and where each stands."""


def test_imports_run_one_way_also_inside_functions() -> None:
    """The order of the rooms stands in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    linted = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert "Contracts: 2 kept, 0 broken." in linted.stdout, linted.stdout + linted.stderr


def test_no_file_is_long_and_no_room_is_full() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 350, path
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) < 15, folder


@pytest.mark.parametrize("fact", ONCE)
def test_a_fact_stands_once(fact: str) -> None:
    places = [str(path.relative_to(ROOT / "ccsweep")) for path in FILES if fact in path.read_text()]
    assert places == [ONCE[fact]]
