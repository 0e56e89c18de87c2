"""What a sweep leaves: files, a line that names them, and an exit status."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from ccsweep.errors import UserError
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.trials import Completed, Failed, Reused, enqueue_points, tell
from ccsweep.sweep import conclusion
from ccsweep.sweep.plan import Plan
from ccsweep.tracking import Run
from tests.report.test_grid import report
from tests.sweep.conftest import AIM, Command

GRID = ["ranks=control,16-12", "training.seed=0,1"]


@pytest.fixture
def begun(command: Callable[..., Command]) -> Callable[..., tuple[Plan, Study]]:
    def begun(*overrides: str) -> tuple[Plan, Study]:
        read = command(*overrides)
        study = read.study()
        enqueue_points(study, read.plan.points)
        return read.plan, study

    return begun


def run(plan: Plan, study: Study, **changes: Any) -> FrozenTrial:
    """Run a trial to its end; what is changed in its report."""
    trial = study.ask()
    point = plan.space.suggest(trial)
    folder = plan.folder.new_trial(trial.number)
    note(
        trial,
        Notes(
            overrides=plan.space.overrides(point), ranks=point["ranks"], folder=f"trials/{folder.path.name}"
        ),
    )
    content = report(point["ranks"], point["training.seed"], 2.0 + trial.number) | changes
    folder.write_report(content)
    tell(trial, Completed(content), plan.rules)
    return study.get_trials()[trial.number]


def table(plan: Plan) -> dict[str, Any]:
    return json.loads(plan.folder.table_data.read_text())


def test_a_grid_leaves_its_table(
    begun: Callable[..., tuple[Plan, Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, study = begun(*GRID, "training.epochs=4")
    for _ in range(3):
        run(plan, study)
    failed = study.ask()
    note(failed, Notes(overrides=["ranks=16-12", "training.seed=1"], ranks="16-12"))
    tell(failed, Failed(Kind.TRIAL, "nothing was learned"), plan.rules)
    files = conclusion.write(plan, study)
    assert files == [plan.folder.table, plan.folder.table_data]
    capsys.readouterr()
    conclusion.say_what_is_next(plan, study, files)
    assert capsys.readouterr().out.splitlines() == [
        f"folder  {plan.folder.path} (table.md, table.json)",
        f"export  python -m ccsweep task=export sweep.name={plan.folder.path} pick=trial:0",
    ]
    runs = table(plan)["runs"]
    assert [found["overrides"] for found in runs] == [
        ["training.epochs=4", f"ranks={ranks}", f"training.seed={seed}"]
        for ranks in ("control", "16-12")
        for seed in (0, 1)
    ]
    assert [found["error"] for found in runs] == [None, None, None, "nothing was learned"]
    assert [row["test_error"] for row in table(plan)["rows"]] == [2.5, 4.0]


def test_a_point_that_was_tried_again_has_one_line(begun: Callable[..., tuple[Plan, Study]]) -> None:
    plan, study = begun(*GRID)
    lost = study.ask()
    note(lost, Notes(overrides=plan.space.overrides(plan.space.suggest(lost))))
    tell(lost, Failed(Kind.MACHINE, "MemoryError"), plan.rules)
    for _ in range(3):
        run(plan, study)
    conclusion.write(plan, study)
    assert len(table(plan)["runs"]) == 3  # the new try waits
    run(plan, study)
    conclusion.write(plan, study)
    runs = table(plan)["runs"]
    assert [found["error"] for found in runs] == [None] * 4
    assert runs[0]["overrides"] == ["ranks=control", "training.seed=0"]
    assert runs[0]["report"]["test_error"] == 6.0  # as the first of the points, though it ended last


def test_what_a_table_says_of_trials_without_a_report(begun: Callable[..., tuple[Plan, Study]]) -> None:
    plan, study = begun(*GRID)
    gone = run(plan, study)
    place = notes(gone).place(plan.folder)
    assert place is not None
    twin = run(plan, study)
    again = study.ask()
    plan.space.suggest(again)
    tell(again, Reused(twin), plan.rules)
    silent = study.ask()
    plan.space.suggest(silent)
    study.tell(silent, state=TrialState.FAIL)
    place.report.unlink()
    conclusion.write(plan, study)
    runs = table(plan)["runs"]
    assert [found["error"] for found in runs] == [
        f"{place.path} holds no report any more",
        None,
        None,
        "fail",
    ]
    assert runs[2]["report"]["test_error"] == 3.0
    # Of what was never noted, the point tells.
    assert [found["overrides"] for found in runs[2:]] == [
        ["ranks=16-12", "training.seed=0"],
        ["ranks=16-12", "training.seed=1"],
    ]


def test_a_grid_without_a_trial_leaves_nothing(
    begun: Callable[..., tuple[Plan, Study]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, study = begun(*GRID)
    conclusion.say_what_is_next(plan, study, conclusion.write(plan, study))
    assert capsys.readouterr().out == f"folder  {plan.folder.path} ()\n"


@pytest.mark.parametrize("masked", [False, True])
def test_rows_that_were_trained_are_drawn(
    masked: bool, begun: Callable[..., tuple[Plan, Study]], uri: str, folder: Path
) -> None:
    plan, study = begun(*GRID, f"tracking.uri={uri}")
    for number in range(4):
        settings: dict[str, Any] = {"experiment": "tests", "name": "0", "params": {}, "tags": {}}
        with Run.start(uri, folder=folder / str(number), system_metrics=False, **settings) as logged:
            logged.log_metrics({"validation/error": 5.0}, 1)
            logged.log_metrics({"validation/error": 3.0}, 2)
        run(plan, study, run_id=logged.id, epochs=2)
    shown = "postgresql://ann:***@db/runs" if masked else uri
    (plan.folder.path / "run.json").write_text(json.dumps({"run_id": logged.id, "uri": shown}))
    files = conclusion.write(plan, study)
    assert files == [plan.folder.table, plan.folder.table_data, plan.folder.rows]
    assert plan.folder.rows.read_bytes().startswith(b"\x89PNG")


def test_a_study_has_notes_in_its_dashboard(begun: Callable[..., tuple[Plan, Study]]) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    plan, study = begun(AIM, "training.l1=0,1", "sweep.sampler=grid")
    for value in (2.0, 1.0):
        trial = study.ask()
        note(trial, Notes(overrides=[f"training.l1={value}", "sweep.storage=postgresql://ann:s3cret@db/x"]))
        study.tell(trial, value)
    conclusion.say_what_is_next(plan, study, [])
    assert "    export  python -m ccsweep task=export" in dashboard.get_note(study)
    notes_of = [_dashboard_note(study, trial) for trial in study.get_trials()]
    assert notes_of == [
        "",
        "The knee of the front: `training.l1=1.0 sweep.storage=postgresql://ann:***@db/x`",
    ]
    before = study._storage.get_study_system_attrs(study._study_id)
    conclusion.say_what_is_next(plan, study, [])
    assert study._storage.get_study_system_attrs(study._study_id) == before


def _dashboard_note(study: Study, trial: FrozenTrial) -> str:
    from optuna_dashboard import get_note

    return str(get_note(SimpleNamespace(storage=study._storage, study=study, _trial_id=trial._trial_id)))


def test_a_page_that_cannot_be_written_is_an_error(begun: Callable[..., tuple[Plan, Study]]) -> None:
    plan, study = begun(AIM, "training.l1=0,1", "sweep.sampler=grid")
    study.tell(study.ask(), 1.0)
    plan.folder.page.mkdir()
    with pytest.raises(UserError) as raised:
        conclusion.write(plan, study)
    said = str(raised.value)
    assert said.startswith(f"{plan.folder.page}: could not be written (")
    assert said.endswith("); the trials stand: mend it, then give the same command again")


def test_what_failed_is_said_as_an_exit_status_says_it(
    begun: Callable[..., tuple[Plan, Study]], caplog: pytest.LogCaptureFixture
) -> None:
    plan, study = begun(*GRID)
    first = run(plan, study)
    conclusion.judge(plan, study.get_trials())
    again = study.ask()
    tell(again, Reused(first), plan.rules)
    failed = study.ask()
    note(failed, Notes(overrides=["ranks=16-12", "training.seed=0"]))
    tell(failed, Failed(Kind.TRIAL, "nothing was learned"), plan.rules)
    with pytest.raises(UserError) as caught:
        conclusion.judge(plan, study.get_trials())
    assert str(caught.value) == "1 of 3 runs failed; see above"
    assert caplog.messages == ["failed: ranks=16-12 training.seed=0: nothing was learned"]


def test_a_study_fails_only_as_a_whole(begun: Callable[..., tuple[Plan, Study]]) -> None:
    plan, study = begun(AIM, "training.l1=0,1,2", "sweep.sampler=grid")
    tell(study.ask(), Failed(Kind.TRIAL, "nothing was learned"), plan.rules)
    with pytest.raises(UserError) as caught:
        conclusion.judge(plan, study.get_trials())
    assert str(caught.value) == "1 of 1 runs failed; see above"
    study.tell(study.ask(), 1.0)
    conclusion.judge(plan, study.get_trials())
