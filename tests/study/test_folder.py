"""Where everything of a study and of a run lies."""

import json
from pathlib import Path

import pytest

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder, TrialFolder, study_folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("settings", "config.yaml"),
        ("overrides", "overrides.yaml"),
        ("data", "data.json"),
        ("report", "report.json"),
        ("record", "trial.json"),
        ("environment", "environment.json"),
        ("figures", "figures.png"),
        ("benchmark", "benchmark.json"),
        ("log", "run.log"),
        ("lock", ".lock"),
    ],
)
def test_files_of_a_run(file: str, name: str, tmp_path: Path) -> None:
    assert getattr(TrialFolder(tmp_path), file) == tmp_path / name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("journal", "study.journal"),
        ("definition", "study.json"),
        ("sweeper", "sweeper.json"),
        ("sweeper_lock", ".sweeper.lock"),
        ("claim_lock", ".claim.lock"),
        ("submitit", "submitit"),
        ("workers", "workers"),
        ("table", "table.md"),
        ("table_data", "table.json"),
        ("rows", "rows.png"),
        ("page", "report.html"),
        ("picture", "front.png"),
    ],
)
def test_files_of_a_study(file: str, name: str, tmp_path: Path) -> None:
    assert getattr(StudyFolder(tmp_path), file) == tmp_path / name


def test_a_report_is_written_whole_and_read_back(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials" / "0")
    assert folder.read_report() is None
    assert folder.write_report({"test_error": 1.5, "where": Path("/x")}) == folder.report
    assert folder.write_report({"test_error": 1.25, "where": Path("/x")}) == folder.report
    assert folder.report.read_text() == '{\n  "test_error": 1.25,\n  "where": "/x"\n}\n'
    assert folder.read_report() == {"test_error": 1.25, "where": "/x"}
    assert list(folder.path.iterdir()) == [folder.report]


@pytest.mark.parametrize("content", ["", '{"test_error": ', "[1, 2]", "null"])
def test_what_is_no_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    assert TrialFolder(tmp_path).read_report() is None


def test_leases_of_workers_and_nothing_else(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "digits")
    assert folder.name == "digits"
    assert folder.leases() == []
    folder.workers.mkdir(parents=True)
    for name in ("w1.json", "w0.json", "w0.log", "other.json"):
        (folder.workers / name).touch()
    assert folder.leases() == [folder.lease("w0"), folder.lease("w1")]
    assert folder.lease("w1") == tmp_path / "digits" / "workers" / "w1.json"


def test_a_trial_gets_a_folder_that_no_other_one_had(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.trials() == []
    for expected in ("3", "3-2", "3-3"):
        place = folder.new_trial(3)
        assert place == TrialFolder(tmp_path / "trials" / expected)
        place.path.mkdir(parents=True)
        assert folder.new_trial(3) == place  # nothing was written into it, yet
        place.log.touch()
    assert folder.new_trial(4).path == tmp_path / "trials" / "4"
    assert folder.trials() == [TrialFolder(tmp_path / "trials" / name) for name in ("3", "3-2", "3-3")]


def test_the_study_that_a_command_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = check(composed([]))
    monkeypatch.chdir(tmp_path)

    def named(name: str | None) -> Path:
        config.sweep.name = name
        return study_folder(config).path

    assert named("digits") == Path("outputs/sweeps/digits")
    assert named("/data/digits") == Path("/data/digits")
    with pytest.raises(UserError) as caught:
        named(None)
    assert str(caught.value) == "sweep.name=null: expected the name of a study, or its folder"
    for name in ("svhn", "digits"):
        (tmp_path / "outputs/sweeps" / name).mkdir(parents=True)
    (tmp_path / "outputs/sweeps/file").write_text(json.dumps("no study"))
    with pytest.raises(UserError) as caught:
        named(None)
    shown = "in outputs/sweeps there are digits, svhn"
    assert str(caught.value) == f"sweep.name=null: expected the name of a study, or its folder; {shown}"
