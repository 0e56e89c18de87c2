"""What makes a process a worker: its log, its signals, and that it ends with its sweeper.

A cluster announces the end of a job's time with a signal (submitit asks for USR2, 90 seconds before). It may
come anywhere, so it interrupts as SIGTERM does, and :func:`time_is_up` says afterwards which it was.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccsweep.tracking.mask import mask_log_records, mask_streams

GONE = "the sweeper is gone"
MISSES = 3  # looks, a second apart, at which it was not there
GRACE = 15.0  # seconds for a trial to end then

log = logging.getLogger(__name__)


def forget_pickle() -> None:
    """Remove the file that this process was started from: passwords may be in it."""
    import submitit

    with suppress(Exception):
        submitit.JobEnvironment().paths.submitted_pickle.unlink()


def redirect(path: Path) -> None:
    """Send all that is printed, also by C code, to the worker's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    import faulthandler

    faulthandler.enable()
    mask_log_records()
    mask_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name in ("ccsweep.sweep", "ccsweep.study"):  # Hydra sets the root's handlers anew for every job
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False


_time_is_up = threading.Event()


def time_is_up() -> bool:
    """Whether the cluster has announced the end of this process."""
    return _time_is_up.is_set()


def install_signals() -> None:
    """SIGTERM, or the end of a job's time, ends a trial as Ctrl-C does; a second one cuts nothing short."""
    from submitit import JobEnvironment

    from ccsweep import interrupt

    interrupt.install()
    first = signal.getsignal(signal.SIGTERM)
    near_end = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]

    def once(signum: int, frame: Any) -> None:
        for number in (signal.SIGTERM, near_end):
            signal.signal(number, signal.SIG_IGN)
        if signum == near_end:
            _time_is_up.set()
        assert callable(first)
        first(signum, frame)

    for number in (signal.SIGTERM, near_end):
        signal.signal(number, once)
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's are for the sweeper
        signal.signal(number, signal.SIG_IGN)


class Tie:
    """Ends this process when its sweeper is gone, and lets no trial run on without it.

    Args:
        is_there: whether the sweeper is, as far as one look tells.
        give_up: called before a process ends at once, whose trial does not listen.
    """

    def __init__(self, is_there: Callable[[], bool], give_up: Callable[[], None]) -> None:
        self._is_there, self._give_up = is_there, give_up
        self._missed = 0
        self._gone_since: float | None = None

    @property
    def broken(self) -> bool:
        """Whether the sweeper is gone."""
        return self._gone_since is not None

    def look(self) -> None:
        """To be called about every second, not in the main thread."""
        self._missed = 0 if self._is_there() else self._missed + 1
        if self._missed < MISSES:
            return
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
            log.warning("%s", GONE)
            os.kill(os.getpid(), signal.SIGTERM)
        elif now - self._gone_since > GRACE:
            self._give_up()
            os._exit(1)
