"""Who lives and who does not."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ccsweep.sweep import lease
from ccsweep.sweep.lease import Heartbeats, Lease


def test_a_lease_is_kept_fresh_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "w0.json"
    held = Lease(path, "w0")
    held.set(trial=3)
    time.sleep(1.5 * lease.BEAT)
    found = lease.read(path)
    assert found is not None
    assert (found["trial"], found["beat"], found["ended"]) == (3, 1, None)
    assert lease.runs_here(found)
    held.release(ended="done")
    found = lease.read(path)
    assert found is not None
    assert found["ended"] == "done"


def test_a_process_that_was_killed_is_dead_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from ccsweep.sweep.lease import Lease; Lease(Path(sys.argv[1]), 'w0'); time.sleep(60)"
    path = tmp_path / "w0.json"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        while (found := lease.read(path)) is None:
            time.sleep(0.02)
        assert Heartbeats().alive(found)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not Heartbeats().alive(found)


def test_another_process_with_the_same_number_is_not_taken_for_it() -> None:
    found = {"id": "w0", "host": socket.gethostname(), "pid": os.getpid(), "pid_started": "then", "beat": 1}
    assert not lease.runs_here(found)


def test_on_another_host_the_heart_has_to_beat() -> None:
    heartbeats = Heartbeats(silence=0.2)
    found = {"id": "w0", "host": "elsewhere", "pid": os.getpid(), "pid_started": "x", "beat": 1}
    assert heartbeats.alive(found)
    time.sleep(0.1)
    assert heartbeats.alive(found | {"beat": 2})
    time.sleep(0.15)
    assert heartbeats.alive(found | {"beat": 2})
    time.sleep(0.1)
    assert not heartbeats.alive(found | {"beat": 2})


def test_a_file_that_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / "half").write_text('{"id": ')
    assert lease.read(tmp_path / "half") is None
    assert lease.read(tmp_path / "none") is None
