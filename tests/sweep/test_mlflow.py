"""The study's run in a real store: what it holds, and how it ends whatever happens."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna import Study
from optuna.trial import TrialState

from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import StudyNotes, note_study, study_notes
from ccsweep.sweep.mlflow import Tracker, agree, settle_run
from ccsweep.tracking import Run, open_parent
from tests.report.study import studies
from tests.report.study.studies import OBJECTIVES


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "digits")


@pytest.fixture
def study(folder: StudyFolder) -> Study:
    return studies.create(folder.path)


def curve(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_the_best_and_the_hypervolume_after_each_trial_that_counts(
    study: Study, folder: StudyFolder, uri: str, client: MlflowClient
) -> None:
    parent = open_parent(uri, "tests", folder.path)
    tracker = Tracker(study, folder, OBJECTIVES, uri)
    for at, values in enumerate([(3.0, 1.0), (2.0, 2.0)]):
        studies.add(study, TrialState.COMPLETE, values, at=at)
    tracker.update(study.get_trials())
    known = study_notes(study)
    assert (known.parent, known.uri) == (parent, uri)
    studies.add(study, TrialState.FAIL, at=2, kind="trial")
    studies.add(study, TrialState.COMPLETE, (4.0, 4.0), at=3)
    (folder.path / "report.html").write_text("a page")
    tracker.finish([folder.page], "FINISHED")
    assert curve(client, parent, "best/validation_error") == [(1, 3.0), (2, 2.0), (3, 2.0)]
    assert curve(client, parent, "best/measured_speedup_batch1") == [(1, 1.0), (2, 2.0), (3, 4.0)]
    # From the worst of all, an error of 4 and a speed-up of 1.
    assert curve(client, parent, "hypervolume") == [(1, 0.0), (2, 2.0), (3, 2.0)]
    assert study_notes(study).logged == 3
    assert client.get_run(parent).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(parent)] == ["report.html"]
    # Going on: nothing is logged twice, and a worse trial of now changes nothing of before.
    again = Tracker(study, folder, OBJECTIVES, None)
    again.update(study.get_trials())
    studies.add(study, TrialState.COMPLETE, (5.0, 0.0), at=4)
    again.finish([], "KILLED")
    assert curve(client, parent, "best/validation_error") == [(1, 3.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    assert [step for step, _ in curve(client, parent, "hypervolume")] == [1, 2, 3, 4]
    assert client.get_run(parent).info.status == "KILLED"


def test_a_study_whose_trials_are_not_tracked_has_no_run(study: Study, folder: StudyFolder, uri: str) -> None:
    studies.add(study, TrialState.COMPLETE, (3.0, 1.0))
    tracker = Tracker(study, folder, OBJECTIVES, uri)
    tracker.update(study.get_trials())
    tracker.finish([folder.page], "FINISHED")
    assert (study_notes(study).parent, study_notes(study).logged) == (None, 0)


def test_a_store_that_fails_ends_no_study(
    study: Study, folder: StudyFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "broken.db"
    store.write_text("no database " * 1000)
    content = {"run_id": "ab" * 16, "uri": f"sqlite:///{store}"}
    (folder.path / "run.json").write_text(json.dumps(content))
    studies.add(study, TrialState.COMPLETE, (3.0, 1.0))
    tracker = Tracker(study, folder, OBJECTIVES, None)
    tracker.update(study.get_trials())
    tracker.finish([folder.page], "FINISHED")
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        "the parent run",
        "the parent run",
        "the parent run was not ended",
    ]
    assert study_notes(study).logged == 0


def start(folder: TrialFolder, uri: str, parent: str | None = None) -> Run:
    settings: dict[str, Any] = {"experiment": "tests", "name": "0", "params": {}, "tags": {}}
    return Run.start(uri, folder=folder.path, parent_id=parent, system_metrics=False, **settings)


def test_the_run_of_a_worker_that_could_not_tell(
    tmp_path: Path, uri: str, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    folder = TrialFolder(tmp_path / "trials" / "0")
    settle_run(folder, uri)  # there is none
    run = start(folder, uri)
    assert client.get_run(run.id).info.status == "RUNNING"
    settle_run(folder, "sqlite:////somewhere/else.db")  # the folder knows better
    assert client.get_run(run.id).info.status == "KILLED"
    # A store with a password is named by the command again; the folder has it masked.
    content = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps(content | {"uri": "postgresql://ann:***@db/runs"}))
    client.update_run(run.id, status="RUNNING")
    settle_run(folder, uri)
    assert client.get_run(run.id).info.status == "KILLED"
    folder.write_report({"validation_error": 2.0})  # it got that far, and was killed before its run ended
    client.set_tag(run.id, "ccsweep.error", "of the kill")
    settle_run(folder, uri)
    assert client.get_run(run.id).info.status == "FINISHED"
    assert "ccsweep.error" not in client.get_run(run.id).data.tags
    assert caplog.messages == []
    (folder.path / "run.json").write_text(json.dumps(content | {"run_id": "ab" * 16}))
    settle_run(folder, uri)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"run {'ab' * 16}: not ended: run: {'ab' * 16} is no run folder")


def test_runs_come_to_agree_with_the_trials(
    study: Study, folder: StudyFolder, uri: str, client: MlflowClient
) -> None:
    parent = open_parent(uri, "tests", folder.path)
    studies.add(study, TrialState.COMPLETE, [1.0, 2.0])
    studies.add(study, TrialState.PRUNED)
    studies.add(study, TrialState.FAIL)
    left = {  # by whoever was killed between the two accounts
        "0": ("KILLED", "FINISHED"),
        "1": ("KILLED", "KILLED"),
        "2": ("FAILED", "FAILED"),
        "2-2": ("RUNNING", "KILLED"),  # began before its trial had a folder to its name
    }
    runs = {}
    for name, (status, _) in left.items():
        runs[name] = start(folder.trial(name), uri, parent).id
        client.update_run(runs[name], status=status)
    agree(study, folder, uri)
    found = {name: client.get_run(run_id).info.status for name, run_id in runs.items()}
    assert found == {name: status for name, (_, status) in left.items()}


def test_runs_come_to_have_the_figures_of_the_study(
    study: Study, folder: StudyFolder, uri: str, client: MlflowClient
) -> None:
    """MLflow sorts as the study does: by speeds as they are alone, not as they were measured in between."""
    parent = open_parent(uri, "tests", folder.path)
    speeds = [4.0, 3.0, 5.12, 1.0]
    for number, speed in enumerate(speeds):
        studies.add(study, TrialState.COMPLETE, [1.0 + number, speed])
        run = start(folder.trial(str(number)), uri, parent)
        run.log_metrics({"validation_error": 1.0 + number, "measured_speedup_batch1": speed}, step=0)
        run.end("FINISHED")
    alone = {"0": [1.0, 0.9, 1.1], "1": [3.0, 2.9, 3.1]}
    note_study(study, StudyNotes(alone={n: {"measured_speedup_batch1": v} for n, v in alone.items()}))
    agree(study, folder, uri)
    order = ["metrics.measured_speedup_batch1 DESC"]
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "tests"]
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    found = client.search_runs([experiment], query, order_by=order)
    known = {
        Path(run.data.tags["ccsweep.folder"]).name: (
            run.data.metrics["measured_speedup_batch1"],
            run.data.metrics["measured_speedup_batch1_in_study"],
            run.data.tags["front"],
            run.data.tags["knee"],
        )
        for run in found
    }
    # The last two were not timed again: they are taken down by the median of what the others lost.
    assert list(known.items()) == [
        ("2", (5.12 * 0.625, 5.12, "yes", "no")),
        ("1", (3.0, 3.0, "yes", "yes")),
        ("0", (1.0, 4.0, "yes", "no")),
        ("3", (0.625, 1.0, "no", "no")),
    ]
    by_study = sorted(trials_of(study), key=lambda trial: -trial.values[1])
    assert [str(trial.number) for trial in by_study] == list(known)
    told = client.get_run(found[0].info.run_id).info.status
    agree(study, folder, uri)  # nothing is left to be said
    histories = [client.get_metric_history(run.info.run_id, "measured_speedup_batch1") for run in found]
    assert (told, [len(history) for history in histories]) == ("FINISHED", [2, 1, 2, 2])
