"""Whole runs, as a user starts, stops and repeats them, on the embedded digits."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ccsweep.figures import LAYERS, OBJECTIVES, RUN, VALIDATION_ERROR
from tests.conftest import User

SHORT = ("training.epochs=4", "tracking.system_metrics=false")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[User, Any]:
    """One finished run of ``python -m ccsweep``, shortened, with what it printed."""
    user = User(tmp_path_factory.mktemp("digits"))
    return user, user.run(*SHORT)


def reports(user: User) -> list[dict[str, Any]]:
    files = sorted(user.folder.glob("outputs/**/report.json"), key=lambda p: p.stat().st_mtime)
    return [json.loads(f.read_text()) for f in files if "mlartifacts" not in f.parts]


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whenever the same is run again."""
    return {k: report[k] for k in ("test_error", "validation_error", "best_epoch", "layers")}


def test_a_run_ends_with_a_table_and_a_report(digits: tuple[User, Any]) -> None:
    user, done = digits
    assert done.returncode == 0, done.stderr
    (report,) = reports(user)
    for key in ("data", "layers", "run_id", *(figure.key for figure in RUN)):
        assert key in report
    assert report["data"] == "digits"
    assert [layer["rank"] for layer in report["layers"]] == [16, 12]
    for layer in report["layers"]:
        assert {figure.key for figure in LAYERS} <= set(layer)
        assert 0 < layer["density"] < 1
        assert 0 <= layer["false_off"] <= 1
        assert 0 <= layer["sign_agreement"] <= 1
    assert f"test error {report['test_error']:.2f} %" in done.stdout
    assert report["run_id"] in done.stdout
    assert report["folder"] in done.stdout
    assert "python -m ccsweep.tracking.ui" in done.stdout
    one, many = report["measured_speedup_batch1"], report["measured_speedup_batch256"]
    assert f"measured, 1 thread: {one:.2f}x at batch 1, {many:.2f}x at batch 256" in done.stdout
    assert "Traceback" not in done.stderr
    assert (Path(report["folder"]) / "figures.png").stat().st_size > 10_000


def test_without_the_test_images_a_run_reports_what_validation_found(tmp_path: Path) -> None:
    user = User(tmp_path)
    done = user.run(*SHORT, "test=false")
    assert done.returncode == 0, done.stderr
    (report,) = reports(user)
    assert "test_error" not in report
    assert "test error" not in done.stdout
    assert report["split"] == "validation"
    positive = [layer["units"] * layer["true_density"] for layer in report["layers"]]
    missed = [share * layer["false_off"] for share, layer in zip(positive, report["layers"], strict=True)]
    assert report["false_off"] == pytest.approx(sum(missed) / sum(positive))
    computed = [layer["units"] * layer["density"] for layer in report["layers"]]
    assert report["density"] == pytest.approx(sum(computed) / 384)
    assert set(OBJECTIVES) <= set(report)
    logged = user.runs()[0].data.metrics
    assert not any(name.startswith("test/") for name in logged)


def test_the_run_is_tracked(digits: tuple[User, Any]) -> None:
    from mlflow import MlflowClient

    user, _ = digits
    run = user.runs()[0]
    assert run.info.run_name == "digits 16-12 svd s0"
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["training.epochs"] == "4"
    assert params["data.name"] == "digits"
    assert params["ranks.layers"] == "[16, 12]"
    assert params["training.resume"] == "null"
    assert VALIDATION_ERROR.metric == "validation/error"
    assert {"validation/error", "validation/layer1/density", "train/loss", "test/error"} <= set(
        run.data.metrics
    )
    assert run.data.metrics["measured_speedup_batch1"] == reports(user)[0]["measured_speedup_batch1"]
    assert len(run.outputs.model_outputs) == 1
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


def test_the_same_seed_gives_the_same_numbers(digits: tuple[User, Any], user: User) -> None:
    user.run(*SHORT)
    assert figures(reports(user)[0]) == figures(reports(digits[0])[0])


def test_evaluate_gives_the_same_figures_and_with_other_ranks_others(
    digits: tuple[User, Any],
) -> None:
    user, _ = digits
    trained = reports(user)[0]
    same = user.run("task=evaluate", f"run={trained['run_id'][:8]}")
    assert same.returncode == 0, same.stderr
    again = reports(user)[-1]
    assert again["test_error"] == trained["test_error"]
    assert again["layers"] == trained["layers"]
    assert again["validation_error"] == pytest.approx(trained["validation_error"], abs=1e-3)
    other = user.run(
        "-m", "task=evaluate", f"run={trained['folder']}", "ranks.layers=[64,128],[8,6]", "estimator=whitened"
    )
    assert other.returncode == 0, other.stderr
    full, low = reports(user)[-2:]
    assert [layer["rank"] for layer in full["layers"]] == [64, 128]
    # At full rank the estimate is the pre-activation itself, but for rounding.
    assert all(layer["sign_agreement"] > 0.999 for layer in full["layers"])
    assert all(0.6 < layer["sign_agreement"] < 0.99 for layer in low["layers"])
    assert re.search(r"^8-6 +\d", other.stdout, flags=re.MULTILINE)
    assert user.runs()[-1].data.tags["ccsweep.evaluates"] == trained["run_id"]


