"""Whose fault an error is: the user's, the machine's, or nobody's where a run was ended early."""

import errno
from collections.abc import Iterator


class UserError(Exception):
    """Something the user can mend.

    The message is ONE line that names the key or file, what was found, what was expected and the
    next step. ``ccsweep.app`` prints it without a traceback and exits with status 2.
    """


class Pruned(Exception):  # noqa: N818 - it ends a run, and nothing went wrong
    """A study ended this run early; the message is one line that says why."""


_FULL = {errno.ENOSPC, errno.EDQUOT}
_MACHINE_ERRNOS = {
    *(*_FULL, errno.EIO, errno.EROFS, errno.ESTALE),
    *(errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED),
}
_MACHINE_MESSAGES = ("CUDA out of memory", "CUDA error", "can't allocate memory", "cannot allocate memory")


def machine_fault(error: BaseException) -> BaseException | None:
    """What of an error is the machine's fault, and may go well another time: no memory, no disk, no server.

    An error also comes from what was being handled when it was raised: torch says only that it failed to
    write, and Python keeps the full disk as that error's context.
    """
    return next(filter(_is_the_machines, _causes(error)), None)


def is_full_disk(error: BaseException) -> bool:
    """Whether an error comes from a disk, or a quota, that is full."""
    return any(isinstance(cause, OSError) and cause.errno in _FULL for cause in _causes(error))


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is an interrupt, or what a library made of one: torch calls it a file half written."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error))


def first_line(error: BaseException) -> str:
    """What an error of another package says first, its kind where it says nothing."""
    line = str(error).strip().partition("\n")[0]
    return line.partition(". In PyTorch 2.6")[0] or type(error).__name__  # its advice is to trust the file


def _is_the_machines(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno in _MACHINE_ERRNOS or isinstance(error, ConnectionError)
    if isinstance(error, UserError):
        return str(error).startswith("tracking.uri:")  # settings are checked before: the store failed
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MACHINE_MESSAGES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
