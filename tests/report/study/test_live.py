"""The view on a terminal, which rich plays, and on a file."""

import io
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from rich.cells import cell_len
from rich.console import Console

from ccsweep.report.study.live import View, render
from ccsweep.report.study.standing import standing
from ccsweep.study.notes import study_notes
from tests.report.study import studies

NOW = studies.BEGAN + timedelta(seconds=480)


def plain() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 12), (20, 6), (10, 3)])
def test_the_table_fits_every_terminal(width: int, height: int, study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render(now, width, height))
    lines = output(console).splitlines()
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("15 of 20 trials"[: width - 1])


def test_the_table_says_what_matters(study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    text = render(now, 120, 40).plain
    assert "trial 18  30 s  estimator=svd ranks.layers.0=34 training.l1=2.154e-05" in text
    assert "front: 4 trials; the knee is trial 7" in text
    assert "failed 1x: worker killed (signal 9)" in text
    assert "about 1 min 55 s left" in text


def test_one_line_for_each_trial_that_ends(tmp_path: Path) -> None:
    study, console = studies.create(tmp_path / "s"), plain()
    ago = (datetime.now() - studies.BEGAN).total_seconds()
    studies.add(study, TrialState.COMPLETE, (2.0, 3.0), at=ago - 3600)  # of an earlier command
    with View(study_notes(study).definition.aims, 20, console) as view:
        view.update(study.get_trials(), [])
        assert output(console) == "going on: 1 of 20 trials done\n"
        studies.add(study, TrialState.COMPLETE, (1.39, 4.8), at=ago, seconds=152, params={})
        studies.add(study, TrialState.FAIL, at=ago, seconds=2, params={}, cause="no disk\nat all")
        studies.add(study, TrialState.RUNNING, at=ago)
        for _ in range(3):
            view.update(study.get_trials(), [{"id": "w0"}], datetime.now().timestamp())
    lines = output(console).splitlines()
    assert sorted(lines[1:-1]) == [
        "trial 1  no settings of its own  validation_error 1.39  measured_speedup_batch1 4.80  2 min 32 s",
        "trial 2  no settings of its own  failed: no disk at all  2 s",
    ]
    assert lines[-1] == "3 of 20 trials done, 1 running, 1 failed"


def test_lines_are_not_wrapped(study: optuna.Study) -> None:
    console = plain()
    with View(study_notes(study).definition.aims, 20, console) as view:
        view._began = studies.BEGAN - timedelta(seconds=1)
        view.update(study.get_trials(), [], NOW)
    lines = output(console).splitlines()
    assert len(lines) == 19  # 18 ended, and the last line
    assert sum("as trial 4, not run again" in line for line in lines) == 1
    assert sum("breaks a constraint" in line for line in lines) == 1


def test_a_terminal_is_redrawn_only_when_something_changed(study: optuna.Study) -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    with View(study_notes(study).definition.aims, 20, console) as view:
        view.update(study.get_trials(), [], NOW)
        once = output(console)
        view.update(study.get_trials(), [], NOW + timedelta(milliseconds=300))
        assert output(console) == once
        view.update(study.get_trials(), [], NOW + timedelta(seconds=2))
        assert output(console) != once


def test_a_grid_has_a_best_instead_of_a_front(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "grid", objectives={})
    for error in (2.0, 1.5, 1.75):
        studies.add(study, TrialState.COMPLETE, (error,))
    objectives = {"validation_error": "minimize"}
    text = render(standing(study.get_trials(), objectives, 3, 1, NOW), 100, 30).plain
    assert "best so far" in text
    assert "front" not in text


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    study, console = studies.create(tmp_path / "s"), plain()
    cause = "cannot reach postgresql://ann:s3cret@db/runs"
    ago = (datetime.now() - studies.BEGAN).total_seconds()
    studies.add(
        study, TrialState.FAIL, at=ago, cause=cause, overrides=["tracking.uri=postgresql://ann:s3cret@db"]
    )
    with View(study_notes(study).definition.aims, 20, console) as view:
        view.update(study.get_trials(), [])
    assert "ann:***@db" in output(console)
    assert "s3cret" not in output(console)
