"""Who is at work on a study: small files that their owners keep fresh.

A lease names its own path, host, process and when that process was started: one that was copied with its
study is none, and a process number that is given to another process later is not taken for its owner. On
another host only its heartbeat, a counter, tells that it lives: it is compared by the clock of who looks, so
no two clocks have to agree.

Others may be able to write into a study's folder, so what a file says is no reason to end a process. A worker
is started with the path of its lease in its environment, and only a process that has it there is one.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccsweep.files import write_text
from ccsweep.study.folder import StudyFolder

BEAT = 1.0
"""Seconds between two beats."""

SILENCE = 45.0
"""Seconds without a beat after which an owner on another host counts as dead."""

WORKER = "CCSWEEP_WORKER"
"""The variable of a worker's environment that holds the path of its lease."""

Contents = dict[str, Any]

_FIELDS = {"id": str, "host": str, "pid": int, "pid_started": str | None, "beat": int, "ended": str | None}


def started(pid: int) -> str | None:
    """When the process ``pid`` was started, in a form only good for comparing; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in ("Z", "X"):  # ended, and not yet waited for
            return None
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()[:8]}:{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    except OSError:
        return None
    import psutil  # where there is no /proc

    with suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.1f}"
    return None


def read(path: Path) -> Contents | None:
    """What a lease says; None where there is none that can be read, or it is that of another folder."""
    try:
        contents = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(contents, dict) or contents.get("path") != os.path.realpath(path):
        return None
    whole = all(isinstance(contents.get(name), kind) for name, kind in _FIELDS.items())
    return contents if whole else None


def runs_here(lease: Contents) -> bool:
    """Whether the owner is a live process of this host."""
    owner = lease["pid_started"]
    return lease["host"] == socket.gethostname() and owner is not None and started(lease["pid"]) == owner


def at_work(place: StudyFolder) -> list[Contents]:
    """The leases of workers that live: their process does, or, on another host, their lease is fresh."""
    found = []
    for path in place.leases():
        lease = read(path)
        if lease is None or lease.get("ended") is not None:
            continue
        if lease["host"] == socket.gethostname():
            alive = runs_here(lease)
        else:  # one look cannot compare heartbeats, so the file system's clock has to do
            alive = time.time() - path.stat().st_mtime < SILENCE
        if alive:
            found.append(lease)
    return found


def is_worker(lease: Contents) -> bool:
    """Whether the owner is a live process of this host that was started as the worker of this lease."""
    import psutil

    if not runs_here(lease):
        return False
    try:
        return bool(psutil.Process(lease["pid"]).environ().get(WORKER) == lease["path"])
    except psutil.Error:  # another user's, or it has just ended
        return False


class Heartbeats:
    """Tells whether the owners of leases live, from one look to the next."""

    def __init__(self, silence: float = SILENCE) -> None:
        self._silence = silence
        self._beats: dict[str, tuple[int, float]] = {}

    def alive(self, lease: Contents) -> bool:
        """Whether the owner is a live process here, or was heard of within the time of silence."""
        if lease["host"] == socket.gethostname():
            return runs_here(lease)
        beat, heard = self._beats.get(lease["id"], (-1, 0.0))
        now = time.monotonic()
        if lease["beat"] != beat:
            self._beats[lease["id"]] = (lease["beat"], now)
            return True
        return now - heard < self._silence


class Lease:
    """A lease of this process, kept fresh by a thread until it is released.

    Args:
        path: of its file.
        name: the owner's id.
        each_beat: called in the thread about every second, and may end the process.
    """

    def __init__(self, path: Path, name: str, each_beat: Callable[[], None] | None = None) -> None:
        self.path = path
        self._each_beat = each_beat
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._contents: Contents = {
            "id": name,
            "path": os.path.realpath(path),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": started(os.getpid()),
            "beat": 0,
            "began": time.time(),
            "ended": None,
        }
        self.set()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def contents(self) -> Contents:
        """What it says now."""
        return dict(self._contents)

    def set(self, **values: Any) -> None:
        """Change what it says, at once."""
        with self._lock:
            self._contents |= values
            write_text(self.path, json.dumps(self._contents) + "\n")

    def set_if_possible(self, **values: Any) -> None:
        """Change what it says, unless the disk is full."""
        with suppress(OSError):
            self.set(**values)

    def release(self, **values: Any) -> None:
        """Stop the heartbeat; the file stays, for who wants to know who did what."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.set_if_possible(**values)  # a full disk must not hide why this process ends

    def _keep(self) -> None:
        while not self._over.wait(BEAT):
            self.set_if_possible(beat=self._contents["beat"] + 1)
            if self._each_beat is not None:
                self._each_beat()
