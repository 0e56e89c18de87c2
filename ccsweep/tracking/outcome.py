"""What an exception that leaves a run means for the run's status."""

from typing import Literal

from ccsweep.errors import Pruned, UserError, is_interrupt
from ccsweep.tracking.mask import mask

Status = Literal["FINISHED", "FAILED", "KILLED"]


def status_after(error: BaseException | None) -> Status:
    """Return the status of a run whose ``with`` was left by ``error``, None being success.

    KILLED is for a run that somebody stopped: Ctrl-C, a study, or an exit that stands for a signal. A plain
    exit counts by its code, as a shell counts it.
    """
    if error is None:
        return "FINISHED"
    if isinstance(error, Pruned) or is_interrupt(error):  # of which Lightning makes a sys.exit(1)
        return "KILLED"
    if isinstance(error, SystemExit):
        if type(error) is not SystemExit:  # what Lightning makes of SIGTERM
            return "KILLED"
        if error.code is None or error.code == 0:
            return "FINISHED"
        if isinstance(error.code, int) and error.code > 128:  # 128 + the number of a signal
            return "KILLED"
    return "FAILED"


def describe(error: BaseException) -> str:
    """Return ``error`` in one line without passwords; a UserError's message is one already."""
    message = " ".join(mask(str(error)).split())
    if isinstance(error, UserError | Pruned):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
