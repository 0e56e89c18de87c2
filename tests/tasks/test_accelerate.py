"""A model from a file, made faster and tracked, and loaded by someone who has not got these sources."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from torch import nn

import ccsweep
from ccsweep.errors import UserError
from ccsweep.tasks import accelerate
from tests.tasks.conftest import Place


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "net.pt"
    torch.save(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def done(place: Place, model: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate, "SECONDS", 0.0)
        return place.run("fast", "task=accelerate", f"model={model}", "max_disagreement=0")


def test_the_result_is_saved_and_tracked(done, place, model):
    fast = ccsweep.load(done["path"])
    x = torch.randn(5, 64)
    weights = torch.load(model)
    expected = (
        torch.relu(x @ weights["0.weight"].T + weights["0.bias"]) @ weights["2.weight"].T + weights["2.bias"]
    )
    torch.testing.assert_close(fast(x), expected, rtol=1e-4, atol=1e-4)
    assert [plan.batch_size for plan in fast.plans][:3] == [1, 32, 256]
    run = place.client.get_run(done["run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "accelerate net.pt")
    assert run.data.metrics["bound"] == done["bound"] == 0
    assert run.data.metrics["accelerated_speedup_batch32"] == done["accelerated_speedup_batch32"] > 0
    assert json.loads((Path(done["folder"]) / "report.json").read_text()) == done


@pytest.mark.slow
def test_a_colleague_without_these_sources_loads_it(done, place):
    (output,) = place.client.get_run(done["run_id"]).outputs.model_outputs
    folder = Path(urlparse(place.client.get_logged_model(output.model_id).artifact_location).path)
    x = np.random.default_rng(0).random((3, 64), np.float32)
    np.save(folder.parent / "x.npy", x)
    code = (
        "import sys, numpy as np, mlflow\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "import ccsweep\n"
        "print(ccsweep.__file__)\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))\n"
    )
    files = [str(folder), str(folder.parent / "x.npy"), str(folder.parent / "y.npy")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", code, *files]
    told = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(folder / "code" / "ccsweep" / "__init__.py")
    expected = ccsweep.load(done["path"])(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(folder.parent / "y.npy"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=accelerate"], "model=null: expected a file, as in task=accelerate model=net.onnx"),
        (["model=net.pt"], "model=net.pt: expected null with task=train; add task=accelerate"),
        (
            ["task=accelerate", "model=a.pt", "keep=argmx"],
            "keep=argmx: expected one of argmax, sign, values; did you mean 'argmax'?",
        ),
        (
            ["task=accelerate", "model=a.pt", "max_disagreement=2"],
            "max_disagreement=2.0: expected a share, at least 0 and below 1",
        ),
    ],
)
def test_what_is_refused(place, overrides, message):
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        place.config(*overrides)


def test_a_file_is_looked_at_before_the_data(place, tmp_path):
    with pytest.raises(UserError, match=r"^model=.*net.pt: no such file; expected an exported program"):
        place.run("none", "task=accelerate", f"model={tmp_path}/net.pt", "data=mnist", f"data.dir={tmp_path}")
