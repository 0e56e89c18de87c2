"""What a job sees on its node; it runs there."""

import platform
import shutil
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ccsweep.sweep.cluster import gpus


@dataclass
class Seen:
    """How it is on a node."""

    host: str
    python: str
    token_read: bool
    lock_held: bool
    """Whether a lock that the asker holds is held here, too."""
    skew: float
    """Seconds that this clock is ahead of the one of the files."""
    free: int
    """Bytes on the disk of the files."""
    gpus: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    """Addresses that do not answer from here."""


def look(token: Path, lock: Path, *addresses: str | None) -> Seen:
    """Look at everything.

    Args:
        token: a file that was just written; an answer is written beside it.
        lock: held by who asks.
        addresses: of servers that workers need.
    """
    from filelock import FileLock, Timeout

    held = False
    try:
        FileLock(lock).acquire(timeout=0)
    except Timeout:
        held = True
    answer = token.with_suffix(".back")
    read = False
    with suppress(OSError):
        read = token.read_text() == "written here"
        answer.write_text("written there")
    now, written = time.time(), answer.stat().st_mtime if answer.exists() else 0.0
    package = Path(__file__).parents[2]
    return Seen(
        host=socket.gethostname(),
        python=f"Python {platform.python_version()} at {sys.executable}, ccsweep at {package}",
        token_read=read,
        lock_held=held,
        skew=now - written,
        free=shutil.disk_usage(token.parent).free,
        gpus=gpus.visible(),
        unreachable=[said for address in addresses if (said := _unreachable(address)) is not None],
    )


def _unreachable(address: str | None) -> str | None:
    parts = urlsplit(address or "")
    if not parts.hostname:
        return None
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 5432)
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        return f"{parts.hostname}:{port} does not answer ({error.strerror or error})"
    return None
