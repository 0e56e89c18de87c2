import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ccsweep.errors import UserError
from ccsweep.tracking import ui
from ccsweep.tracking.find import find_run
from ccsweep.tracking.parent import open_parent
from ccsweep.tracking.run import Run


def test_a_taken_port_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert ui.main(["--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"port: {port} cannot be used (Address already in use); stop what runs there, or choose "
        "another: python -m ccsweep.tracking.ui --port 5001\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_has_pages_of_its_own(capsys):
    assert ui.main(["--uri", "http://ann:pw@host:5000"]) == 0
    assert capsys.readouterr().out == "The runs are on a server: http://ann:***@host:5000\n"


def test_the_pages_that_compare_the_trials_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri, sweep = f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "outputs" / "sweeps" / "s"
    settings = {"experiment": "mnist", "tags": {}, "system_metrics": False}
    assert ui.main(["--study", str(sweep)]) == 2
    assert capsys.readouterr().err == (
        f"--study: {sweep} has no run in MLflow; expected the folder of a study or a grid\n"
    )
    parent = open_parent(uri, "mnist", sweep, {"density": "minimize", "validation_error": "minimize"})
    with pytest.raises(UserError) as refusal:
        ui.pages(uri, sweep)
    assert str(refusal.value) == (
        f"--study: no trial of {sweep} has ended well, so there is nothing to compare"
    )
    for trial, ranks in enumerate(({"rank1": 16, "rank2": 12}, {"rank1": 8}, {})):
        place = {"folder": sweep / "trials" / str(trial), "parent_id": parent}
        run = Run.start(uri, name=str(trial), params={"ranks": "-", **ranks}, **place, **settings)
        run.log_metrics({"validation_error": 2.0, "density": 0.2, "validation/error": 3.0}, step=0)
        run.end("FINISHED")
    page = f"#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=ccsweep-{parent[:8]}"
    assert ui.pages(uri, sweep) == {"trials": page, "compare": f"{page}&compareRunsMode=CHART"}
    tags = MlflowClient(uri).get_experiment("1").tags
    view = json.loads(tags[f"mlflow.sharedViewState.ccsweep-{parent[:8]}"])
    assert view["searchFilter"] == f"tags.`mlflow.parentRunId` = '{parent}'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`density`", True)
    assert view["selectedColumns"] == [
        *("params.`ranks`", "params.`rank1`", "params.`rank2`"),
        *("metrics.`density`", "metrics.`validation_error`"),
        *("tags.`trial`", "tags.`front`", "tags.`study`"),
    ]
    (chart,) = view["compareRunCharts"]  # MLflow leaves out a run that lacks one of its axes
    assert (chart["selectedParams"], chart["selectedMetrics"]) == (["rank1"], ["density", "validation_error"])
    assert ui.command(uri, sweep) == "python -m ccsweep.tracking.ui --study outputs/sweeps/s"


def test_the_command_that_shows_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ui.command(f"sqlite:///{tmp_path}/outputs/mlflow.db") == "python -m ccsweep.tracking.ui"
    assert ui.command("sqlite:////data/a b.db") == (
        "python -m ccsweep.tracking.ui --uri 'sqlite:////data/a b.db'"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The UI in an empty folder, which is a tracking server too."""
    folder = tmp_path_factory.mktemp("ui")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ccsweep.tracking.ui", "--port", str(port)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield url
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    shown = (folder / "log").read_text()
    assert shown.splitlines() == [
        f"Runs in sqlite:///{folder}/outputs/mlflow.db: {url}/#/experiments?workflowType=machine_learning "
        "(up in some seconds; Ctrl-C ends it)"
    ]


def test_a_run_on_a_server(server, tmp_path, capfd):
    with Run.start(
        server, experiment="mnist", name="a", params={"a": 1}, tags={}, folder=tmp_path / "run"
    ) as run:
        run.log_metrics({"loss": float("nan"), "density": 0.5}, step=0)
        (tmp_path / "a.txt").write_text("hello")
        run.log_artifact(tmp_path / "a.txt", "notes")
        run.log_dataset("mnist", digest="1", source="https://host/x", context="train")
    (tmp_path / "run").rename(tmp_path / "gone")
    found = find_run(server, run.id[:8], tmp_path / "cache")
    assert (found.folder / "notes" / "a.txt").read_text() == "hello"
    with Run.resume(server, run.id, system_metrics=False):
        pass
    assert capfd.readouterr() == ("", "")
    page = urllib.request.urlopen(f"{server}/get-artifact?path=notes/a.txt&run_uuid={run.id}", timeout=5)
    with page:
        assert page.read() == b"hello"
