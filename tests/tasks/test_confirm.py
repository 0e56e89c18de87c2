"""A front confirmed, for real: killed in the middle and given again, nothing is computed twice."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from ccsweep.study.folder import StudyFolder
from ccsweep.tasks.confirm import CONTROL, Point, _Grid
from tests.conftest import User
from tests.report.study import studies

POINTS = (
    "estimator=svd",
    "sweep.n_trials=2",
    "training.epochs=1",
    "sweep.workers=1",
    "tracking.system_metrics=false",
)


@pytest.mark.slow
def test_confirming_goes_on_after_a_kill_and_computes_nothing_twice(user: User) -> None:
    study = user.run("-m", "+sweeps=digits_pareto", *POINTS, timeout=1500)
    assert study.returncode == 0, study.stderr
    folder = user.folder / "outputs" / "sweeps" / "digits_pareto"
    command = ("task=confirm", "sweep.name=digits_pareto", "pick=trial:0", "seeds=2", "sweep.workers=1")
    with user.start(*command, start_new_session=True) as process:
        until = time.monotonic() + 300
        while not (done := sorted(folder.glob("confirm/*/trials/*/report.json"))):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in done}
    again = user.run(*command, timeout=1500)
    assert again.returncode == 0, again.stderr
    reports = sorted(folder.glob("confirm/*/trials/*/report.json"))
    assert {path: path.stat().st_mtime_ns for path in done} == before
    assert len(reports) == 4  # the trial and the control, with two seeds each
    found = json.loads((folder / "confirmed.json").read_text())
    assert sorted(json.loads(path.read_text())["seed"] for path in reports) == sorted(found["seeds"] * 2)
    assert (folder / "confirmed.png").read_bytes().startswith(b"\x89PNG")
    trial, control = found["points"].values()
    assert trial["test_error"]["low"] <= trial["test_error"]["mean"] <= trial["test_error"]["high"]
    assert control["test_error_minus_control"]["mean"] == 0
    assert control["mcnemar"] == {"only_first": 0, "only_second": 0, "p": 1.0}
    assert max(point["front_probability"] for point in found["points"].values()) > 0
    runs = [
        run
        for run in user.runs()
        if run.data.tags.get("mlflow.runName") == f"sweep {reports[0].parents[2].name}"
    ]
    (parent,) = [run for run in user.runs() if run.data.tags.get("mlflow.runName") == "sweep digits_pareto"]
    assert [run.data.tags["mlflow.parentRunId"] for run in runs] == [parent.info.run_id]


def test_a_control_that_is_the_whole_front_is_found_again(tmp_path: Path) -> None:
    """One point is no sweep over points: its trials' own overrides do not name it."""
    study = studies.create(tmp_path / "study")
    grid = _Grid(StudyFolder(tmp_path / "study"), study, [Point(CONTROL, None)], 2)
    trained = studies.create(grid.folder.path, objectives={})
    for seed in grid.seeds:
        folder = grid.folder.trial(str(seed - 1))
        folder.write_report({})
        own = {"overrides": [f"training.seed={seed}"], "folder": str(folder.path)}
        studies.add(trained, TrialState.COMPLETE, [2.0], **own)
    assert grid.folders() == {(CONTROL, seed): grid.folder.trial(str(seed - 1)) for seed in (1, 2)}


@pytest.mark.slow
def test_a_study_that_trains_nothing_is_refused(user: User) -> None:
    trained = user.run("training.epochs=1", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    swept = (
        "-m",
        "task=evaluate",
        "run=run",
        "ranks.layers=[8,8]",
        "+sweep.objectives.validation_error=minimize",
    )
    study = user.run(
        *swept, "estimator.threshold=interval(0,1)", "sweep.n_trials=1", "sweep.name=again", timeout=400
    )
    assert study.returncode == 0, study.stderr
    done = user.run("task=confirm", "sweep.name=again")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "ccsweep: sweep.name=again: the study evaluates one trained network, so there is nothing to train with "
        "fresh seeds; expected a study of task=train"
    )
