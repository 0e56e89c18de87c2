"""Where a study's trials are kept: a journal file in its folder, or any storage that Optuna knows.

A journal that was cut off (a full disk, a crash of the machine) is mended before a sweep goes on; what the
lost lines said is in the trials' own folders, see :mod:`ccsweep.study.record`.
"""

import json
import logging
import os
import shutil
import socket
import time
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ccsweep.errors import UserError
from ccsweep.files import whole
from ccsweep.interrupt import finishing
from ccsweep.study.folder import StudyFolder
from ccsweep.tracking.client import plain
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import describe

if TYPE_CHECKING:  # half a second
    from optuna import Study
    from optuna.storages import BaseStorage

SECONDS = 5.0
PATIENCE = 60.0
"""Seconds that a storage may be away for while a sweep runs."""
_LOCK_SECONDS = 10  # after which the journal's lock, held for milliseconds, is one that a killed process left
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_HINT = "start that server, or leave sweep.storage out for a file in the study's folder"

log = logging.getLogger(__name__)
T = TypeVar("T")


def connect(folder: StudyFolder, url: str | None, ready: bool = False) -> "BaseStorage":
    """The storage at ``url``, which answers; without one, the journal file in ``folder``.

    Args:
        folder: of the study.
        url: ``sweep.storage``.
        ready: its schema is known to be there, as it is for a worker: saves half a second.

    Raises:
        UserError: nobody answers, the URL means nothing, or a file cannot be read or written.
    """
    _quiet()
    if url is not None:
        return _database(url, ready)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from optuna.storages.journal._file import get_lock_file  # Optuna has no public one

    class Whole(JournalFileBackend):
        """A journal of whole lines: half a line, on a full disk, would spoil what others write after it.

        An interrupt in the middle of Optuna's release of its lock would break or keep the lock.
        """

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
            with finishing(), get_lock_file(self._lock), open(path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    while lines:
                        lines = lines[file.write(lines) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise

    path = folder.journal
    try:
        lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
        return JournalStorage(Whole(str(path), lock_obj=lock))
    except OSError as error:
        raise _unwritable(path, error) from error
    except Exception as error:  # Optuna raises a dozen kinds, one for each way a line can be wrong
        raise UserError(f"{path}: is damaged; run its sweep again, which mends it") from error


def open_study(folder: StudyFolder, storage: str | None = None, ready: bool = False) -> "Study":
    """Open a study that exists; nothing is written.

    Args:
        folder: of the study; its name is the study's.
        storage: ``sweep.storage``, null for the journal file in the folder.
        ready: as for :func:`connect`.

    Raises:
        UserError: there is no such study, or its storage does not answer.
    """
    import optuna

    if storage is None and not folder.journal.is_file():
        if folder.definition.is_file():
            raise UserError(
                f"sweep.name={folder.name}: its trials are kept elsewhere; give sweep.storage=URL, too"
            )
        raise UserError(f"sweep.name={folder.name}: {folder.path} holds no study; {_known(folder)}")
    store = connect(folder, storage, ready)
    try:
        return optuna.load_study(study_name=_name(folder, store, storage), storage=store)
    except KeyError:
        place = folder.journal if storage is None else mask(storage)
        raise UserError(f"sweep.name={folder.name}: {place} holds no study of that name") from None


def create(folder: StudyFolder, url: str | None, objectives: dict[str, str]) -> "Study":
    """Open the study of ``folder``, or begin it; its schema is there when this returns.

    Args:
        folder: of the study.
        url: ``sweep.storage``.
        objectives: directions by key of the report.

    Raises:
        UserError: the storage cannot be used.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    storage = connect(folder, url)
    directions: list[Any] = list(objectives.values())
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=_name(folder, storage, url),
            directions=directions,
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if not study.metric_names:
                study.set_metric_names(list(objectives))
    except OSError as error:
        raise _unwritable(folder.journal, error) from error
    except Exception as error:
        if url is None:
            raise
        raise UserError(f"sweep.storage={mask(url)}: failed ({_reason(error)}); {_HINT}") from error
    return study


def mend(folder: StudyFolder) -> bool:
    """Cut the journal off before the first line that cannot be read, keeping a copy; whether there was one.

    What comes after such a line may speak of other trials than it did: trials are counted in the order of
    their lines. Nobody else may be using the file.
    """
    path = folder.journal
    for lock in path.parent.glob(f"{path.name}.lock*"):  # of a process that was killed while it wrote
        lock.unlink(missing_ok=True)
    if not path.is_file():
        return False
    good = []
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            ok = line.endswith(b"\n") and isinstance(json.loads(line), dict)
        except ValueError:
            ok = False
        if not ok:
            break
        good.append(line)
    if not _plays(good):  # a line may be whole, and say what cannot be
        good = good[: bisect_left(range(len(good)), True, key=lambda count: not _plays(good[: count + 1]))]
    if len(good) == len(lines):
        return False
    copy = _free(path.with_name(f"{path.name}.damaged"))
    shutil.copy2(path, copy)
    with whole(path) as partial:
        partial.write_bytes(b"".join(good))
    log.warning(
        "%s: the last %d of %d lines are damaged and were dropped; the file as it was is kept in %s",
        path,
        len(lines) - len(good),
        len(lines),
        copy.name,
    )
    return True


def _plays(lines: list[bytes]) -> bool:
    """Whether Optuna can read a journal of these lines."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    class Lines(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            return map(json.loads, lines[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise OSError("a journal that is tried is only read")

    try:
        for study in (storage := JournalStorage(Lines())).get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
        return True
    except Exception:
        return False


def persistently(action: Callable[[], T]) -> T:
    """Do it, and again for a minute while the storage does not answer; returns what it returns.

    An interrupt waits for it: in the middle of a commit it could leave half of it.

    Raises:
        StorageInternalError, OSError: the storage stayed away.
    """
    from optuna.exceptions import StorageInternalError

    began, pause = time.monotonic(), 0.5
    while True:
        try:
            with finishing():
                return action()
        except (StorageInternalError, OSError) as error:
            if time.monotonic() - began > PATIENCE:
                raise
            log.warning("the storage failed, trying again: %s", describe(error))
            time.sleep(pause)
            pause = min(2 * pause, 8.0)


def _name(folder: StudyFolder, storage: "BaseStorage", url: str | None) -> str:
    """The study's name in its storage: the one in a folder's own journal, whatever the folder is called."""
    studies = storage.get_all_studies() if url is None else []
    return studies[0].study_name if studies else folder.name


def _database(url: str, ready: bool) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = f"sweep.storage={mask(url)}"
    options: dict[str, Any] = {}
    try:
        parts = make_url(url)
        backend = parts.get_backend_name()
        if parts.host:  # a database driver may wait for minutes for a host that is not there
            port = parts.port or _PORTS.get(backend, 0)
            socket.create_connection((parts.host, port), timeout=SECONDS).close()
        if backend == "sqlite":
            options = {"connect_args": {"timeout": 60}}
        if not ready:
            engine = create_engine(url, **options)
            engine.connect().close()
            engine.dispose()
    except OSError as error:
        reason = f"no answer in {SECONDS:.0f} s" if isinstance(error, TimeoutError) else _reason(error)
        raise UserError(f"{shown}: does not answer ({reason}); {_HINT}") from error
    except (ArgumentError, NoSuchModuleError, ValueError, OverflowError) as error:
        raise UserError(
            f"{shown}: is no URL of a storage; expected for example sqlite:////tmp/study.db or "
            "postgresql+psycopg://user@host/name"
        ) from error
    except ImportError as error:
        raise UserError(f"{shown}: {error.name or error} is not installed; pip install it") from error
    except SQLAlchemyError as error:
        raise UserError(f"{shown}: cannot be opened ({_reason(error)}); {_HINT}") from error
    try:
        return RDBStorage(
            url, engine_kwargs=options, skip_compatibility_check=ready, skip_table_creation=ready
        )
    except Exception as error:
        raise UserError(f"{shown}: cannot be used ({_reason(error)}); {_HINT}") from error


def _quiet() -> None:
    """Optuna's own lines about each trial are not for who runs a sweep."""
    from optuna import logging as optuna_logging

    optuna_logging.set_verbosity(optuna_logging.WARNING)


def _known(folder: StudyFolder) -> str:
    around = folder.path.parent
    names = sorted(p.parent.name for p in around.glob(f"*/{folder.journal.name}"))
    return f"in {around} there are {', '.join(names)}" if names else f"{around} holds none at all"


def _free(path: Path) -> Path:
    free, count = path, 1
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}{count}")
    return free


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be used ({_reason(error)}); choose another sweep.name or hydra.sweep.dir"
    )


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # Optuna and SQLAlchemy pass on what the database said
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return plain(str(error)) or type(error).__name__