def test_evaluate_checks_ranks_against_the_trained_network(digits: tuple[User, Any]) -> None:
    user, _ = digits
    folder = reports(user)[0]["folder"]
    done = user.run("task=evaluate", f"run={folder}", "ranks=50-35-25")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: ranks.layers=[50, 35, 25]: expected 2 ranks, one per hidden layer of 64-256-128-10; found 3"
    )


def test_evaluate_refuses_what_a_trained_run_cannot_change(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run("task=evaluate", f"run={reports(user)[0]['folder']}", "training.learning_rate=1")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: training.learning_rate: cannot change with run=...; only test, data.dir, data.verify, "
        "ranks, estimator, training.device, training.precision, tracking can"
    )


def wait_for_epochs(user: User, epochs: int, process: Any) -> Path:
    """Wait until the run has finished some epochs; returns its folder."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for folder in user.folder.glob("outputs/20*"):
            database = user.folder / "outputs" / "mlflow.db"
            if (folder / "checkpoints" / "last.ckpt").exists() and database.exists():
                runs = user.runs()
                if runs and runs[0].data.metrics.get("train/seconds") is not None:
                    history = _history(user, runs[0].info.run_id)
                    if len(history) >= epochs:
                        return folder
        time.sleep(0.05)
    raise AssertionError(f"no {epochs} epochs: {process.stderr.read() if process.poll() is not None else ''}")


def _history(user: User, run_id: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{user.folder}/outputs/mlflow.db")
    return client.get_metric_history(run_id, "validation/error")


LONG = ("training.epochs=40", "tracking.system_metrics=false")


def test_resume_after_sigkill_ends_as_if_nothing_had_happened(
    user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = User(tmp_path_factory.mktemp("uninterrupted"))
    uninterrupted = other.start(*LONG)
    process = user.start(*LONG)
    folder = wait_for_epochs(user, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "report.json").exists()
    assert user.runs()[0].info.status == "RUNNING"  # nobody was left to end it
    done = user.run(f"training.resume={folder}")
    assert done.returncode == 0, done.stderr
    uninterrupted.communicate(timeout=180)
    (resumed,), (expected,) = reports(user), reports(other)
    assert figures(resumed) == figures(expected)
    (run,) = user.runs()
    assert run.info.status == "FINISHED"
    assert {m.step for m in _history(user, run.info.run_id)} == set(range(1, 41))
    assert [p.name for p in user.folder.glob("outputs/20*")] == [folder.name]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_marked_killed_and_says_how_to_go_on(user: User, stop: signal.Signals) -> None:
    process = user.start("training.epochs=2000", "tracking.system_metrics=false")
    folder = wait_for_epochs(user, 1, process)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopped; go on with: python -m ccsweep training.resume={folder}" in err
    assert "Traceback" not in err
    assert user.runs()[0].info.status == "KILLED", err


def test_a_loss_that_is_not_a_number_fails_the_run_and_says_since_when(user: User) -> None:
    done = user.run(*SHORT, "training.learning_rate=1e30", "training.max_norm=null")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("ccsweep: the loss is not a finite number since step ")
    assert line.endswith("(epoch 1); try a smaller training.learning_rate than 1e+30")
    assert "Traceback" not in done.stderr
    (run,) = user.runs()
    assert run.info.status == "FAILED"
    assert "not a finite number" in run.data.tags["ccsweep.error"]


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


def test_a_run_cannot_end_before_it_stands(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run(f"training.resume={reports(user)[0]['folder']}", "training.epochs=3")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: training.epochs=3: the run has done 4 already; expected 4 or more"
    )
    assert user.runs()[0].info.status == "FINISHED"


def test_resume_refuses_other_settings(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run(f"training.resume={reports(user)[0]['folder']}", "training.learning_rate=1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "ccsweep: training.learning_rate: cannot change with training.resume=...; only data.dir, "
        "training.epochs, training.max_minutes, tracking can"
    )


def test_a_finished_run_can_be_given_more_epochs(user: User) -> None:
    user.run("training.epochs=2", "tracking.system_metrics=false")
    folder = reports(user)[0]["folder"]
    done = user.run(f"training.resume={folder}", "training.epochs=4")
    assert done.returncode == 0, done.stderr
    (report,) = reports(user)
    assert report["epochs"] == 4
    assert report["resumed"]
    (run,) = user.runs()
    assert [m.step for m in _history(user, run.info.run_id)] == [1, 2, 3, 4]
    assert "epochs: 4" in Path(folder, "config.yaml").read_text()


def test_a_folder_holds_one_run(digits: tuple[User, Any]) -> None:
    user, _ = digits
    folder = reports(user)[0]["folder"]
    done = user.run(f"hydra.run.dir={folder}", *SHORT)
    assert done.returncode == 2
    assert f"hydra.run.dir={folder}: holds run " in done.stderr


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
