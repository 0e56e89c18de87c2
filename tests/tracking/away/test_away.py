"""A server that goes away and comes back, and what a run does meanwhile; the store itself is a real one."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from requests import ConnectionError as NoConnection

from ccsweep import interrupt
from ccsweep.errors import UserError
from ccsweep.tracking.away import wait
from ccsweep.tracking.away.spool import Spool, send_kept
from ccsweep.tracking.away.wait import Away, Waiting, wait_for, why_away
from ccsweep.tracking.reach import check_reachable
from ccsweep.tracking.run import Run


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """Of a server that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.fixture
def nobody(server: str) -> str:
    """Of a server that does not: nobody listens at port 1."""
    return "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "PAUSE", 0.01)


class Client:
    """What raises these errors, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def log(self, *, answer: str) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return answer


GONE = [
    MlflowException("no connection", INTERNAL_ERROR),
    NoConnection("of an artifact"),
    ConnectionResetError("reset"),
]


def test_a_call_is_made_again_until_the_server_is_back(
    server: str, nobody: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uris = [nobody] * len(GONE)
    monkeypatch.setattr(wait, "check_reachable", lambda uri: check_reachable(uris.pop() if uris else uri))
    client = Client(*GONE)
    assert Waiting(client, server, 10).log(answer="yes") == "yes"  # type: ignore[arg-type]
    assert client.calls == 4
    (line,) = caplog.messages
    assert line == (
        f"tracking.uri: {nobody} does not answer (Connection refused); start that server, or leave "
        "tracking.uri out to use a local store; waiting"
    )


def test_a_database_behind_the_server_that_is_away(server: str) -> None:
    client = Client(*[MlflowException("(psycopg.OperationalError) is closed", TEMPORARILY_UNAVAILABLE)] * 9)
    assert Waiting(client, server, 10).log(answer="yes") == "yes"  # type: ignore[arg-type]


def test_who_waited_too_long(nobody: str) -> None:
    client = Client(*GONE * 1000)
    with pytest.raises(Away) as caught:
        Waiting(client, nobody, 0.1).log(answer="never")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"tracking.uri: {nobody} does not answer (Connection refused)")
    assert client.calls > 2


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (MlflowException("a mistake", INVALID_PARAMETER_VALUE), 1),
        (ValueError("a bug"), 1),
        (MlflowException("the server's own mistake", INTERNAL_ERROR), wait.TRIES),
    ],
)
def test_what_is_not_for_being_away(error: Exception, calls: int, server: str) -> None:
    client = Client(*[error] * 9)
    with pytest.raises(type(error)):
        Waiting(client, server, 10).log(answer="never")  # type: ignore[arg-type]
    assert client.calls == calls


@pytest.mark.parametrize(("place", "seconds"), [("sqlite:////tmp/x.db", 10), ("http://127.0.0.1:1", 0)])
def test_a_file_is_never_away_and_nobody_has_to_wait(place: str, seconds: float) -> None:
    client = Client(*GONE)
    with pytest.raises(MlflowException):
        Waiting(client, place, seconds).log(answer="never")  # type: ignore[arg-type]
    assert client.calls == 1


def test_an_interrupt_makes_an_end_of_waiting(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "_waiting", True)
    with pytest.raises(Away):
        Waiting(Client(*GONE), nobody, 600).log(answer="never")  # type: ignore[arg-type]


def test_waiting_for_a_server(server: str, nobody: str) -> None:
    assert wait_for(server, 0)
    assert not wait_for(nobody, 0.05)
    assert why_away("sqlite:////tmp/x.db") is None


@pytest.fixture
def begun(start: Callable[..., Run], tmp_path: Path) -> tuple[Run, Path]:
    return start(patience=1.0), tmp_path / "run"


def log_all(run: Run, folder: Path) -> None:
    file = folder / "a.txt"
    file.write_text("of the run")
    run.log_metrics({"error": 2.5}, step=3)
    run.log_params({"ranks": [3, 4]})
    run.log_final({"test": 1.5}, ("digits", "ab"))
    run.set_tags({"about": "http://ann:s3cret@host"})
    run.log_artifact(file, "texts")
    run.end("FINISHED")


def test_what_is_kept_is_sent_as_it_would_have_been(
    begun: tuple[Run, Path], client: Any, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = begun

    def away(*args: Any, **options: Any) -> None:
        raise Away("tracking.uri: is away")

    with monkeypatch.context() as patch:
        patch.setattr(Waiting, "__getattr__", lambda self, name: away)
        patch.setattr("ccsweep.tracking.away.spool.why_away", lambda uri: "is away")
        log_all(run, folder)
    assert run.is_away
    assert client.get_run(run.id).info.status == "RUNNING"
    assert "s3cret" not in (folder / "spool" / "lines.jsonl").read_text()
    ended = json.loads((folder / "spool" / "lines.jsonl").read_text().splitlines()[-1])["time"]
    (folder / "a.txt").unlink()  # a copy was kept
    assert list(send_kept(folder.parent)) == [folder]
    stored = client.get_run(run.id)
    assert (stored.info.status, stored.info.end_time) == ("FINISHED", ended)
    assert stored.data.metrics == {"error": 2.5, "test": 1.5}
    assert stored.data.params == {"ranks": "[3, 4]"}
    assert stored.data.tags["about"] == "http://ann:***@host"
    assert [f.path for f in client.list_artifacts(run.id, "texts")] == ["texts/a.txt"]
    assert not (folder / "spool").exists()
    assert list(send_kept(folder.parent)) == []


def test_a_run_whose_store_is_back_goes_on_there(begun: tuple[Run, Path], client: Any) -> None:
    run, folder = begun
    Spool(folder).keep({"metrics": {"error": 1.0}, "step": 1, "time": 1000})
    log_all(run, folder)
    history = [(m.step, m.value) for m in client.get_metric_history(run.id, "error")]
    assert history == [(1, 1.0), (3, 2.5)]
    assert client.get_run(run.id).info.status == "FINISHED"
    assert not run.is_away


def test_a_store_that_is_still_away(tmp_path: Path, nobody: str) -> None:
    Spool(tmp_path).keep({"status": "FINISHED", "time": 1000})
    note = {"run_id": "ab" * 16, "uri": nobody, "folder": str(tmp_path)}
    (tmp_path / "run.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match="does not answer"):
        list(send_kept(tmp_path))
    words = [sys.executable, "-m", "ccsweep.tracking.away", str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True)
    assert (said.returncode, said.stderr.startswith(f"ccsweep: tracking.uri: {nobody} does not answer")) == (
        1,
        True,
    )
