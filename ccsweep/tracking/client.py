"""MLflow, imported late and kept quiet, and its errors in one line."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ccsweep.errors import UserError
from ccsweep.interrupt import finishing
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    # Each may be set differently outside, except that nothing is ever reported to MLflow's makers.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a lost server is noticed in about 15 s, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would print the password in it, too
}
# What the store or the disk did, as opposed to a mistake in a call, which keeps its traceback.
# BAD_REQUEST is MLflow's code for most errors of a database.
_STORE_CODES = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED", "BAD_REQUEST"}
_LOGIN_CODES = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}
_CLASSES = re.compile(r"\((?:\w+\.)+\w+\)\s*")
_SAID = {
    "database is locked": "another process has locked it",
    "readonly database": "it is read-only",
    "disk image is malformed": "it is damaged",
    "file is not a database": "it is damaged, or no database",
    "no such table": "tables are missing: it is damaged, or another program's",
    "no such column": "columns are missing: another version made it",
    "database or disk is full": "its disk is full",
    "unable to open database file": "its folder is not there, or not writable",
}


def configure_mlflow() -> None:
    """Import MLflow with its telemetry off and its loggers down; safe to call again.

    Takes about 2 s the first time. Has to run before anything else in the process imports mlflow.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (sets its loggers up when imported)

    # These print a traceback for every error that they also raise.
    for name in ("mlflow.store", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def connect(uri: str) -> "MlflowClient":
    """Return a client for the store at ``uri``, which ``store.prepare`` has seen before.

    The client may be used from several threads.

    Raises:
        UserError: the store cannot be opened, or its schema is from another MLflow.
    """
    configure_mlflow()
    from mlflow import MlflowClient

    with store_errors(uri):
        return MlflowClient(uri)


def plain(message: str) -> str:
    """What a database says, in a few words of its own: its first line, without the names of Python's classes.

    >>> plain("(sqlite3.OperationalError) attempt to write a readonly database\\n[SQL: ...]")
    'it is read-only'
    """
    line = _CLASSES.sub("", message.strip().partition("\n")[0])
    return next((words for said, words in _SAID.items() if said in line), mask(line))


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what the store or the disk did wrong into one line, and let no Ctrl-C cut a commit.

    Raises:
        UserError: in place of a store's or disk's error; other exceptions pass unchanged.
    """
    from mlflow.exceptions import MlflowException

    try:
        with finishing():
            yield
    except MlflowException as error:
        reason = plain(error.message)
        if "out-of-date database schema" in reason:
            raise UserError(
                f"tracking.uri: {mask(uri)} was made by another version of MLflow; copy it to a "
                f"safe place, then run: mlflow db upgrade {mask(uri)}"
            ) from error
        if "Invalid Host header" in error.message:  # MLflow 3 answers to the names that it was told
            raise UserError(
                f"tracking.uri: {mask(uri)} does not know that name for itself; start that server with "
                f"--allowed-hosts {urlsplit(uri).netloc.rpartition('@')[2]}"
            ) from error
        if error.error_code in _LOGIN_CODES:
            raise UserError(
                f"tracking.uri: {mask(uri)} refuses the login ({reason}); set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            ) from error
        if error.error_code in _STORE_CODES:
            raise UserError(
                f"tracking.uri: {mask(uri)} failed ({reason}); mend it and resume the run"
            ) from error
        raise
    except OSError as error:
        if error.errno not in _DISK_ERRNOS:
            raise
        raise UserError(
            f"tracking.uri: cannot write {error.filename or 'an artifact'} to {mask(uri)} "
            f"({error.strerror}); free the disk or choose another folder, then resume the run"
        ) from error
