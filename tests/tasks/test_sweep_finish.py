"""A search's trial leaves little; what is on the front at its end gets the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna import Study

from ccsweep.engine import benchmark
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import StudyNotes, note_study, study_notes
from ccsweep.tracking.provenance import cpu_model
from tests.tasks.conftest import Place

pytestmark = pytest.mark.slow
SPEED = "measured_speedup_batch1"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def artifacts(place: Place, report: dict[str, Any]) -> set[str]:
    return {artifact.path for artifact in place.client.list_artifacts(report["run_id"])}


def test_a_trial_leaves_its_report_its_checkpoint_and_its_metrics(
    place: Place, searched: tuple[StudyFolder, Study, list[dict[str, Any]]]
) -> None:
    folder, _, reports = searched
    assert names(folder.trial("0").path) == {
        *(".lock", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "data.json"),
        *("overrides.yaml", "report.json", "run.json", "run.log"),
    }
    assert artifacts(place, reports[0]) == set()
    run = place.client.get_run(reports[0]["run_id"])
    environment = folder.path / run.data.tags["ccsweep.environment"]
    assert environment.parent == folder.environments
    assert json.loads(environment.read_text())["packages"]["torch"]
    assert run.data.metrics["validation/error"] == pytest.approx(reports[0]["validation_error"])
    assert run.data.metrics[SPEED] == reports[0][SPEED]
    assert "measured_speedup_batch256" not in reports[0]  # the study does not aim at it
    assert reports[0]["timing_load"] >= 0


def test_the_front_is_timed_alone_and_made_whole(
    place: Place,
    searched: tuple[StudyFolder, Study, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, study, reports = searched
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.0)
    cpu = cpu_model()
    # It is on no front.
    note_study(study, StudyNotes(alone={"1": {SPEED: [0.1, 0.1, 0.1]}}, alone_on={"1": cpu}))
    found = place.run("finish", "task=sweep_finish", f"sweep.name={folder.path}")
    assert (found["timed"], found["made_whole"]) == ([0], [0])
    speed, low, high = study_notes(study).alone["0"][SPEED]
    assert 0 < low <= speed <= high
    report = folder.trial("0").read_report()
    assert report is not None
    assert study_notes(study).alone_on == {"0": report["cpu"], "1": cpu}
    assert (report[SPEED], report[f"{SPEED}_in_study"]) == (speed, reports[0][SPEED])
    assert report["measured_speedup_batch256"] > 0
    whole = {"checkpoints", "config.yaml", "environment.json", "figures.png", "overrides.yaml", "report.json"}
    assert whole <= artifacts(place, reports[0])
    run = place.client.get_run(reports[0]["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics[f"{SPEED}_in_study"] == reports[0][SPEED]
    assert run.outputs.model_outputs
    assert artifacts(place, reports[1]) == set()
    with pytest.raises(UserError) as caught:
        place.run("elsewhere", "task=sweep_finish", f"sweep.name={folder.path}", "sweep.timing_on=Z80")
    assert str(caught.value) == (f"sweep.timing_on=Z80: this machine has {cpu}; expected one with such a CPU")
    note_study(study, StudyNotes(timing_on=cpu))
    again = place.run("again", "task=sweep_finish", f"sweep.name={folder.path}")
    assert (again["timed"], again["made_whole"]) == ([], [])
