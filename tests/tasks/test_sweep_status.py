"""The status of studies that lie in a folder, as a person in that folder asks for it."""

import csv
import json
import time
from pathlib import Path

import optuna
import pytest

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import Notes, StudyNotes, note, note_study
from ccsweep.study.storage import create
from ccsweep.sweep.lease import Lease, at_work
from ccsweep.tasks.sweep_status import sweep_status
from tests.report.study import studies


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    monkeypatch.chdir(tmp_path)
    return studies.typical(tmp_path / "outputs" / "sweeps" / "digits_pareto")


def asked(name: str, *more: str) -> dict[str, object]:
    config = check(composed(["task=sweep_status", f"sweep.name={name}", *more]))
    return sweep_status(config, TrialFolder(Path("outputs", "now")), [])


def test_a_study_that_nobody_works_on(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked("digits_pareto")
    keys = ("done", "target", "failed", "pruned", "reused", "running", "workers", "seconds_left", "front")
    assert [found[key] for key in keys] == [15, 20, 2, 1, 1, 1, 0, None, [4, 1, 7, 9]]
    text = capsys.readouterr().out
    assert "trial 16 failed: worker died: killed, or its process exited" in text
    assert "nobody is at work on 1 trials that were begun; the command below mends that" in text
    assert "not running; go on with: python -m ccsweep -m +sweeps=digits_pareto" in text


def test_a_study_at_work_and_by_its_path(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path("outputs", "sweeps", "digits_pareto")
    (place / "workers").mkdir()
    lease = Lease(place / "workers" / "w0.json", "w0")
    found = asked("outputs/sweeps/digits_pareto")
    assert (found["workers"], found["seconds_left"] is not None) == (1, True)
    assert "at work: w0" in capsys.readouterr().out
    lease.release(ended="done")
    assert at_work(StudyFolder(place)) == []


def test_a_study_that_is_swept_on_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is not seen from here, only its storage."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/studies.db"
    study = create(StudyFolder(Path("far")), url, {"validation_error": "minimize"})
    held = {"id": "s", "host": "login1", "beat": 3, "ended": False, "seen": time.time()}
    note_study(study, StudyNotes(folder="/far/away", host="login1", n_trials=9, sweeper=held))
    asked("far", f"sweep.storage={url}")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "at work: a sweeper on login1",
        "folder  /far/away on login1",
    ]
    note(study.ask(), Notes(worker="w3"))
    found = asked("far", f"sweep.storage={url}", "format=json")
    assert (found["running"], found["workers"]) == (1, 1)
    note_study(study, StudyNotes(sweeper={**held, "seen": time.time() - 100}))
    capsys.readouterr()
    asked("far", f"sweep.storage={url}")
    assert "nobody is at work on 1 trials that were begun" in capsys.readouterr().out


def test_json_for_programs(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked("digits_pareto", "format=json")
    said = json.loads(capsys.readouterr().out)
    trials = said.pop("trials")
    assert said == found
    assert [trial["trial"] for trial in trials] == list(range(19))
    assert trials[7] == {
        "trial": 7,
        "state": "complete",
        "front": True,
        "validation_error": 2.0,
        "measured_speedup_batch1": 4.2,
        "false_off": 0.1,
        "density": 0.3,
        "seed": 0,
        "seconds": 60,
        "estimator": "whitened",
        "ranks.layers.0": 39,
        "training.l1": 1e-6,
        "ranks": "39",
        "run": "07" + "ab" * 15,
        "folder": f"{study.user_attrs['folder']}/trials/7",
        "cause": None,
    }
    assert [t["trial"] for t in trials if t["front"]] == [1, 4, 7, 9]
    assert (trials[12]["state"], trials[13]["state"], trials[14]["cause"]) == (
        "reused",
        "pruned",
        "validation_error is nan",
    )


def test_csv_for_programs(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    asked("digits_pareto", "format=csv")
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(table) == 19
    assert (table[7]["ranks.layers.0"], table[7]["validation_error"], table[7]["front"]) == (
        "39",
        "2.0",
        "True",
    )
    assert table[18]["validation_error"] == ""  # it runs


def test_another_format(study: optuna.Study) -> None:
    with pytest.raises(UserError) as caught:
        asked("digits_pareto", "format=xml")
    assert str(caught.value) == "format=xml: expected one of json, csv"


def test_a_study_that_does_not_exist(study: optuna.Study) -> None:
    with pytest.raises(UserError) as caught:
        asked("digits")
    text = str(caught.value)
    assert text.startswith("sweep.name=digits: ")
    assert "digits_pareto" in text
    assert "\n" not in text
