"""Where a study's trials are kept: a journal file in its folder, or any storage that Optuna knows.

Each call of a storage is made again for a minute while it does not answer, whoever makes it: a database may
be started anew at any moment.
"""

import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from ccsweep.errors import UserError
from ccsweep.files import is_special
from ccsweep.interrupt import finishing
from ccsweep.study.folder import StudyFolder
from ccsweep.tracking.client import plain
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:  # half a second
    from optuna import Study
    from optuna.storages import BaseStorage

SECONDS = 5.0
PATIENCE = 60.0
"""Seconds that a storage may be away for while a sweep runs."""
_LOCK_SECONDS = 10  # after which the journal's lock, held for milliseconds, is one that a killed process left
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_HINT = "start that server, or leave sweep.storage out for a file in the study's folder"
_DRIVER = "write postgresql+psycopg://, for which pip install 'ccsweep[cluster]' brings the driver"
_ADVICE = {
    "password": "put it into ~/.pgpass or PGPASSWORD",
    "does not exist": "make it there first, or name one that is there",
}
"""By what a server says to somebody it does not let in."""

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
    return _patient(_connect(folder, url, ready))


def _connect(folder: StudyFolder, url: str | None, ready: bool = False) -> "BaseStorage":
    """The same, whose calls are made once."""
    _quiet()
    if url is not None and url.startswith("grpc:"):
        return _proxy(url)
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

    storage = _connect(folder, url)  # who begins a study is told at once what is wrong with its storage
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
        raise UserError(f"sweep.storage={mask(url)}: failed ({reason_of(error)}); {_HINT}") from error
    return optuna.load_study(study_name=study.study_name, storage=_patient(storage))


def persistently(
    action: Callable[[], T], ends_trial: bool = False, also: tuple[type[Exception], ...] = ()
) -> T:
    """Do it, and again for a minute while the storage does not answer; returns what it returns.

    An interrupt waits for it: in the middle of a commit it could leave half of it.

    Args:
        action: calls the storage.
        ends_trial: having been done counts as doing it.
        also: errors that mean the same, of who opens the storage.

    Raises:
        StorageInternalError, OSError: the storage stayed away.
    """
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

    began, pause, away = time.monotonic(), 0.5, None
    while True:
        try:
            with finishing():
                return action()
        except UpdateFinishedTrialError:
            if away is None or not ends_trial:
                raise
            return True  # type: ignore[return-value]  # it was, and only the answer was lost
        except (*_failures(), *also) as error:
            away = error
        if time.monotonic() - began > PATIENCE:
            if isinstance(away, (StorageInternalError, OSError, *also)):
                raise away
            raise StorageInternalError(reason_of(away)) from away
        log.warning("the storage failed, trying again: %s", reason_of(away))
        time.sleep(pause)
        pause = min(2 * pause, 8.0)


def _failures() -> tuple[type[BaseException], ...]:
    """What a storage raises that does not answer; in a commit Optuna hands on what its driver raises."""
    from optuna.exceptions import StorageInternalError

    found: list[type[BaseException]] = [StorageInternalError, OSError]
    if (sqlalchemy := sys.modules.get("sqlalchemy.exc")) is not None:
        found += [sqlalchemy.OperationalError, sqlalchemy.InterfaceError]
    if (grpc := sys.modules.get("grpc")) is not None:
        found.append(grpc.RpcError)
    return tuple(found)


def _patient(storage: "BaseStorage") -> "BaseStorage":
    """The same storage, each call of it made :func:`persistently`."""
    from optuna.storages import BaseStorage

    def method(name: str) -> Callable[..., Any]:
        def call(self: BaseStorage, *args: Any, **options: Any) -> Any:
            action = getattr(storage, name)
            return persistently(lambda: action(*args, **options), name == "set_trial_state_values")

        return call

    names = [name for name, value in vars(BaseStorage).items() if callable(value) and name[0] != "_"]
    patient = type("Patient", (BaseStorage,), {name: method(name) for name in names})()
    patient._backend = storage
    return cast("BaseStorage", patient)


def _name(folder: StudyFolder, storage: "BaseStorage", url: str | None) -> str:
    """The study's name in its storage: the one in a folder's own journal, whatever the folder is called."""
    studies = storage.get_all_studies() if url is None else []
    return studies[0].study_name if studies else folder.name


def _database(url: str, ready: bool) -> "BaseStorage":
    from optuna.storages import RDBStorage, _CachedStorage
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
        if backend == "sqlite" and parts.database and is_special(Path(parts.database)):
            raise UserError(f"{shown}: is a device or a pipe; expected a file, or a new one's place")
        if backend == "sqlite":
            options = {"connect_args": {"timeout": 60}}
        if not ready:
            engine = create_engine(url, **options)
            engine.connect().close()
            engine.dispose()
    except OSError as error:
        reason = f"no answer in {SECONDS:.0f} s" if isinstance(error, TimeoutError) else reason_of(error)
        raise UserError(f"{shown}: does not answer ({reason}); {_HINT}") from error
    except (ArgumentError, NoSuchModuleError, ValueError, OverflowError) as error:
        raise UserError(
            f"{shown}: is no URL of a storage; expected for example sqlite:////tmp/study.db or "
            "postgresql+psycopg://user@host/name"
        ) from error
    except ImportError as error:
        advice = "pip install it" if backend != "postgresql" else _DRIVER
        raise UserError(f"{shown}: {error.name or error} is not installed; {advice}") from error
    except SQLAlchemyError as error:
        reason = reason_of(error)
        advice = next((advice for said, advice in _ADVICE.items() if said in reason), _HINT)
        raise UserError(f"{shown}: cannot be opened ({reason}); {advice}") from error
    try:
        storage = RDBStorage(
            url, engine_kwargs=options, skip_compatibility_check=ready, skip_table_creation=ready
        )
        return _CachedStorage(storage)
    except Exception as error:
        raise UserError(f"{shown}: cannot be used ({reason_of(error)}); {_HINT}") from error


def _proxy(url: str) -> "BaseStorage":
    """Optuna's, in front of a database for hundreds of workers."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import GrpcStorageProxy

    shown, parts = f"sweep.storage={mask(url)}", urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UserError(f"{shown}: names no host and port; expected for example grpc://127.0.0.1:13000")
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return GrpcStorageProxy(host=host, port=port)
    except OSError as error:
        raise UserError(f"{shown}: does not answer ({reason_of(error)}); {_HINT}") from error
    except ImportError as error:
        raise UserError(f"{shown}: grpcio is not installed; pip install 'ccsweep[cluster]'") from error


def _quiet() -> None:
    """Optuna's own lines about each trial are not for who runs a sweep."""
    from optuna import logging as optuna_logging

    optuna_logging.set_verbosity(optuna_logging.WARNING)


def _known(folder: StudyFolder) -> str:
    around = folder.path.parent
    names = sorted(p.parent.name for p in around.glob(f"*/{folder.journal.name}"))
    return f"in {around} there are {', '.join(names)}" if names else f"{around} holds none at all"


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be used ({reason_of(error)}); choose another sweep.name or hydra.sweep.dir"
    )


def reason_of(error: BaseException) -> str:
    """What a storage's error comes from, in a few words."""
    while error.__cause__ is not None:  # Optuna and SQLAlchemy pass on what the database said
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if callable(details := getattr(error, "details", None)):  # grpc's, whose text is ten lines
        return plain(str(details()))
    return plain(str(error)) or type(error).__name__
