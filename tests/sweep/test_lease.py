"""Who lives and who does not."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty beats a second."""
    monkeypatch.setattr(lease, "BEAT", 0.05)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_what_a_lease_says(tmp_path: Path) -> None:
    held = Lease(tmp_path / "w0.json", "w0")
    contents = held.contents
    assert contents == lease.read(held.path)
    assert abs(contents.pop("began") - time.time()) < 60
    assert contents.pop("beat") in (0, 1)
    assert contents == {
        "id": "w0",
        "path": str(held.path),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_started": lease.started(os.getpid()),
        "ended": None,
    }
    contents["id"] = "other"  # a copy
    assert held.contents["id"] == "w0"
    held.release()


@pytest.mark.usefixtures("quick")
def test_each_beat_may_end_it(tmp_path: Path) -> None:
    beats = []

    def each_beat() -> None:
        beats.append(threading.current_thread())
        if len(beats) == 3:
            held.release(ended="by itself")

    held = Lease(tmp_path / "w0.json", "w0", each_beat)
    until(lambda: (lease.read(held.path) or {}).get("ended"))
    held.release()
    assert len(beats) == 3
    assert beats[0].daemon  # no reason for a process not to end
    assert beats[0].name == "heartbeat"


@pytest.mark.usefixtures("quick")
def test_a_disk_that_fails_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    held = Lease(folder / "w0.json", "w0")
    until(lambda: held.contents["beat"] > 1)
    folder.rename(tmp_path / "away")
    before = held.contents["beat"]
    until(lambda: held.contents["beat"] > before + 2)
    folder.mkdir()
    until(held.path.exists)
    folder.rename(tmp_path / "gone")
    held.release(ended="done")
    assert held.contents["ended"] == "done"


def test_when_a_process_was_started() -> None:
    began = lease.started(os.getpid())
    assert began is not None
    boot, _, ticks = began.partition(":")
    assert Path("/proc/sys/kernel/random/boot_id").read_text().startswith(f"{boot}-")
    since_boot = psutil.Process().create_time() - psutil.boot_time()
    assert int(ticks) / os.sysconf("SC_CLK_TCK") == pytest.approx(since_boot, abs=2)
    own_name = Path("/proc/self/comm")
    name = own_name.read_text()
    own_name.write_text("a) b (c")  # as anyone may call a program
    try:
        assert lease.started(os.getpid()) == began
    finally:
        own_name.write_text(name)


def test_a_process_that_has_ended_was_never_started() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # and nobody has asked how
        assert Path(f"/proc/{process.pid}").exists()
        assert lease.started(process.pid) is None
    assert lease.started(process.pid) is None


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
    (tmp_path / "list").write_text("[1, 2]")
    assert lease.read(tmp_path / "list") is None
    for name, value in {
        "pid": "4",
        "ended": 0,
        "beat": None,
        "host": None,
        "id": 7,
        "pid_started": 1,
    }.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(said(path) | {name: value}))
        assert lease.read(path) is None


def said(path: Path) -> dict[str, object]:
    """What a lease of this process would say."""
    known = {"id": "w0", "path": os.path.realpath(path), "host": socket.gethostname(), "pid": os.getpid()}
    return known | {"pid_started": lease.started(os.getpid()), "beat": 1, "ended": None}


def test_a_lease_that_was_copied_or_moved_is_none(tmp_path: Path) -> None:
    for name in ("study", "copy"):
        (tmp_path / name).mkdir()
    path = tmp_path / "study" / "w0.json"
    path.write_text(json.dumps(said(path)))
    shutil.copy(path, tmp_path / "copy")
    assert lease.read(path) == said(path)
    assert lease.read(tmp_path / "copy" / "w0.json") is None
    (tmp_path / "study").rename(tmp_path / "moved")
    assert lease.read(tmp_path / "moved" / "w0.json") is None


def test_only_a_process_that_was_started_as_this_worker_is_one(tmp_path: Path) -> None:
    path = tmp_path / "w0.json"
    path.write_text(json.dumps(said(path)))
    found = lease.read(path)
    assert found is not None
    assert lease.runs_here(found)
    assert not lease.is_worker(found)  # this test lives, but nobody started it as a worker
    for started_as, is_one in ((path, True), (tmp_path / "w1.json", False)):
        with subprocess.Popen(["sleep", "60"], env={lease.WORKER: str(started_as)}) as process:
            until(psutil.Process(process.pid).environ)  # for a moment it is still this process
            found |= {"pid": process.pid, "pid_started": lease.started(process.pid)}
            assert lease.is_worker(found) == is_one
            process.kill()
            process.wait()
            assert not lease.is_worker(found)
