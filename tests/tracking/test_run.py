import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking.find import run_id_of
from ccsweep.tracking.parent import close_parent, open_parent
from ccsweep.tracking.run import Run
from ccsweep.tracking.store import sqlite_path


def status(client, run: Run) -> str:
    return client.get_run(run.id).info.status


class TestStart:
    def test_what_a_run_holds(self, start, client, tmp_path):
        config = {"ranks": {"layers": [75, 50]}, "data": {"uri": "http://ann:pw@host/x"}}
        run = start(params=config, tags={"note": "token=abc"})
        stored = client.get_run(run.id)
        assert stored.data.params == {"ranks.layers": "[75, 50]", "data.uri": "http://ann:***@host/x"}
        assert stored.data.tags["note"] == "token=***"
        assert stored.data.tags["ccsweep.folder"] == str(tmp_path / "run")
        assert stored.info.run_name == "a run"
        assert stored.info.status == "RUNNING"
        assert run_id_of(tmp_path / "run") == run.id
        assert repr(run) == f"Run('{run.id}', '{run.uri}')"

    def test_many_and_long_params(self, start, client):
        run = start(params={f"p{i}": i for i in range(250)} | {"long": "x" * 9000})
        params = client.get_run(run.id).data.params
        assert len(params) == 251
        assert params["long"] == "x" * 5999 + "…"

    def test_artifacts_go_beside_the_database(self, start, client, uri, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        run = start(experiment="svhn (stand-in)")
        (tmp_path / "a.txt").write_text("at http://ann:pw@host")
        run.log_artifact(tmp_path / "a.txt", "notes")
        root = sqlite_path(uri).parent / "mlartifacts" / "svhn_stand-in_"
        assert client.get_run(run.id).info.artifact_uri == f"file://{root}/{run.id}/artifacts"
        assert (root / run.id / "artifacts/notes/a.txt").read_text() == "at http://ann:***@host"
        assert not (tmp_path / "mlruns").exists()

    def test_threads_that_make_the_same_experiment(self, start, client, tmp_path):
        runs: list[Run] = []
        threads = [
            threading.Thread(target=lambda i=i: runs.append(start(folder=tmp_path / str(i))))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({client.get_run(run.id).info.experiment_id for run in runs}) == 1
        assert len({run.id for run in runs}) == 4

    def test_a_deleted_experiment(self, start, client):
        with start() as run:
            pass
        number = client.get_run(run.id).info.experiment_id
        client.delete_experiment(number)
        with pytest.raises(UserError) as caught:
            start()
        assert str(caught.value) == (
            "the experiment mnist was deleted; bring it back with: "
            f"mlflow experiments restore --experiment-id {number}"
        )

    def test_a_run_that_cannot_start_is_ended(self, start, client):
        with pytest.raises(Exception, match="Invalid value"):
            start(params={"?": 1})
        (run,) = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
        assert run.info.status == "FAILED"


class TestLog:
    def test_metrics(self, start, client):
        run = start()
        run.log_metrics({"loss": math.nan, "ratio": math.inf, "epoch": 3}, step=2)
        run.log_metrics({}, step=3)
        metrics = client.get_run(run.id).data.metrics
        assert math.isnan(metrics["loss"])
        assert metrics["ratio"] > 1e308
        assert [(m.step, m.value) for m in client.get_metric_history(run.id, "epoch")] == [(2, 3.0)]

    def test_files_and_folders(self, start, client, tmp_path):
        run = start()
        plots = tmp_path / "plots"
        (plots / "more").mkdir(parents=True)
        (plots / "a.bin").write_bytes(b"http://ann:pw@host\xff")
        (plots / "more" / "b.yaml").write_text("uri: http://ann:pw@host\n")
        run.log_artifact(plots, "report")
        run.log_artifact(plots / "a.bin")
        folder = Path(client.download_artifacts(run.id, "report/plots"))
        assert (folder / "more" / "b.yaml").read_text() == "uri: http://ann:***@host\n"
        assert (folder / "a.bin").read_bytes() == b"http://ann:pw@host\xff"
        assert (plots / "more" / "b.yaml").read_text() == "uri: http://ann:pw@host\n"
        assert [file.path for file in client.list_artifacts(run.id)] == ["a.bin", "report"]

    def test_dataset(self, start, client):
        run = start()
        run.log_dataset(
            "mnist", digest="0" * 64, source="/data/mnist", context="train", profile={"images": 9}
        )
        ((logged,),) = [client.get_run(run.id).inputs.dataset_inputs]
        assert logged.dataset.name == "mnist"
        assert logged.dataset.digest == "0" * 36
        assert logged.dataset.source == '{"uri": "/data/mnist"}'
        assert logged.dataset.profile == '{"images": 9}'
        assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "train"}

    def test_a_dataset_that_another_run_writes_down_at_this_moment(self, start, client, monkeypatch):
        from mlflow.exceptions import MlflowException

        run = start()
        really, calls = run._client.log_inputs, []

        def log_inputs(*arguments):
            calls.append(arguments)
            if len(calls) == 1:
                raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
            really(*arguments)

        monkeypatch.setattr(run._client, "log_inputs", log_inputs)
        about = {"digest": "1", "source": "https://ann:pw@host/x", "context": "train"}
        run.log_dataset("mnist", **about)
        assert len(calls) == 2
        (logged,) = client.get_run(run.id).inputs.dataset_inputs
        assert logged.dataset.source == '{"url": "https://ann:***@host/x"}'
        assert logged.dataset.source_type == "http"
        monkeypatch.setattr(
            run._client, "log_inputs", lambda *_: (_ for _ in ()).throw(MlflowException("no"))
        )
        with pytest.raises(UserError, match=r"failed \(no\); mend it and resume the run"):
            run.log_dataset("mnist", **about)

    def test_tags(self, start, client):
        run = start()
        run.set_tags({f"t{i}": "x" for i in range(150)} | {"long": "x" * 9000})
        tags = client.get_run(run.id).data.tags
        assert tags["t149"] == "x"
        assert tags["long"].endswith("x…")


class TestEnd:
    def test_success(self, start, client):
        with start() as run:
            pass
        assert status(client, run) == "FINISHED"

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
    def test_stopped(self, error, start, client):
        run = start()
        with pytest.raises(type(error)), run:
            raise error
        assert status(client, run) == "KILLED"

    def test_failure_names_its_cause(self, start, client):
        run = start()
        with pytest.raises(ValueError, match="cannot"), run:
            raise ValueError("cannot open\nhttp://ann:pw@host")
        assert status(client, run) == "FAILED"
        cause = client.get_run(run.id).data.tags["ccsweep.error"]
        assert cause == "ValueError: cannot open http://ann:***@host"

    def test_the_first_end_counts(self, start, client):
        run = start()
        run.end("KILLED")
        run.end("FINISHED")
        assert status(client, run) == "KILLED"

    def test_a_lost_store_does_not_hide_the_error(self, start, uri, caplog):
        run = start()
        sqlite_path(uri).write_bytes(b"gone" * 10_000)
        with pytest.raises(ValueError, match="the cause"), run:
            raise ValueError("the cause")
        assert f"run {run.id}: not ended: tracking.uri: {uri} failed" in caplog.text

    def test_a_lost_store_is_one_line(self, start, uri, capfd):
        run = start()
        sqlite_path(uri).write_bytes(b"gone" * 10_000)
        with pytest.raises(UserError) as caught:
            run.log_metrics({"loss": 1.0}, step=0)
        assert "\n" not in str(caught.value)
        assert "it is damaged, or no database" in str(caught.value)
        assert capfd.readouterr() == ("", "")


class TestResume:
    def test_after_a_failure(self, start, client, uri):
        run = start(params={"lr": 0.1})
        with pytest.raises(ValueError, match="x"), run:
            raise ValueError("x")
        with Run.resume(uri, run.id, system_metrics=False) as again:
            assert status(client, again) == "RUNNING"
            again.log_metrics({"loss": 1.0}, step=5)
        stored = client.get_run(run.id)
        assert stored.info.status == "FINISHED"
        assert stored.data.params == {"lr": "0.1"}
        assert "ccsweep.error" not in stored.data.tags

    def test_after_kill_9(self, uri, client, tmp_path):
        code = f"""
import os, sys
sys.addaudithook(lambda event, detail: event == "socket.connect" and print(detail))
from pathlib import Path
from ccsweep.tracking import Run
run = Run.start({uri!r}, experiment="mnist", name="a", params={{}}, tags={{}}, folder=Path("run"))
run.log_metrics({{"loss": 1.0}}, step=0)
os.kill(os.getpid(), 9)
"""
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-uc", code], cwd=tmp_path, env=environment, capture_output=True
        )
        # Nothing was printed, and nothing tried to reach out: no telemetry.
        assert (done.returncode, done.stdout, done.stderr) == (-9, b"", b"")
        run_id = run_id_of(tmp_path / "run")
        assert client.get_run(run_id).info.status == "RUNNING"
        with Run.resume(uri, run_id, system_metrics=False) as run:
            run.log_metrics({"loss": 0.5}, step=1)
        assert status(client, run) == "FINISHED"
        assert len(client.get_metric_history(run_id, "loss")) == 2

    def test_unknown(self, uri):
        with pytest.raises(UserError, match=f"run: {'0' * 32} is no run folder and no run id"):
            Run.resume(uri, "0" * 32)


