"""A study that was moved or copied: it is itself, and never the one that it came from."""

import json
import shutil
from pathlib import Path

import pytest

from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import notes
from ccsweep.study.storage import open_study
from tests.sweep.conftest import GRID, Shell, Sweep, computed
from tests.sweep.test_faults import at_work, until

TRACKED = ["training.l1=range(0,2)", "hydra/job_logging=none", "hydra/hydra_logging=none"]


def test_a_grid_that_was_moved_keeps_its_table(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(*GRID)
    rows = json.loads(Path("out/table.json").read_text())["rows"]
    Path("elsewhere").mkdir()
    Path("out").rename("elsewhere/out")
    monkeypatch.chdir("elsewhere")
    trials = sweep(*GRID)
    assert [notes(trial).folder for trial in trials] == ["trials/0", "trials/1", "trials/2"]
    assert json.loads(Path("out/table.json").read_text())["rows"] == rows
    assert computed() == []  # here
    assert not Path("../out").exists()


@pytest.mark.slow
def test_a_copy_leaves_a_study_at_work_alone(folder: Path) -> None:
    shell = Shell(folder, TRACKED="1")
    with shell.start(*TRACKED, "training.source='6'", "hydra.sweep.dir=out") as original:
        until(lambda: at_work() and Path("out/trials/0/run.json").exists())
        shutil.copytree("out", "copy")
        before = Path("out/trials/0/run.json").read_bytes()
        status, said = shell.run(*TRACKED, "training.source='6'", "hydra.sweep.dir=copy")
        assert status == 0, said
        assert "still at work" not in said
        out, _ = original.communicate(timeout=300)
    assert original.returncode == 0, out
    assert Path("out/trials/0/run.json").read_bytes() == before
    kept = open_study(StudyFolder(Path("out").resolve())).get_trials()
    assert [trial.state.name for trial in kept] == ["COMPLETE", "COMPLETE"]  # no worker of it was killed
    copied = open_study(StudyFolder(Path("copy").resolve())).get_trials()
    assert [trial.state.name for trial in copied if trial.state.name != "FAIL"] == ["COMPLETE", "COMPLETE"]
    runs = {run.info.run_id: run for run in shell.runs()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    of = {
        name: [r for r in runs.values() if r.data.tags["ccsweep.folder"].startswith(f"{folder}/{name}")]
        for name in ("out", "copy")
    }
    assert {name: len(found) for name, found in of.items()} == {
        "out": 3,
        "copy": 3,
    }  # each its parent and its trials
