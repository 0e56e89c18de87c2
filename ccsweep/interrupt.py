"""Ctrl-C, a scheduler's SIGTERM and a closed terminal as one thing, never in the middle of a commit.

An exception raised between two lines of a database driver may leave its transaction open, and then
the run that is being stopped cannot even be marked as stopped.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_depth = 0
_waiting = False


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, at once or when :func:`finishing` ends."""
    signal.signal(signal.SIGTERM, _interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and scripts ask for
            signal.signal(number, _interrupt)


@contextmanager
def finishing() -> Iterator[None]:
    """Let what is inside finish before an interrupt; a second interrupt does not wait.

    Only the main thread is ever interrupted: what another one is finishing, it finishes in any case.
    """
    global _depth, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _waiting and _depth == 0:
            _waiting = False
            raise KeyboardInterrupt


def is_pending() -> bool:
    """Whether an interrupt waits for what is being finished, which should make haste."""
    return _waiting


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _waiting
    if _depth > 0 and not _waiting:
        _waiting = True
        return
    _waiting = False
    raise KeyboardInterrupt
