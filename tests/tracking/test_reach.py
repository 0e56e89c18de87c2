import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking import reach
from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.reach import check_reachable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql+psycopg2"])
def test_nobody_listens(scheme):
    port = free_port()
    with pytest.raises(UserError) as caught:
        check_reachable(f"{scheme}://ann:pw@127.0.0.1:{port}/x")
    assert str(caught.value) == (
        f"tracking.uri: {scheme}://ann:***@127.0.0.1:{port}/x does not answer (Connection "
        "refused); start that server, or leave tracking.uri out to use a local store"
    )


def test_somebody_listens_and_says_nothing(monkeypatch):
    monkeypatch.setattr(reach, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UserError, match=r"does not answer \(no answer within 0 s\)"):
            check_reachable(uri)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("uri", ["http://", "http://host:port"])
def test_no_address(uri):
    with pytest.raises(UserError, match="names no host and port; expected for example http://"):
        check_reachable(uri)


def test_a_name_that_does_not_exist():
    with pytest.raises(UserError, match="does not answer"):
        check_reachable("http://no-such-host.invalid:5000")


def test_a_server_that_was_not_told_its_name():
    """As MLflow 3 answers, but for /health, which it answers to everybody."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 403)
            self.end_headers()
            self.wfile.write(b"Invalid Host header - possible DNS rebinding attack detected")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://ann:pw@127.0.0.1:{server.server_port}"
        check_reachable(uri)
        with pytest.raises(UserError) as caught, store_errors(uri):
            connect(uri).search_experiments()
        server.shutdown()
    assert str(caught.value) == (
        f"tracking.uri: {uri.replace('pw', '***')} does not know that name for itself; start that server with "
        f"--allowed-hosts 127.0.0.1:{server.server_port}"
    )
