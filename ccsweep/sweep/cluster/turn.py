"""Whose turn it is to look how far a study is and to take a trial: one worker's at a time, wherever it runs.

Hosts that share a database need not share a disk. A row of the study is locked in the database then, one that
Optuna only reads; that falls with the connection. A file's lock does where workers share a file anyway.
"""

import logging
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.study.folder import StudyFolder

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy.engine import Connection, Engine

LOCKING = ("postgresql", "mysql", "mariadb")
"""Databases that lock rows."""

log = logging.getLogger(__name__)


def turn(study: "Study", folder: StudyFolder, url: str | None) -> AbstractContextManager[Any]:
    """What a worker holds meanwhile; may be entered again and again, and may fail as the storage does.

    Args:
        study: as the worker has opened it.
        folder: of the study, on this host.
        url: ``sweep.storage``.
    """
    from filelock import FileLock

    if url is None or "://" not in url:
        return FileLock(folder.claim_lock)
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.engine import make_url

    backend = url.partition("://")[0].partition("+")[0]
    if backend in LOCKING:
        # Not one of Optuna's connections, and none while nobody asks: a server has few.
        return _Row(create_engine(url, poolclass=NullPool), study._study_id)
    if backend == "sqlite" and (database := make_url(url).database):
        return FileLock(Path(database).with_name(f".{Path(database).name}.{folder.name}.lock"))
    return FileLock(folder.claim_lock)


class _Row:
    """The row of the study's first objective."""

    def __init__(self, engine: "Engine", study_id: int) -> None:
        self._engine, self._study_id = engine, study_id
        self._connection: Connection | None = None

    def __enter__(self) -> None:
        from sqlalchemy import text

        query = "SELECT direction FROM study_directions WHERE study_id = :study AND objective = 0 FOR UPDATE"
        connection = self._engine.connect()
        try:
            connection.execute(text(query), {"study": self._study_id})
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def __exit__(self, *error: object) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        with suppress(Exception):  # it was lost, and the lock with it: what was done inside was done
            connection.close()
