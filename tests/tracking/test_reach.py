import socket
import time

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking import reach
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
