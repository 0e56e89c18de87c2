"""The benchmark of a trained run, in this process on the embedded digits."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ccsweep.engine.benchmark import ENGINE, EXACT
from ccsweep.errors import UserError
from tests.tasks.conftest import Place

KINDS = ("float32", "bfloat16", "int8")


def test_a_benchmark(place: Place, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # No compiler, and an empty cache of what one made before.
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place.folder / "inductor"))
    for library in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, library, None)
    report = place.run("benchmark", "task=benchmark", f"run={trained['folder']}", "ranks.layers=[8,6]")
    folder = place.folder / "benchmark"
    assert json.loads((folder / "benchmark.json").read_text()) == json.loads(json.dumps(report))
    assert report["ranks"] == "8-6"
    one = [each for each in report["comparisons"] if each["plan"]["threads"] == 1]
    assert [each["plan"]["batch_size"] for each in one] == [1, 8, 32, 256, 1024]
    for each in report["comparisons"]:
        peers = [f"torch {kind}{gated}" for kind in KINDS for gated in ("", ", gated")]
        assert list(each["timings"]) == [*peers, EXACT, ENGINE]
        assert list(each["answers"]) == list(each["timings"])
        for kind in ("float32", "int8", "int8 static"):
            missing = each["unavailable"][f"ONNX Runtime {kind}"]
            assert missing == "not installed: pip install onnxruntime onnx"
        for kind in ("float32", "bfloat16"):
            assert each["unavailable"][f"OpenVINO {kind}"] == "not installed: pip install openvino"
        assert each["best_peer"] in peers
        assert "No working C++ compiler" in each["unavailable"]["torch.compile"]
        assert each["answers"][ENGINE]["changed"] <= 0.05
    run = place.client.get_run(report["run_id"])
    assert run.info.run_name == "benchmark digits 8-6 svd s0"
    assert run.data.tags["ccsweep.task"] == "benchmark"
    assert run.data.tags["ccsweep.evaluates"] == trained["run_id"]
    for key in ("measured_speedup_batch32", "engine_over_best_peer_batch32"):
        assert run.data.metrics[key] == report[key]
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
