"""A network among a run's models and in the registry."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

from ccsweep.engine import served
from ccsweep.errors import UserError
from ccsweep.network import ConditionalMLP
from ccsweep.tracking.store import sqlite_path


@pytest.fixture
def logged(start, tmp_path):
    """A run with a model of a 6-5-3 network; the run, the model's id, inputs and answers."""
    torch.manual_seed(0)
    served.save(tmp_path / "net.pt", ConditionalMLP([6, 5, 3]), {1: ["dense", "dense"]})
    x = np.random.default_rng(0).random((4, 6), np.float32)
    answers = served.load(tmp_path / "net.pt").predict(x)
    run = start()
    about = {"loader": served.__name__, "data": tmp_path / "net.pt", "example": x[:2], "answers": answers[:2]}
    return run, run.log_model("network", **about), x, answers


def test_it_is_a_model_of_its_run(logged, client, uri, monkeypatch):
    import mlflow

    run, model, x, answers = logged
    (output,) = client.get_run(run.id).outputs.model_outputs
    assert output.model_id == model
    stored = client.get_logged_model(model)
    assert (stored.name, stored.source_run_id, str(stored.status)) == ("network", run.id, "READY")
    loaded = mlflow.pyfunc.load_model(stored.artifact_location)
    np.testing.assert_allclose(loaded.predict(x), answers, rtol=1e-5)
    assert loaded.metadata.get_input_schema().input_types() == [np.dtype("float32")]
    np.testing.assert_allclose(loaded.input_example, x[:2])
    with pytest.raises(mlflow.MlflowException, match="does not match expected shape"):
        loaded.predict(x[:, :5])


def test_nothing_in_it_runs(logged, client):
    """What MLflow is given to load is a name and a file of weights: no pickled code."""
    from pathlib import Path
    from urllib.parse import urlparse

    folder = Path(urlparse(client.get_logged_model(logged[1]).artifact_location).path)
    own = [p for p in folder.rglob("*") if p.is_file() and (folder / "code") not in p.parents]
    assert {path.suffix for path in own} == {
        "",
        ".json",
        ".pt",
        ".txt",
        ".yaml",
    }
    torch.load(folder / "data" / "net.pt", weights_only=True)


ALONE = """
import sys, warnings
from importlib.util import find_spec
from pathlib import Path

sys.path = [p for p in sys.path if not (Path(p) / "ccsweep" / "__init__.py").is_file()]
assert getattr(find_spec("ccsweep"), "origin", None) is None  # an editable install leaves its data there
warnings.simplefilter("ignore")
import mlflow.pyfunc
import numpy as np

model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
import ccsweep

assert ccsweep.__file__.startswith(sys.argv[1])
"""


@pytest.mark.slow
def test_a_colleague_without_ccsweep_loads_it(start, client, tmp_path):
    """The model brings the code that it needs; the packages that this needs in turn are pinned in it."""
    torch.manual_seed(0)
    served.save(tmp_path / "net.pt", ConditionalMLP([6, 5, 3]), {1: ["dense", "dense"]})
    x = np.random.default_rng(0).random((4, 6), np.float32)
    answers = served.load(tmp_path / "net.pt").predict(x)
    about = {"loader": served.__name__, "data": tmp_path / "net.pt", "example": x, "answers": answers}
    model = start().log_model("network", **about)
    folder = client.get_logged_model(model).artifact_location.removeprefix("file://")
    np.save(tmp_path / "x.npy", x)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE, folder, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), answers, rtol=1e-5)


def test_versions_in_the_registry(logged, client):
    run, model, *_ = logged
    run.check_registry("net")
    assert client.search_registered_models() == []
    assert [run.register(model, "net", "What it is."), run.register(model, "net", "Again.")] == [1, 2]
    version = client.get_model_version("net", "2")
    assert (client.get_registered_model("net").description, version.description) == ("What it is.", "Again.")
    assert version.run_id == run.id
    assert version.source == client.get_logged_model(model).artifact_location


@pytest.mark.parametrize("name", ["a/b", "a:b", " "])
def test_a_name_that_no_registry_takes(name, start):
    with pytest.raises(UserError, match=re.escape(f"tracking.register={name}: the registry refuses it (")):
        start().check_registry(name)


def test_a_store_without_a_registry(start, uri):
    run = start()
    with closing(sqlite3.connect(sqlite_path(uri))) as database, database:
        database.execute("DROP TABLE registered_models")
    with pytest.raises(UserError, match=r"tracking\.register=net: the registry refuses it \(Database"):
        run.check_registry("net")
