"""A client that waits for its server: one that is started anew costs no run."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ccsweep import interrupt
from ccsweep.errors import UserError
from ccsweep.tracking.client import plain
from ccsweep.tracking.mask import mask
from ccsweep.tracking.reach import check_reachable
from ccsweep.tracking.store import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE = 2.0
"""Seconds between two looks."""
TRIES = 3
"""Of a call that fails though its server answers."""

log = logging.getLogger(__name__)


class Away(UserError):  # noqa: N818 - what its store is
    """The store stayed away for longer than a run waits."""


class Waiting:
    """MLflow's client, each of whose calls is made again while its server is away.

    Args:
        client: of the store at ``uri``.
        uri: of the store; a file is never away.
        seconds: to wait, after which a call raises :class:`Away`.
    """

    def __init__(self, client: "MlflowClient", uri: str, seconds: float) -> None:
        self._client, self._uri, self._seconds = client, uri, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or self._seconds <= 0 or sqlite_path(self._uri) is not None:
            return found
        return lambda *args, **options: self._call(lambda: found(*args, **options))

    def _call(self, action: Callable[[], Any]) -> Any:
        began, tries = time.monotonic(), 0
        while True:
            try:
                return action()
            except Exception as error:
                tries += 1
                reason = why_away(self._uri) if _may_be_away(error) else None
                if reason is None and _is_unavailable(error):
                    reason = f"tracking.uri: {mask(self._uri)} failed ({plain(str(error))})"
                if reason is None and (tries >= TRIES or not _may_be_away(error)):
                    raise
                if interrupt.is_pending() or time.monotonic() - began > self._seconds:
                    raise Away(reason or str(error)) from error
                if tries == 1:
                    log.warning("%s; waiting", reason or plain(str(error)))
            time.sleep(PAUSE)


def why_away(uri: str) -> str | None:
    """Why the server behind ``uri`` does not answer; None if it does, and for a file."""
    if sqlite_path(uri) is not None:
        return None
    try:
        check_reachable(uri)
    except UserError as error:
        return str(error)
    return None


def wait_for(uri: str, seconds: float) -> bool:
    """Wait until the server behind ``uri`` answers, so long at most; whether it does."""
    began, told = time.monotonic(), False
    while (reason := why_away(uri)) is not None and time.monotonic() - began < seconds:
        if not told:
            log.warning("%s; waiting", reason)
            told = True
        time.sleep(PAUSE)
    return reason is None


def _may_be_away(error: Exception) -> bool:
    """Whether a server that is not there may be why; artifacts come with errors of their own kind."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        return error.error_code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")
    return isinstance(error, RequestException | ConnectionError)


def _is_unavailable(error: Exception) -> bool:
    """Whether the server answers, and what is behind it does not."""
    return getattr(error, "error_code", None) == "TEMPORARILY_UNAVAILABLE"
