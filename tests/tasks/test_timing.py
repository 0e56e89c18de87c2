"""A run's measured speed-up, its model, and the benchmark, in this process on the embedded digits."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.schema import Config
from ccsweep.engine import clock, tune
from ccsweep.engine.benchmark import EAGER, ENGINE
from ccsweep.errors import UserError
from ccsweep.tasks import task, timing
from ccsweep.training import checkpoint
from ccsweep.training.fit import build_network

IMAGES = data.load("digits").test.images[:20]


class Place:
    """A folder with a store, where tasks run as on a command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"

    def config(self, *overrides: str) -> Config:
        with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
            return check(compose("config", overrides=self.given(*overrides)))

    def given(self, *overrides: str) -> list[str]:
        return [f"tracking.uri={self.uri}", "tracking.system_metrics=false", *overrides]

    def run(self, name: str, *overrides: str) -> dict[str, Any]:
        config = self.config(*overrides)
        return task(config.task)(config, self.folder / name, self.given(*overrides))

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Times are not looked at here: so few calls are enough. Other processes' timings are not waited for."""
    locks = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "SECONDS", 0.0)
        patch.setattr(timing, "SECONDS", 0.0)
        patch.setattr(timing, "MEASURED_SECONDS", 0.0)
        patch.setattr(clock, "lock_file", lambda: locks / "timing.lock")
        yield


@pytest.fixture(scope="module")
def place(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("timing"))


@pytest.fixture(scope="module")
def trained(place: Place) -> dict[str, Any]:
    return place.run("trained", "training.epochs=2", "tracking.register=net")


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


def test_mlflow_predicts_with_it_on_the_command_line(place: Place, trained: dict[str, Any]) -> None:
    (place.folder / "inputs.json").write_text(json.dumps({"inputs": IMAGES.tolist()}))
    answers = place.folder / "answers.json"
    model, files = (
        f"runs:/{trained['run_id']}/network",
        ["-i", str(place.folder / "inputs.json"), "-o", str(answers)],
    )
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


def test_a_benchmark(place: Place, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # No compiler, and an empty cache of what one made before.
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place.folder / "inductor"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = place.run("benchmark", "task=benchmark", f"run={trained['folder']}", "ranks.layers=[8,6]")
    folder = place.folder / "benchmark"
    assert json.loads((folder / "benchmark.json").read_text()) == json.loads(json.dumps(report))
    assert report["ranks"] == "8-6"
    one = [each for each in report["comparisons"] if each["plan"]["threads"] == 1]
    assert [each["plan"]["batch_size"] for each in one] == [1, 32, 256, 1024]
    for each in report["comparisons"]:
        assert list(each["timings"]) == [EAGER, "exact skip", ENGINE]
        assert each["unavailable"]["ONNX Runtime"] == "not installed: pip install onnxruntime onnx"
        assert "No working C++ compiler" in each["unavailable"]["torch.compile"]
        assert each["differing"] <= 0.05
    run = place.client.get_run(report["run_id"])
    assert run.info.run_name == "benchmark digits 8-6 svd s0"
    assert run.data.tags["ccsweep.task"] == "benchmark"
    assert run.data.tags["ccsweep.evaluates"] == trained["run_id"]
    assert run.data.metrics["measured_speedup_batch32"] == report["measured_speedup_batch32"]
    artifacts = {each.path for each in place.client.list_artifacts(report["run_id"])}
    assert {"benchmark.json", "benchmark.png", "config.yaml", "environment.json"} <= artifacts
    assert len(run.outputs.model_outputs) == 1


def test_a_benchmark_of_what_is_no_run(place: Place, trained: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="run: nothing is no run folder and no run id"):
        place.run("none", "task=benchmark", "run=nothing")
    assert not (place.folder / "none").exists()


def test_a_benchmark_of_a_run_without_a_checkpoint(place: Place, trained: dict[str, Any]) -> None:
    source, early = Path(trained["folder"]), place.folder / "early"
    early.mkdir()
    (early / "config.yaml").write_text((source / "config.yaml").read_text())
    with pytest.raises(UserError, match=r"best\.ckpt: no such checkpoint; the run may have stopped before"):
        place.run("too-early", "task=benchmark", f"run={early}")


def test_a_name_that_cannot_be_registered_is_refused_before_training(place: Place) -> None:
    with pytest.raises(UserError, match=r"tracking\.register=a/b: the registry refuses it"):
        place.run("refused", "tracking.register=a/b")
    assert not (place.folder / "refused" / "checkpoints").exists()
