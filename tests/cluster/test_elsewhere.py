"""What a study came to, taken up on a machine that reaches the storage and the MLflow server, and has no folder."""

import json
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import notes, study_notes
from ccsweep.sweep import lease
from tests.cluster.conftest import Lab

SMALL = ("architecture.hidden=[16]", "training.epochs=1", "tracking.system_metrics=false")
SEARCH = (
    "ranks.layers=[4]",
    "training.l1=interval(0,1e-3)",
    "+sweep.objectives.validation_error=minimize",
    "sweep.sampler=random",
    "sweep.n_trials=2",
)
PROFILE = """\
# @package _global_
sweep: {{cluster: slurm, workers: 1, storage: "{}", slurm: {{cpus_per_task: 1}}}}
tracking: {{uri: "{}", system_metrics: false}}
"""


def test_results_are_taken_up_without_the_folder(lab: Lab) -> None:
    """Also where it is a profile that says where trials run and are kept."""
    profile, here = lab.folder / "profiles" / "cluster" / "lab.yaml", lab.folder / "here"
    profile.parent.mkdir(parents=True)
    profile.write_text(PROFILE.format(lab.services.database, lab.services.tracking))
    here.mkdir()
    lab.environment["XDG_CACHE_HOME"] = str(here / "cache")

    def run(*words: str) -> str:
        command = [
            sys.executable,
            "-m",
            "ccsweep",
            "--config-dir",
            str(profile.parents[1]),
            *words,
            "cluster=lab",
        ]
        done = subprocess.run(command, cwd=here, env=lab.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    status, out = lab.run(*SMALL, *SEARCH, command="ccsweep.app")
    assert status == 0, out
    (best,) = lab.stored().best_trials
    named = f"sweep.name={lab.name}"
    run("task=export", f"sweep.name={lab.study.path}", "to=there/point")
    lab.study.path.rename(lab.folder / "away")

    assert f"folder  {lab.study.path} on " in run("task=sweep_status", named)
    run("task=export", named, "to=here/point")
    there, point = (here / place / "point.yaml" for place in ("there", "here"))
    assert point.read_text().partition("\ndefaults:")[2:] == there.read_text().partition("\ndefaults:")[2:]
    run("task=evaluate", f"run={notes(best).run_id}", "test=true", "hydra.run.dir=again")
    again = TrialFolder(here / "again").read_report()
    assert again is not None
    assert again["validation_error"] == best.values[0]
    assert "test_error" in again

    said = run("task=confirm", named, f"pick=trial:{best.number}", "seeds=2")
    assert f"{lab.name}, confirmed with seeds 1, 2" in said
    kept = StudyFolder(here / "outputs" / "sweeps" / lab.name)
    (grid,) = map(StudyFolder, kept.confirmations.iterdir())
    assert {lease.read(path)["host"] for path in grid.leases()} <= {"n1", "n2"}
    client, parent = MlflowClient(lab.services.tracking), study_notes(lab.stored()).parent
    logged = Path(client.download_artifacts(parent, kept.confirmed.name, str(here)))
    assert json.loads(logged.read_text()) == kept.read_confirmed()
    of_grid = json.loads((grid.path / "run.json").read_text())["run_id"]
    assert client.get_run(of_grid).data.tags["mlflow.parentRunId"] == parent
