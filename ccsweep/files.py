"""Files that are written whole or not at all, and locks that fall with the process that holds them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ccsweep.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place beside ``path`` to write a file to; once on the disk it takes the place of ``path``.

    An error or a kill inside leaves the file that was there, or none. A link is followed and stays a link;
    a device or a pipe, which nothing can take the place of, is itself what is written to.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def sole(lock: Path, refusal: str, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``lock``, a file that is made with its folder and stays; one process at a time does.

    Args:
        lock: what processes, also of several hosts, have in common.
        refusal: one line for who finds it held.
        seconds: to wait before that.

    Raises:
        UserError: ``refusal``.
    """

    def refuse() -> None:
        raise UserError(refusal)

    with in_turn(lock, refuse, seconds):
        yield


@contextmanager
def in_turn(lock: Path, tell: Callable[[], object] = lambda: None, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``lock`` as :func:`sole` does, but wait for it as long as it takes.

    Args:
        lock: what processes have in common.
        tell: called once where there is still someone to wait for after ``seconds``.
        seconds: to wait before that.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=seconds)
    except Timeout:
        tell()
        held.acquire()
    try:
        yield
    finally:
        held.release()
