"""Whole runs as they are tracked, on the embedded digits."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.figures import RUN, VALIDATION_ERROR
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.run import held, load
from tests.conftest import User
from tests.tasks.conftest import Place
from tests.tasks.runs import SHORT, reports


def test_a_study_reads_its_data_once(place: Place) -> None:
    def of_study(*overrides: str) -> Config:
        return place.config("tracking.sweep=outputs/sweeps/s", *overrides)

    first = load(of_study())
    assert load(of_study()) is first
    other = load(of_study("data.dir=elsewhere"))
    assert other is not first
    assert load(of_study("data.dir=elsewhere")) is other
    assert load(of_study()) is not first  # only the newest is kept
    alone = load(place.config("data.dir=a"))
    assert load(place.config("data.dir=a")) is not alone


def test_the_run_is_tracked(digits: tuple[User, Any]) -> None:
    from mlflow import MlflowClient

    user, _ = digits
    run = user.runs()[0]
    assert run.info.run_name == "digits 16-12 svd s0"
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["training.epochs"] == "4"
    assert params["data.name"] == "digits"
    assert (params["ranks"], params["rank1"], params["rank2"]) == ("16-12", "16", "12")
    assert not [key for key in params if key.startswith(("sweep", "tracking", "training.source"))]
    assert "null" not in params.values()
    assert VALIDATION_ERROR.metric == "validation/error"
    assert {"validation/error", "validation/layer1/density", "train/loss", "test/error"} <= set(
        run.data.metrics
    )
    report = reports(user)[0]
    final = {figure.key: report[figure.key] for figure in RUN if figure.key in report}
    assert {"test_error", "validation_error", "density", "false_off", "best_epoch", "seconds"} <= set(final)
    assert {key: run.data.metrics[key] for key in final} == final
    assert run.data.tags["mlflow.note.content"].startswith("**digits 16-12 svd s0**: test error ")
    assert run.data.tags["mlflow.note.content"].endswith(
        f"\n\n    {shlex.join(['python', '-m', 'ccsweep', *SHORT])}"
    )
    assert len(run.outputs.model_outputs) == 1
    model = MlflowClient(f"sqlite:///{user.folder}/outputs/mlflow.db").get_logged_model(
        run.outputs.model_outputs[0].model_id
    )
    assert model.name == "digits 16-12 svd s0"
    of_model = {m.key: (m.value, m.dataset_name) for m in model.metrics}
    assert of_model["test_error"] == (report["test_error"], "digits")
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "digits"
    assert data.dataset.digest == reports(user)[0]["data_digest"]
    client = MlflowClient(f"sqlite:///{user.folder}/outputs/mlflow.db")
    history = client.get_metric_history(run.info.run_id, "validation/error")
    assert [m.step for m in history] == [1, 2, 3, 4]
    names = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "report.json",
        "figures.png",
        "checkpoints",
    } <= names


@pytest.mark.slow
def test_a_multirun_has_one_parent_and_survives_a_run_that_fails(user: User) -> None:
    from mlflow import MlflowClient

    done = user.run(
        "-m", *SHORT, "ranks=control,16-12", "training.learning_rate=0.1,1e30", "training.max_norm=null"
    )
    assert done.returncode == 2
    assert "ccsweep: 2 of 4 runs failed; see above" in done.stderr
    assert "Traceback" not in done.stderr
    parents = [r for r in user.runs() if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in user.runs() if "mlflow.parentRunId" in r.data.tags]
    (parent,) = parents
    assert parent.info.status == "FAILED"
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert sorted(c.info.status for c in children) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    client = MlflowClient(f"sqlite:///{user.folder}/outputs/mlflow.db")
    names = [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]
    assert names == ["rows.png", "table.json", "table.md"]
    table = Path(client.download_artifacts(parent.info.run_id, "table.md")).read_text()
    assert table.startswith(f"    python -m ccsweep -m {SHORT[0]} ")
    assert table.count("| failed |") == 2
    assert re.search(r"^ *16-12 +0.1 +\d+\.\d\d .* 1 ", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^ *16-12 +1e\+?30 +failed .* 0 of 1 ", done.stdout, flags=re.MULTILINE)
    control, gated = reports(user)
    assert control["ranks"] == "control"
    assert control["layers"][0]["rank"] is None
    assert control["layers"][0]["density"] == 1
    assert control["theoretical_speedup"] == 1
    assert gated["ranks"] == "16-12"


@pytest.mark.slow
def test_a_folder_holds_one_run(digits: tuple[User, Any]) -> None:
    user, _ = digits
    folder = reports(user)[0]["folder"]
    done = user.run(f"hydra.run.dir={folder}", *SHORT)
    assert done.returncode == 2
    assert f"hydra.run.dir={folder}: holds run " in done.stderr


def test_two_processes_on_one_run(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    refused = pytest.raises(UserError, match="another process is working on this run")
    with held(folder), refused, held(folder):
        pass


@pytest.mark.slow
def test_a_stand_in_is_never_taken_for_the_real_thing(user: User) -> None:
    # Nothing listens there, so no mirror can be reached, whatever network this machine has.
    user.environment |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    mnist = ("+experiment=mnist", f"data.dir={user.folder}/nothing", "training.epochs=1")
    done = user.run(*mnist)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mnist CANNOT BE HAD, digits STANDS IN FOR IT") == 1
    assert "digits (stand-in for mnist)  784-1000-600-400-10" in done.stdout
    (report,) = reports(user)
    assert report["data"] == "digits (stand-in for mnist)"
    assert report["stand_in_for"] == "mnist"
    (run,) = user.runs()
    assert run.info.run_name == "digits-for-mnist 50-35-25 svd s0"
    assert run.data.tags["ccsweep.data"] == "digits (stand-in for mnist)"
    refused = user.run(*mnist, "data.stand_in=null")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("ccsweep: train-images-idx3-ubyte.gz is not in ")
    assert "Traceback" not in refused.stderr


def test_a_multirun_with_a_wrong_config_runs_nothing(user: User) -> None:
    done = user.run("-m", "ranks.layers=[16,12],[16,400]")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: ranks.layers[1]=400: expected 1 to 128, the smaller side of the 256x128 layer"
    )
    assert not (user.folder / "outputs" / "mlflow.db").exists()


@pytest.mark.slow
def test_passwords_reach_neither_the_run_nor_the_terminal(user: User) -> None:
    secret = "s3cr3t-word"
    uri = f"postgresql://me:{secret}@127.0.0.1:1/db"
    done = user.run("-m", "ranks=control,16-12", f"tracking.uri={uri}")
    assert done.returncode == 2
    assert secret not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert secret not in user.run(f"tracking.uri=postgresql://me:{secret}{{@host/db").stderr
    assert secret not in user.run("--cfg", "job", f"tracking.uri={uri}").stdout
    for file in user.folder.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