class TestParent:
    def test_children_and_a_failure(self, start, client, tmp_path):
        parent = start(name="sweep")
        child = start(parent_id=parent.id, folder=tmp_path / "0")
        with child:
            pass
        with pytest.raises(RuntimeError), parent:
            raise RuntimeError
        tags = client.get_run(child.id).data.tags
        assert tags["mlflow.parentRunId"] == parent.id
        assert status(client, child) == "FINISHED"
        assert status(client, parent) == "FAILED"

    def test_the_first_run_of_a_sweep_opens_its_parent(self, uri, client, tmp_path):
        sweep = tmp_path / "sweep"
        close_parent(uri, sweep, "KILLED")  # no run got as far as to open it
        first = open_parent(uri, "mnist", sweep)
        assert open_parent(uri, "mnist", sweep) == first
        parent = client.get_run(first)
        assert (parent.info.status, parent.info.run_name) == ("RUNNING", "sweep sweep")
        assert (parent.data.tags["ccsweep.task"], parent.data.tags["study"]) == ("sweep", "sweep")
        assert f"python -m ccsweep.tracking.ui --study {sweep}" in parent.data.tags["mlflow.note.content"]
        close_parent(uri, sweep, "FAILED")
        assert client.get_run(first).info.status == "FAILED"


class TestSystemMetrics:
    def test_a_short_run_has_them_and_ends_at_once(self, start, uri, client, capfd):
        run = start(system_metrics=True)
        time.sleep(0.2)
        began = time.perf_counter()
        run.end("FINISHED")
        assert time.perf_counter() - began < 1  # 0.03 s on an idle machine
        metrics = client.get_run(run.id).data.metrics
        assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
        assert metrics["system/system_memory_usage_megabytes"] > 0
        Run.resume(uri, run.id).end("FINISHED")
        history = client.get_metric_history(run.id, "system/cpu_utilization_percentage")
        assert [metric.step for metric in history] == [0, 1]
        assert capfd.readouterr() == ("", "")
        assert not [t for t in threading.enumerate() if t.name == "SystemMetricsMonitor"]

    def test_intervals(self, start, client, monkeypatch):
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        with start(system_metrics=True) as run:
            time.sleep(0.5)
        history = client.get_metric_history(run.id, "system/cpu_utilization_percentage")
        assert len(history) >= 3


def test_a_full_disk_is_one_line(start, uri, tmp_path, full_disk):
    run = start()
    (tmp_path / "a.txt").write_text("x" * 9000)
    with full_disk(1000), pytest.raises(UserError) as caught:
        run.log_artifact(tmp_path / "a.txt")
    assert str(caught.value) == (
        f"tracking.uri: cannot write an artifact to {uri} (File too large); free the disk or "
        "choose another folder, then resume the run"
    )
    with full_disk(1000), pytest.raises(UserError) as caught:
        run.set_tags({"a": "x" * 8000})
    assert str(caught.value).startswith(f"tracking.uri: {uri} failed (")
