"""What commit 7335a4b wrote is still opened, gone on with and exported: runs, studies and their MLflow store.

``outputs.tar.xz`` was made by that commit, in /tmp/made-before, on the embedded digits:

    S="architecture.hidden=[24,16] tracking.system_metrics=false"
    python -m ccsweep $S 'ranks.layers=[8,6]' training.epochs=2 hydra.run.dir=outputs/run
    python -m ccsweep -m +sweeps=digits_pareto $S 'sweep.space=...' 'sweep.points=[]' training.epochs=2 \
        sweep.n_trials=3 sweep.workers=1
    python -m ccsweep -m $S ranks=control,16-12 training.epochs=1 sweep.name=grid

Pictures, pages and lock files were left out. Paths in it are moved to where the test runs.
"""

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from tests.conftest import User

MADE_IN = "/tmp/made-before"
ARCHIVE = Path(__file__).with_name("outputs.tar.xz")
SETTINGS = ["architecture.hidden=[24,16]", "tracking.system_metrics=false"]
SPACE = (
    'sweep.space={estimator:"choice(svd,whitened)",estimator.placement:"choice(all,first)",'
    'ranks.layers.0:"int(interval(2,12))",ranks.layers.1:"int(interval(2,8))",'
    'estimator.energy_loss:"null,0.01",training.l1:"tag(log,interval(1e-6,1e-3))"}'
)
RUN = "3a81b0e78d63446b9164e32cd01dcee5"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Someone in the folder where these outputs lie."""
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml", ".journal", ".md", ".txt"):
            path.write_text(path.read_text().replace(MADE_IN, str(folder)))
    with sqlite3.connect(folder / "outputs" / "mlflow.db") as store:
        for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in store.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    new = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?"
                    store.execute(new, (MADE_IN, str(folder), f"%{MADE_IN}%"))
    store.close()
    return User(folder)


@pytest.mark.slow
def test_a_run_is_evaluated_and_gone_on_with(before: User) -> None:
    old = json.loads((before.folder / "outputs/run/report.json").read_text())
    again = before.run("task=evaluate", f"run={RUN[:8]}", "hydra.run.dir=outputs/again")
    assert again.returncode == 0, again.stderr
    new = json.loads((before.folder / "outputs/again/report.json").read_text())
    for key in ("test_error", "validation_error", "density", "false_off", "layers"):
        assert new[key] == old[key], key
    resumed = before.run(f"training.resume={RUN}", "training.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    report = json.loads((before.folder / "outputs/run/report.json").read_text())
    assert (report["run_id"], report["epochs"], report["resumed"]) == (RUN, 3, True)
    # The first two epochs are the old ones: their errors were logged once.
    (run,) = [run for run in before.runs() if run.info.run_id == RUN]
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_study_is_shown_exported_and_gone_on_with(before: User) -> None:
    status = before.run("task=sweep_status", "sweep.name=digits_pareto")
    assert "3 of 3 trials done" in status.stdout, status.stderr
    exported = before.run("task=export", "sweep.name=digits_pareto", "pick=trial:2", "to=mine/two")
    assert exported.returncode == 0, exported.stderr
    text = (before.folder / "mine/two.yaml").read_text()
    assert "layers: [3, 2]" in text
    assert "hidden: [24, 16]" in text
    command = ["-m", "+sweeps=digits_pareto", *SETTINGS, SPACE, "sweep.points=[]", "training.epochs=2"]
    on = before.run(*command, "sweep.n_trials=4", "sweep.workers=1", timeout=300)
    assert on.returncode == 0, on.stdout + on.stderr
    assert "4 of 4 trials done" in on.stdout
    assert [line.split()[1] for line in on.stdout.splitlines() if line.startswith("trial ")] == ["3"]
    changed = before.run(*command, "sweep.n_trials=4", "training.l2=0.1")
    assert changed.returncode == 2
    assert changed.stderr.startswith(
        "ccsweep: sweep.name=digits_pareto: began with training.l2=0.0005, found 0.1"
    )


@pytest.mark.slow
def test_a_grid_is_done_and_nothing_is_computed_again(before: User) -> None:
    again = before.run("-m", *SETTINGS, "ranks=control,16-12", "training.epochs=1", "sweep.name=grid")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 2 trials done" in again.stdout
    assert "trial " not in again.stdout.replace("trials", "")
    rows = json.loads((before.folder / "outputs/sweeps/grid/table.json").read_text())["rows"]
    assert [round(row["test_error"], 2) for row in rows] == [61.11, 56.39]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hint")  # MLflow's, about its own base class
def test_a_model_is_loaded_and_answers(before: User) -> None:
    import mlflow.pyfunc
    import numpy as np

    with tarfile.open(ARCHIVE) as archive:  # the tests above log more
        paths = [before.folder / name for name in archive.getnames() if name.endswith("/MLmodel")]
    assert len(paths) == 6
    example = np.zeros((3, 64), np.float32)
    for path in paths:
        answers = mlflow.pyfunc.load_model(str(path.parent)).predict(example)
        assert answers.shape == (3, 10)
        assert np.isfinite(answers).all()
