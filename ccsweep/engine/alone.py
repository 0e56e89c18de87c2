"""One timing at a time on a host: two would measure each other."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger("ccsweep.engine")


def lock_file() -> Path:
    """What a process of this user holds while it times."""
    return Path(tempfile.gettempdir()) / f"ccsweep-timing-{os.getuid()}.lock"


@contextmanager
def alone() -> Iterator[None]:
    """Time nothing else of this user's on this host meanwhile; says so when it has to wait.

    The lock falls with the process, however that ends. It keeps timings apart, not a timing and a
    training beside it.
    """
    lock = FileLock(lock_file())
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another run on this host to end its timing")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
