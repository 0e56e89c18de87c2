"""The view on a terminal, which rich plays, and on a file."""

import io
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from rich.cells import cell_len
from rich.console import Console

from ccsweep.report.study.live import View, line, render
from ccsweep.report.study.standing import standing
from ccsweep.study.notes import study_notes
from tests.report.study import studies

NOW = studies.BEGAN + timedelta(seconds=480)

AT_WORK = [{"id": "w0", "trial": None}]


def plain() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 12), (20, 6), (10, 3)])
def test_the_table_fits_every_terminal(width: int, height: int, study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render(now, width, height, AT_WORK))
    lines = output(console).splitlines()
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("15 of 20 trials"[: width - 1])


def test_the_whole_table(study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    table = render(now, 120, 40, AT_WORK)
    assert table.plain.splitlines() == [
        "15 of 20 trials done, 1 running, 2 failed, 1 pruned, 1 reused, 1 retried, 1 stopped",
        "━" * 60,
        "52 s a trial, 2.3 a minute with 2 workers, about 1 min 55 s left",
        "trial 18  30 s  estimator=svd ranks.layers.0=34 training.l1=2.154e-05",
        "",
        "front: 4 trials; the knee is trial 7",
        "trial  validation_error ↓  measured_speedup_batch1 ↑  ranks  run       settings",
        "    4                1.40                       1.20  24     04ababab  estimator=svd ranks.layers.0=24 training.l1=2.15…",
        "    1                1.60                       3.00  9      01ababab  estimator=whitened ranks.layers.0=9 training.l1=…",
        "    7                2.00                       4.20  39     07ababab  estimator=whitened ranks.layers.0=39 training.l1…",
        "    9                3.00                       4.50  49     09ababab  estimator=whitened ranks.layers.0=49 training.l1…",
        "failed 1x: validation_error is nan",
        "failed 1x: worker died: killed, or its process exited",
    ]
    styled = [(str(span.style), table.plain[span.start : span.end]) for span in table.spans]
    assert ("bright_black", "━" * 15) in styled  # a quarter is missing
    assert [(style, text.split()[0]) for style, text in styled if "━" not in text] == [
        ("bold", "15"),
        ("dim", "52"),
        ("cyan", "trial"),
        ("dim", "trial"),
        ("bold", "7"),  # the knee
        ("red", "failed"),
        ("red", "failed"),
    ]


def test_in_little_room_the_front_gives_way(study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    lines = render(now, 80, 12, AT_WORK).plain.splitlines()
    assert len(lines) == 12
    assert lines[5] == "front: 4 trials, 3 shown; the knee is trial 7"
    assert [row.split()[0] for row in lines[7:10]] == ["1", "7", "9"]  # around the knee
    assert render(now, 80, 10, AT_WORK).plain.splitlines()[7].split()[0] == "7"
    assert render(now, 60, 9).plain.splitlines() == [
        "15 of 20 trials done, 1 running, 2 failed, 1 pruned, 1 reus…",
        "━" * 60,
        "52 s a trial",
        "trial 18  30 s  estimator=svd ranks.layers.0=34 training.l1…",
        "failed 1x: validation_error is nan",
        "failed 1x: worker died: killed, or its process exited",
    ]


def test_those_that_run_say_how_far_they_are(study: optuna.Study) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    leases = [{"id": "w0", "trial": 18, "epoch": [3, 4.444]}, {"id": "w1", "trial": None, "epoch": None}]
    assert render(now, 80, 40, leases).plain.splitlines()[3] == (
        "trial 18  30 s, epoch 3: 4.44 %  estimator=svd ranks.layers.0=34 training.l1=2.…"
    )


def test_some_of_those_that_run_are_always_shown(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for at in (0, 470, 480):
        studies.add(study, TrialState.RUNNING, at=at)
    now = standing(study.get_trials(), studies.OBJECTIVES, None, 3, NOW)
    lines = render(now, 80, 40, AT_WORK).plain.splitlines()
    assert lines[:2] == ["0 trials done, 3 running", "no trial has finished yet"]
    assert [row[:14] for row in lines[2:]] == ["trial 0  8 min", "trial 1   10 s", "trial 2    0 s"]
    assert len(render(now, 80, 9, AT_WORK).plain.splitlines()) == 4
    assert len(render(now, 80, 3, AT_WORK).plain.splitlines()) == 3


def test_what_becomes_of_a_trial_in_one_line(study: optuna.Study) -> None:
    trials = study.get_trials()
    lines = {t.number: line(t, studies.OBJECTIVES) for t in trials if t.state.is_finished()}
    assert lines[10].endswith(
        "  validation_error 1.30  measured_speedup_batch1 5.00  breaks a constraint  1 min"
    )
    assert lines[12].endswith(
        "  validation_error 1.40  measured_speedup_batch1 1.20  as trial 4, not run again"
    )
    assert lines[13].endswith("  pruned: beaten by 2 trials at epoch 3  20 s")
    assert lines[14].endswith("  failed: validation_error is nan  30 s")
    assert lines[17].endswith("  stopped: stopped  9 s")
    studies.add(study, TrialState.FAIL, seconds=8, kind="machine", cause="its time was up", excused=True)
    assert line(study.get_trials()[-1], studies.OBJECTIVES).endswith("  handed back: its time was up  8 s")


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


@pytest.mark.parametrize(("workers", "left"), [([{"id": "w0"}], ", about "), ([], "")])
def test_a_terminal_is_filled_but_for_its_last_line(
    workers: list[dict[str, str]], left: str, study: optuna.Study
) -> None:
    console = Console(file=io.StringIO(), width=80, height=12, force_terminal=True, color_system=None)
    with View(study_notes(study).definition.aims, 20, console) as view:
        view.update(study.get_trials(), workers, NOW.timestamp())
        lines = [text.rstrip() for text in output(console).splitlines()]
    assert len(lines) == 11
    assert lines[-1].endswith("failed 1x: worker died: killed, or its process exited")
    assert (", about " in lines[2]) == bool(left)


def test_settings_with_brackets_are_no_markup(tmp_path: Path) -> None:
    study, console = studies.create(tmp_path / "s"), plain()
    with View(study_notes(study).definition.aims, 20, console) as view:
        studies.add(
            study, TrialState.FAIL, at=1e9, overrides=["ranks.layers=[bold]"], cause="[red]x[/]", params={}
        )
        view.update(study.get_trials(), [])
    assert output(console).startswith("trial 0  ranks.layers=[bold]  failed: [red]x[/]  1 min")


def test_a_grid_has_a_best_instead_of_a_front(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "grid", objectives={})
    for error in (2.0, 1.5, 1.75):
        studies.add(study, TrialState.COMPLETE, (error,))
    objectives = {"validation_error": "minimize"}
    text = render(standing(study.get_trials(), objectives, 3, 1, NOW), 100, 30, AT_WORK).plain
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
