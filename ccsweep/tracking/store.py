"""Where runs are kept: which store, its schema made once, and its experiments.

A fresh sqlite store costs stock MLflow seconds of small writes, and processes that make it at the
same time crash. Here MLflow's own migrations run in memory (0.6 s) and the result is renamed into
place, so that a store is there whole or not at all.
"""

import contextlib
import os
import re
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ccsweep.errors import UserError
from ccsweep.files import in_turn, is_special, private_folder, sole, whole
from ccsweep.tracking.client import configure_mlflow, connect, plain
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = Path("outputs")  # under the working directory; keeps runs and, when none is named, their store

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)")
_SERVERS = ("http", "https", "postgresql", "mysql", "mssql")
_LOCK_SECONDS = 60.0
_ARTIFACTS = "mlartifacts"
_PLACES = (  # of artifacts, in MLflow's tables
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_in_memory = threading.Lock()  # MLflow keeps one ":memory:" engine in a process


def resolve_uri(uri: str | None, folder: Path = FOLDER) -> str:
    """Return the URI of the store to use: ``uri``, or MLFLOW_TRACKING_URI, or one in ``folder``.

    The store in ``folder`` is ``<folder>/mlflow.db``. A relative sqlite path, which counts from
    the working directory, becomes absolute so that it means the same in every process.

    Raises:
        UserError: a plain folder (MLflow 3 has given those up) or an unknown scheme.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(folder / "mlflow.db")
    scheme = uri.partition("://")[0].partition("+")[0].lower()
    if scheme in _SERVERS:
        return uri
    path = sqlite_path(uri)
    if path is not None:
        return sqlite_uri(path)
    if scheme.startswith("sqlite"):
        raise UserError(
            f"tracking.uri: {mask(uri)} keeps nothing; expected a file, for example "
            f"{sqlite_uri(folder / 'mlflow.db')}"
        )
    if "://" not in uri or scheme == "file":
        raise UserError(
            f"tracking.uri: {mask(uri)} is a plain folder, which MLflow 3 refuses; expected a "
            f"database, for example {sqlite_uri(folder / 'mlflow.db')}"
        )
    raise UserError(
        f"tracking.uri: {mask(uri)} has the unknown scheme {scheme}; expected sqlite, {', '.join(_SERVERS)}"
    )


def sqlite_uri(path: Path) -> str:
    """Return the absolute sqlite URI of ``path``."""
    # SQLAlchemy undoes %xx and ends the path at a question mark.
    return "sqlite:///" + quote(str(path.expanduser().absolute()), safe="/ #:@!$&'()*+,;=[]~")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite URI, None for every other kind of store."""
    match = _SQLITE.match(uri)
    if match is None or match["path"] in ("", ":memory:"):
        return None
    return Path(unquote(match["path"]))


def artifact_root(uri: str) -> Path | None:
    """Return the absolute folder for the artifacts of a database's runs; an HTTP server has its own.

    Beside a sqlite file; for a database server ``outputs/mlartifacts`` of the working directory.
    """
    if uri.startswith("http"):
        return None
    path = sqlite_path(uri)
    folder = path.parent if path is not None else FOLDER
    return folder.absolute() / _ARTIFACTS


def prepare(uri: str) -> None:
    """Make sure that the store at ``uri`` (from ``resolve_uri``) answers and has its schema.

    Any number of processes and threads may call this at once. A store that is ready costs about
    1 ms (sqlite) or one request; a fresh sqlite store 0.6 s beside the import of mlflow.

    Raises:
        UserError: the server does not answer, or the file cannot be made or is something else.
    """
    path = sqlite_path(uri)
    if path is None:
        _prepare_server(uri)
        return
    if is_special(path):
        raise UserError(f"tracking.uri: {path} is a device or a pipe; expected a file, or a new one's place")
    try:
        if not _is_ready(path):
            _create_once(path, uri)
        _follow(path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else plain(str(error))
        raise UserError(
            f"tracking.uri: cannot use {path} as a store ({reason or type(error).__name__}); free "
            "or mend that folder, or choose another tracking.uri"
        ) from error


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the id of the experiment ``name``; any number of processes may ask at once.

    In a database its artifacts go where ``artifact_root`` says: MLflow's default is ``./mlruns``
    under whichever folder the process happens to be in. An HTTP server chooses for itself.

    Raises:
        UserError: the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            place = _artifact_location(uri, name)
            return client.create_experiment(name, place, {"mlflow.note.content": _about(name)})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
    if experiment.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {name} was deleted; bring it back with: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return experiment.experiment_id


def _about(name: str) -> str:
    return (
        f"Networks trained and tested on **{name}** with ccsweep. Metrics without a slash are what a run "
        "came to, under the names of its report.json: `test_error`, `density`, `measured_speedup_batch1`, "
        "... Its ranks are the parameters `rank1`, `rank2`, ..., and its description has the command that "
        "runs it again. Trials of a study have its name in the tag `study`; the tag `front` says which of "
        "them no other one beats."
    )


def _is_ready(path: Path) -> bool:
    """Return whether ``path`` holds MLflow's tables; False when it is missing or empty."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    # Who reads only cannot put right what a process left that was killed while it wrote, and is refused.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    finally:
        connection.close()
    if tables and "experiments" not in tables:
        raise UserError(
            f"tracking.uri: {path} is another program's database (its tables: "
            f"{', '.join(sorted(tables)[:3])}, ...); give MLflow a file of its own"
        )
    return bool(tables)


def _follow(path: Path) -> None:
    """Have artifacts looked for beside a store that was moved or copied with them."""
    folder = path.absolute().parent / _ARTIFACTS
    if not folder.is_dir():
        return
    root = folder.as_uri()
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
        found = [str(place) for (place,) in connection.execute("SELECT artifact_location FROM experiments")]
        roots = {place[: place.rindex(f"/{_ARTIFACTS}/")] for place in found if f"/{_ARTIFACTS}/" in place}
        for old in {f"{before}/{_ARTIFACTS}" for before in roots} - {root}:
            with connection:
                for table, column in _PLACES:
                    moved = f"SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '/%'"
                    connection.execute(f"UPDATE {table} {moved}", (root, len(old) + 1, old))


def _create_once(path: Path, uri: str) -> None:
    """Create the store unless another process is first; waits for that one."""
    lock = Path(f"{path}.lock")
    refusal = (
        f"tracking.uri: another process has been making {path} for {_LOCK_SECONDS:.0f} s; "
        f"when none is, delete {lock} and start again"
    )
    with sole(lock, refusal, _LOCK_SECONDS):
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink(missing_ok=True)
        if not _is_ready(path):
            _create(path, uri)


def _create(path: Path, uri: str) -> None:
    """Run MLflow's migrations in memory and put the result at ``path`` in one step."""
    configure_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # MLflow's store itself, so the schema is MLflow's whatever its version. Metadata.create_all
    # would be quicker but is not the same: defaults, indexes and keys differ (MLflow 3.17).
    with _in_memory:
        root = artifact_root(uri)
        assert root is not None
        store = SqlAlchemyStore("sqlite:///:memory:", root.as_uri())
        pooled = store.engine.raw_connection()
        source = pooled.driver_connection
        assert isinstance(source, sqlite3.Connection)
        content = source.serialize()
        pooled.close()
        store.engine.dispose()
    with whole(path) as partial:
        partial.write_bytes(content)


def _prepare_server(uri: str) -> None:
    """Check that a server answers; let MLflow make its tables in a database server."""
    from ccsweep.tracking.reach import check_reachable

    check_reachable(uri)
    if uri.startswith("http"):
        return
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        # One try with a plain reason: MLflow would repeat a wrong password for two minutes.
        create_engine(uri).connect().close()
    except (SQLAlchemyError, ImportError) as error:
        reason = plain(str(error))
        raise UserError(
            f"tracking.uri: cannot open {mask(uri)} ({reason}); check the driver, the user, the "
            "password and that the database exists"
        ) from error
    # One lock for all databases of this user: prepare runs once a command and is short.
    with in_turn(private_folder() / "tracking.lock"):
        connect(uri)


def _artifact_location(uri: str, name: str) -> str | None:
    """Return a URI for the artifacts of ``name``, None to leave it to the server."""
    root = artifact_root(uri)
    if root is None:
        return None
    # Two names may share a folder: each run has its own in it.
    folder = re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
    return (root / folder).as_uri()
