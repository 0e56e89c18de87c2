"""What an exception that ended a trial says about whose fault it was."""

import errno
from collections.abc import Iterator

from ccsweep.errors import UserError
from ccsweep.study.trials import MACHINE, TRIAL

_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.EROFS,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
}
_MESSAGES = ("CUDA out of memory", "CUDA error", "can't allocate memory", "cannot allocate memory")


def kind_of(error: BaseException) -> str:
    """``MACHINE`` for what may go well another time: no memory, no disk, a server that is away."""
    return MACHINE if any(map(_is_the_machines, _causes(error))) else TRIAL


def _is_the_machines(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno in _ERRNOS or isinstance(error, ConnectionError)
    if isinstance(error, UserError):
        return str(error).startswith("tracking.uri:")  # settings are checked before: the store failed
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__
