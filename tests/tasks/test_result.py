"""What a run comes to: its table and report, its measured speed-up and its model, on the embedded digits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ccsweep import data
from ccsweep.errors import UserError
from ccsweep.figures import LAYERS, OBJECTIVES, RUN
from ccsweep.tasks import result
from ccsweep.training import checkpoint
from ccsweep.training.fit import build_network
from tests.conftest import User
from tests.tasks.conftest import Place
from tests.tasks.runs import SHORT, reports

IMAGES = data.load("digits").test.images[:20]


def test_a_run_ends_with_a_table_and_a_report(digits: tuple[User, Any]) -> None:
    user, done = digits
    assert done.returncode == 0, done.stderr
    report = reports(user)[0]
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
    assert (
        f"measured, 1 thread, engine over torch: {one:.2f}x at batch 1, {many:.2f}x at batch 256"
        in done.stdout
    )
    assert "Traceback" not in done.stderr
    assert (Path(report["folder"]) / "figures.png").stat().st_size > 10_000


@pytest.mark.slow
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


def logits(place: Place, trained: dict[str, Any]) -> np.ndarray:
    network = build_network(place.config())
    checkpoint.load_network(network, checkpoint.best(Path(trained["folder"])))
    with torch.no_grad():
        return network.eval()(IMAGES).numpy()


def test_a_run_measures_its_speedup(place: Place, trained: dict[str, Any]) -> None:
    stored = json.loads((place.folder / "trained" / "report.json").read_text())
    metrics = place.client.get_run(trained["run_id"]).data.metrics
    for name in ("measured_speedup_batch1", "measured_speedup_batch256"):
        assert 0 < trained[name] == stored[name] == metrics[name]


def test_its_model_gives_the_networks_answers(place: Place, trained: dict[str, Any]) -> None:
    import mlflow

    (model,) = place.client.get_run(trained["run_id"]).outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(place.client.get_logged_model(model.model_id).artifact_location)
    np.testing.assert_allclose(loaded.predict(IMAGES.numpy()), logits(place, trained), rtol=1e-4, atol=1e-4)
    assert place.client.get_model_version("net", "1").run_id == trained["run_id"]


@pytest.mark.slow
def test_mlflow_predicts_with_it_on_the_command_line(place: Place, trained: dict[str, Any]) -> None:
    (place.folder / "inputs.json").write_text(json.dumps({"inputs": IMAGES.tolist()}))
    answers = place.folder / "answers.json"
    (logged,) = place.client.get_run(trained["run_id"]).outputs.model_outputs
    model = f"models:/{logged.model_id}"
    files = ["-i", str(place.folder / "inputs.json"), "-o", str(answers)]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "models", "predict", "--env-manager", "local", "-m", model, *files],
        env={"PATH": "/usr/bin:/bin", "MLFLOW_TRACKING_URI": place.uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(answers.read_text())["predictions"])
    np.testing.assert_allclose(found, logits(place, trained), rtol=1e-4, atol=1e-4)


def test_a_clock_that_fails_costs_a_run_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise UserError("layer 1: a weight is not finite")

    monkeypatch.setattr(result, "compare", fails)
    found = place.run("untimed", "training.epochs=1")
    stored = json.loads((place.folder / "untimed" / "report.json").read_text())
    assert stored["validation_error"] == found["validation_error"]
    assert "measured_speedup_batch1" not in stored
    assert place.client.get_run(found["run_id"]).info.status == "FINISHED"
    line = "the speed-up could not be measured, all other results stand: layer 1: a weight is not finite"
    assert line in caplog.messages


def test_a_name_that_cannot_be_registered_is_refused_before_training(place: Place) -> None:
    with pytest.raises(UserError, match=r"tracking\.register=a/b: the registry refuses it"):
        place.run("refused", "tracking.register=a/b")
    assert not (place.folder / "refused" / "checkpoints").exists()
