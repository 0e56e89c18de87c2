import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking.client import connect
from ccsweep.tracking.store import artifact_root, prepare, resolve_uri, sqlite_path, sqlite_uri

PREPARE = "import sys; from ccsweep.tracking.store import prepare; prepare(sys.argv[1])"


def in_process(uri: str, code: str = PREPARE, **options) -> subprocess.Popen:
    """Run ``code`` with ``uri`` as its argument in a process of its own."""
    command = [sys.executable, "-c", code, uri]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


class TestResolve:
    def test_order(self, tmp_path, monkeypatch):
        assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
        assert resolve_uri(None, tmp_path) == "http://host:5000"
        assert resolve_uri("postgresql://db/runs", tmp_path) == "postgresql://db/runs"

    def test_a_relative_path_counts_from_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert resolve_uri("sqlite:///a/b.db", Path("x")) == f"sqlite:///{tmp_path}/a/b.db"
        assert resolve_uri(None, Path("x")) == f"sqlite:///{tmp_path}/x/mlflow.db"

    @pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "/data/mlruns", "file:///data/mlruns"])
    def test_plain_folders_are_refused(self, uri, tmp_path):
        with pytest.raises(UserError) as caught:
            resolve_uri(uri, tmp_path)
        assert str(caught.value) == (
            f"tracking.uri: {uri} is a plain folder, which MLflow 3 refuses; expected a database, "
            f"for example sqlite:///{tmp_path}/mlflow.db"
        )

    def test_other_refusals(self, tmp_path):
        with pytest.raises(UserError, match="keeps nothing; expected a file, for example sqlite"):
            resolve_uri("sqlite:///:memory:", tmp_path)
        with pytest.raises(UserError, match="s3://x has the unknown scheme s3; expected sqlite, h"):
            resolve_uri("s3://x", tmp_path)

    def test_a_driver_may_be_named(self, tmp_path):
        uri = "postgresql+psycopg2://db/runs"
        assert resolve_uri(uri, tmp_path) == uri
        assert resolve_uri(f"sqlite+pysqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"

    @pytest.mark.parametrize("name", ["a b", "50%20", "why?", "ü#"])
    def test_odd_folders(self, name, prepared, tmp_path):
        path = tmp_path / name / "mlflow.db"
        assert sqlite_path(sqlite_uri(path)) == path
        path.parent.mkdir()
        shutil.copy(prepared, path)
        prepare(sqlite_uri(path))
        connect(sqlite_uri(path)).create_experiment("here")
        (rows,) = sqlite3.connect(path).execute("SELECT count(*) FROM experiments").fetchone()
        assert rows == 2


def test_a_device_is_left_as_it_is(tmp_path):
    """As root, who may rename over anything: a store once took the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/null")):
        before = place.stat()
        with pytest.raises(UserError) as caught:
            prepare(sqlite_uri(place))
        assert str(caught.value) == (
            f"tracking.uri: {place} is a device or a pipe; expected a file, or a new one's place"
        )
        assert (place.stat().st_mode, place.stat().st_ino) == (before.st_mode, before.st_ino)
        assert not Path(f"{place}.lock").exists()


def test_where_artifacts_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert artifact_root("sqlite:////data/mlflow.db") == Path("/data/mlartifacts")
    assert artifact_root("postgresql://db/runs") == tmp_path / "outputs" / "mlartifacts"
    assert artifact_root("http://host:5000") is None


def schema(path: Path) -> dict[str, tuple]:
    """Every table and index: its columns in order, and the lines that define it in any order.

    MLflow's migrations write a table's constraints in an order that changes from run to run.
    """
    with sqlite3.connect(path) as connection:
        made = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        return {
            name: (
                connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall(),
                sorted(line.strip(" ,\t") for line in (sql or "").splitlines()),
            )
            for name, sql in made
        }


class TestPrepare:
    def test_the_schema_is_mlflows_own(self, prepared, tmp_path):
        import sqlalchemy
        from mlflow.store.db.utils import _initialize_tables

        stock = tmp_path / "stock.db"
        engine = sqlalchemy.create_engine(sqlite_uri(stock))
        _initialize_tables(engine)
        engine.dispose()
        assert schema(prepared) == schema(stock)
        version = "SELECT version_num FROM alembic_version"
        assert (
            sqlite3.connect(prepared).execute(version).fetchall()
            == sqlite3.connect(stock).execute(version).fetchall()
        )

    def test_four_processes_at_once_and_quietly(self, tmp_path):
        uri = sqlite_uri(tmp_path / "new" / "mlflow.db")
        workers = [in_process(uri) for _ in range(4)]
        assert [worker.communicate()[0] for worker in workers] == [""] * 4
        assert [worker.returncode for worker in workers] == [0] * 4
        left = sorted(path.name for path in (tmp_path / "new").iterdir())
        assert left == ["mlflow.db", "mlflow.db.lock"]
        assert len(connect(uri).search_experiments()) == 1

    @pytest.mark.parametrize("moment", ["mlflow.db.lock", ".mlflow.db.*"])
    def test_a_kill_leaves_all_or_nothing(self, moment, tmp_path):
        path = tmp_path / "mlflow.db"
        worker = in_process(sqlite_uri(path))
        while not any(tmp_path.glob(moment)) and not path.exists():
            time.sleep(0.0005)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert not path.exists() or schema(path)
        prepare(sqlite_uri(path))  # the dead process's lock and remains are in nobody's way
        assert len(connect(sqlite_uri(path)).search_experiments()) == 1

    def test_a_ready_store_needs_no_mlflow(self, uri):
        worker = in_process(uri, f"{PREPARE}; print('mlflow' in sys.modules)")
        assert worker.communicate()[0] == "False\n"

    def test_an_empty_file_becomes_a_store(self, tmp_path):
        (tmp_path / "mlflow.db").touch()
        prepare(sqlite_uri(tmp_path / "mlflow.db"))
        assert len(connect(sqlite_uri(tmp_path / "mlflow.db")).search_experiments()) == 1


class TestPrepareRefuses:
    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "inner" / "mlflow.db"
        with pytest.raises(UserError) as caught:
            prepare(sqlite_uri(path))
        assert str(caught.value) == (
            f"tracking.uri: cannot use {path} as a store (Not a directory); free or mend that "
            "folder, or choose another tracking.uri"
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_write_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="Permission denied"):
            prepare(sqlite_uri(tmp_path / "mlflow.db"))

    def test_a_full_disk(self, tmp_path, full_disk):
        path = tmp_path / "mlflow.db"
        with full_disk(100_000), pytest.raises(UserError) as caught:
            prepare(sqlite_uri(path))
        assert str(caught.value) == (
            f"tracking.uri: cannot use {path} as a store (File too large); free or mend that "
            "folder, or choose another tracking.uri"
        )
        assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db.lock"]

    def test_a_file_that_is_no_database(self, tmp_path):
        (tmp_path / "mlflow.db").write_text("something else, and not short" * 100)
        with pytest.raises(UserError, match=r"as a store \(it is damaged, or no database\)"):
            prepare(sqlite_uri(tmp_path / "mlflow.db"))

    def test_another_programs_database(self, tmp_path):
        path = tmp_path / "study.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE studies (id INTEGER)")
        with pytest.raises(UserError) as caught:
            prepare(sqlite_uri(path))
        assert str(caught.value) == (
            f"tracking.uri: {path} is another program's database (its tables: studies, ...); give "
            "MLflow a file of its own"
        )

    def test_a_store_of_another_mlflow(self, uri):
        with sqlite3.connect(sqlite_path(uri)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")
        prepare(uri)
        with pytest.raises(UserError) as caught:
            connect(uri)
        assert str(caught.value) == (
            f"tracking.uri: {uri} was made by another version of MLflow; copy it to a safe place, "
            f"then run: mlflow db upgrade {uri}"
        )


def test_the_tables_of_a_database_server_are_made_by_one_process_at_a_time(monkeypatch, tmp_path):
    import sqlalchemy

    from ccsweep.tracking import reach, store

    asked = []
    monkeypatch.setattr(reach, "check_reachable", asked.append)
    engine = sqlalchemy.create_engine("sqlite://")
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda uri: engine)
    monkeypatch.setattr(store, "private_folder", lambda: tmp_path)
    monkeypatch.setattr(
        store, "connect", lambda uri: asked.append([path.name for path in tmp_path.iterdir()])
    )
    prepare("postgresql://db/runs")
    assert asked == ["postgresql://db/runs", ["tracking.lock"]]

    def refused(uri):
        raise sqlalchemy.exc.OperationalError("SELECT 1", None, ValueError("wrong password\nfor ann"))

    monkeypatch.setattr(sqlalchemy, "create_engine", refused)
    with pytest.raises(UserError) as caught:
        prepare("postgresql://ann:pw@db/runs")
    assert str(caught.value) == (
        "tracking.uri: cannot open postgresql://ann:***@db/runs (wrong password); "
        "check the driver, the user, the password and that the database exists"
    )


def test_importing_the_package_brings_nothing_heavy():
    heavy = "{'mlflow', 'torch', 'sqlalchemy', 'filelock', 'psutil', 'numpy', 'requests'}"
    code = f"import sys, ccsweep.tracking; print({heavy} & set(sys.modules))"
    assert in_process("", code).communicate()[0] == "set()\n"


KILLED_WHILE_WRITING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size=1")  # so that the file itself is half written
connection.execute("CREATE TABLE scratch (text TEXT)")
connection.executemany("INSERT INTO scratch VALUES (?)", [("x" * 1000,)] * 1000)
os._exit(9)
"""


def test_a_store_is_mended_that_was_written_to_when_its_writer_was_killed(uri):
    path = sqlite_path(uri)
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    prepare(uri)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM scratch").fetchone() == (0,)
    connection.close()
