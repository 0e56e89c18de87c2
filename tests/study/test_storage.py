"""Real storages: opened, begun, mended, and what a person is told when that is not possible."""

import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from ccsweep import interrupt
from ccsweep.errors import UserError
from ccsweep.study import storage
from ccsweep.study.folder import StudyFolder
from ccsweep.study.record import mend
from ccsweep.study.storage import connect, create, open_study, persistently

AIMS = {"validation_error": "minimize", "measured_speedup_batch1": "maximize"}
HINT = "start that server, or leave sweep.storage out for a file in the study's folder"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    path = tmp_path / "sweeps" / "digits"
    path.mkdir(parents=True)
    return StudyFolder(path)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def said(caught: "pytest.ExceptionInfo[UserError]") -> str:
    return str(caught.value)


@pytest.mark.parametrize("in_database", [False, True])
def test_a_study_is_begun_and_opened_again(in_database: bool, folder: StudyFolder, url: str) -> None:
    where = url if in_database else None
    study = create(folder, where, AIMS)
    assert study.study_name == "digits"
    assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
    assert study.metric_names == list(AIMS)
    study.tell(study.ask(), [1.0, 2.0])
    for ready in (False, True):
        again = open_study(folder, where, ready)
        assert [trial.values for trial in again.get_trials()] == [[1.0, 2.0]]
    assert [trial.values for trial in create(folder, where, AIMS).get_trials()] == [[1.0, 2.0]]
    assert folder.journal.exists() is not in_database
    assert isinstance(study._storage._backend, JournalStorage) is not in_database
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


def test_names_of_objectives_stay_as_they_are(folder: StudyFolder) -> None:
    study = create(folder, None, AIMS)
    with pytest.warns(ExperimentalWarning):
        study.set_metric_names(["a", "b"])
    before = folder.journal.read_bytes()
    assert create(folder, None, AIMS).metric_names == ["a", "b"]
    assert folder.journal.read_bytes().startswith(before)


def test_a_study_that_is_not_there(folder: StudyFolder) -> None:
    around = folder.path.parent
    with pytest.raises(UserError) as caught:
        open_study(folder)
    assert said(caught) == f"sweep.name=digits: {folder.path} holds no study; {around} holds none at all"
    for name in ("svhn", "mnist"):
        other = StudyFolder(around / name)
        other.path.mkdir()
        create(other, None, AIMS)
    with pytest.raises(UserError) as caught:
        open_study(folder)
    known = f"in {around} there are mnist, svhn"
    assert said(caught) == f"sweep.name=digits: {folder.path} holds no study; {known}"
    assert not folder.journal.exists()  # nothing was written
    folder.definition.write_text("{}")
    with pytest.raises(UserError) as caught:
        open_study(folder)
    assert said(caught) == "sweep.name=digits: its trials are kept elsewhere; give sweep.storage=URL, too"


def test_a_storage_without_that_study(folder: StudyFolder, tmp_path: Path) -> None:
    other = StudyFolder(tmp_path / "other")
    other.path.mkdir()
    create(other, None, AIMS)
    other.journal.rename(folder.journal)
    assert open_study(folder).study_name == "other"  # a folder was given another name: the study is in it
    assert create(folder, None, AIMS).study_name == "other"
    JournalStorage(JournalFileBackend(str(other.journal)))
    with pytest.raises(UserError) as caught:
        open_study(other)
    assert said(caught) == f"sweep.name=other: {other.journal} holds no study of that name"
    url = f"sqlite:///file:{tmp_path}/study.db?uri=true&password=s3cret"
    create(other, url, AIMS)
    with pytest.raises(UserError) as caught:
        open_study(folder, url)
    shown = url.replace("s3cret", "***")
    assert said(caught) == f"sweep.name=digits: {shown} holds no study of that name"


def test_a_database_without_any_study(folder: StudyFolder, url: str) -> None:
    with pytest.raises(UserError) as caught:
        open_study(folder, url)
    assert said(caught) == f"sweep.name=digits: {url} holds no study of that name"


def test_a_lock_that_a_killed_process_left_is_broken_after_ten_seconds(folder: StudyFolder) -> None:
    lock = connect(folder, None)._backend._backend._lock  # type: ignore[attr-defined]
    assert (lock._lock_file, lock.grace_period) == (f"{folder.journal}.lock", 10)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("\n no room for sqlite:///x?password=s3cret \nand more lines"),
            "no room for sqlite:///x?password=*** ",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("without a number"), "without a number"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_reason_is_one_line(error: BaseException, reason: str) -> None:
    assert storage.reason_of(error) == reason
    outer = StorageInternalError("An exception is raised during the commit.")
    outer.__cause__ = error
    assert storage.reason_of(outer) == reason


def test_a_journal_that_cannot_be_read_or_written(folder: StudyFolder, tmp_path: Path) -> None:
    folder.journal.write_text("no JSON\n\n")
    with pytest.raises(UserError) as caught:
        connect(folder, None)
    assert said(caught) == f"{folder.journal}: is damaged; run its sweep again, which mends it"
    folder.journal.write_text('{"op_code": 4}\n')  # a line that lacks what it should say
    with pytest.raises(UserError) as caught:
        connect(folder, None)
    assert said(caught) == f"{folder.journal}: is damaged; run its sweep again, which mends it"
    file = StudyFolder(tmp_path / "file")
    file.path.write_text("no folder")
    with pytest.raises(UserError) as caught:
        connect(file, None)
    why = "cannot be used (Not a directory); choose another sweep.name or hydra.sweep.dir"
    assert said(caught) == f"{file.journal}: {why}"


@contextmanager
def full_disk() -> Iterator[None]:
    """As good as one: no file of this process may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_journal_on_a_full_disk(folder: StudyFolder) -> None:
    with pytest.raises(UserError) as caught, full_disk():
        create(folder, None, AIMS)
    why = "cannot be used (File too large); choose another sweep.name or hydra.sweep.dir"
    assert said(caught) == f"{folder.journal}: {why}"


def test_a_database_that_may_only_be_read(folder: StudyFolder, tmp_path: Path, url: str) -> None:
    create(StudyFolder(tmp_path / "other"), url, AIMS)
    locked = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true&password=s3cret"
    with pytest.raises(UserError) as caught:
        create(folder, locked, AIMS)
    shown = locked.replace("s3cret", "***")
    assert said(caught) == (f"sweep.storage={shown}: failed (it is read-only); {HINT}")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:////dev/null", "is a device or a pipe; expected a file, or a new one's place"),
        (
            "nothing",
            "is no URL of a storage; expected for example sqlite:////tmp/study.db or postgresql+psycopg://user@host/name",
        ),
        (
            "mysterious://ann:s3cret@/runs",
            "is no URL of a storage; expected for example sqlite:////tmp/study.db or postgresql+psycopg://user@host/name",
        ),
        (
            "postgresql://ann:s3cret@127.0.0.1:port/runs",
            "is no URL of a storage; expected for example sqlite:////tmp/study.db or postgresql+psycopg://user@host/name",
        ),
        ("mysql://ann:s3cret@/runs", "MySQLdb is not installed; pip install it"),
        (
            "postgresql+psycopg2://ann:s3cret@/runs",
            "psycopg2 is not installed; write postgresql+psycopg://, for which pip install 'ccsweep[cluster]' "
            "brings the driver",
        ),
        ("grpc://host", "names no host and port; expected for example grpc://127.0.0.1:13000"),
        ("grpc://127.0.0.1:1", f"does not answer (Connection refused); {HINT}"),
        (
            "sqlite:////proc/none/study.db",
            f"cannot be opened (its folder is not there, or not writable); {HINT}",
        ),
    ],
)
def test_a_url_that_means_nothing_here(url: str, complaint: str, folder: StudyFolder) -> None:
    with pytest.raises(UserError) as caught:
        connect(folder, url)
    assert said(caught) == f"sweep.storage={url.replace('s3cret', '***')}: {complaint}"


def test_a_file_that_is_no_database(folder: StudyFolder, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all, and longer than the header of one: " * 20)
    url = f"sqlite:///{tmp_path}/study.db"
    with pytest.raises(UserError) as caught:
        connect(folder, url)
    assert said(caught) == f"sweep.storage={url}: cannot be used (it is damaged, or no database); {HINT}"


def test_a_worker_makes_no_tables(folder: StudyFolder, url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        connect(folder, url, ready=True)
    assert (
        said(caught)
        == f"sweep.storage={url}: cannot be used (tables are missing: it is damaged, or another program's); {HINT}"
    )
    assert (tmp_path / "study.db").read_bytes() == b""


def test_a_database_waits_for_who_writes(folder: StudyFolder, url: str) -> None:
    """Minutes, and not sqlite's five seconds: many workers share one file."""
    opened = connect(folder, url)._backend._backend  # type: ignore[attr-defined]
    assert isinstance(opened, RDBStorage)
    with opened.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == 60_000


def test_a_server_that_does_not_answer(folder: StudyFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"postgresql://ann:s3cret@127.0.0.1:{taken.getsockname()[1]}/runs"
        with pytest.raises(UserError) as caught:
            connect(folder, url)
    shown = url.replace("s3cret", "***")
    assert said(caught) == f"sweep.storage={shown}: does not answer (Connection refused); {HINT}"


def test_a_server_that_is_silent(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SECONDS", 0.6)
    with socket.socket() as taken, socket.socket() as first:
        taken.bind(("127.0.0.1", 0))
        taken.listen(0)
        first.connect(taken.getsockname())  # nobody accepts it, and there is no room for a second one
        url = f"mysql://127.0.0.1:{taken.getsockname()[1]}/runs"
        with pytest.raises(UserError) as caught:
            connect(folder, url)
    assert said(caught) == f"sweep.storage={url}: does not answer (no answer in 1 s); {HINT}"


def with_trials(folder: StudyFolder, count: int) -> list[bytes]:
    """A study with so many trials; the lines of its journal."""
    study = create(folder, None, AIMS)
    for number in range(count):
        study.tell(study.ask(), [1.0, float(number)])
    return folder.journal.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "damage", [b'{"op_code": 5, "trial', b"\x00\x00\x00\n", b"[1, 2]\n", b'{"op_code": 4}'], ids=range(4)
)
def test_a_journal_is_cut_off_where_it_is_damaged(
    damage: bytes, folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    lines = with_trials(folder, 3)
    damaged = b"".join([*lines, damage])
    folder.journal.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert mend(folder)
    assert folder.journal.read_bytes() == b"".join(lines)
    copy = folder.path / "study.journal.damaged"
    assert copy.read_bytes() == damaged
    assert caplog.messages == [
        f"{folder.journal}: the last 1 of {len(lines) + 1} lines are damaged and were dropped; the file as it was "
        "is kept in study.journal.damaged"
    ]
    assert [trial.values for trial in open_study(folder).get_trials()] == [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]
    assert sorted(path.name for path in folder.path.iterdir()) == ["study.journal", copy.name]
    for count in (2, 3):  # a copy is never written over
        folder.journal.write_bytes(damage)
        assert mend(folder)
        assert folder.journal.read_bytes() == b""
        assert (folder.path / f"study.journal.damaged{count}").read_bytes() == damage


def test_what_comes_after_a_damaged_line_is_dropped_too(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    lines = with_trials(folder, 2)
    whole = len(lines)
    lines[whole - 3] = b"damaged\n"
    folder.journal.write_bytes(b"".join(lines))
    assert mend(folder)
    assert folder.journal.read_bytes() == b"".join(lines[: whole - 3])
    assert f"the last 3 of {whole} lines are damaged" in caplog.text


def test_a_journal_in_order_stays_as_it_is(folder: StudyFolder) -> None:
    assert not mend(folder)
    lines = with_trials(folder, 2)
    lock = folder.path / "study.journal.lock"
    lock.symlink_to(folder.journal)  # of a process that was killed while it wrote
    assert not mend(folder)
    assert folder.journal.read_bytes() == b"".join(lines)
    assert [path.name for path in folder.path.iterdir()] == ["study.journal"]


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(storage, "time", clock)
    return clock


@pytest.mark.parametrize("kind", [StorageInternalError, OSError])
def test_a_storage_that_is_away_for_a_while(
    kind: type[Exception], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [kind("sqlite:///x?password=s3cret is away")] * 6

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert persistently(action) == "done"
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    line = "the storage failed, trying again: sqlite:///x?password=*** is away"
    assert caplog.messages == [line] * 6


def test_a_storage_that_stays_away_for_more_than_a_minute(clock: Clock) -> None:
    calls = []

    def action() -> None:
        calls.append(clock.now - 1000)
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        persistently(action)
    assert calls == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 31.5, 39.5, 47.5, 55.5, 63.5]


def test_a_driver_of_a_database_that_stays_away(clock: Clock) -> None:
    """In the middle of a commit Optuna hands on what the driver raises."""

    def action() -> None:
        raise OperationalError("SELECT 1", {}, Exception("the server closed the connection\nunexpectedly"))

    with pytest.raises(StorageInternalError) as caught:
        persistently(action)
    assert str(caught.value) == "the server closed the connection"


def test_who_opens_a_storage_waits_for_it_as_well(clock: Clock) -> None:
    errors = [UserError("does not answer")] * 3

    def action() -> str:
        if errors:
            raise errors.pop()
        return "open"

    with pytest.raises(UserError):
        persistently(action)
    assert persistently(action, also=(UserError,)) == "open"
    assert clock.slept == [0.5, 1.0]


def test_every_call_of_a_storage_is_patient(folder: StudyFolder, clock: Clock) -> None:
    study = create(folder, None, AIMS)
    kept = study._storage._backend
    trial = study.ask()
    away = [OSError("away")] * 6

    def failing(name: str) -> Callable[..., Any]:
        action = getattr(kept, name)

        def call(*args: Any) -> Any:
            if away:
                raise away.pop()
            return action(*args)

        return call

    for name in ("get_all_trials", "set_trial_state_values", "set_trial_user_attr"):
        setattr(kept, name, failing(name))
    trial.set_user_attr("key", "value")
    assert study.tell(trial, [1.0] * len(AIMS)).user_attrs == {"key": "value"}
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_trial_that_was_ended_though_nobody_answered(folder: StudyFolder, clock: Clock) -> None:
    study = create(folder, None, AIMS)
    kept = study._storage._backend
    trial, ended = study.ask(), kept.set_trial_state_values

    def lost(*args: Any) -> None:
        ended(*args)
        raise OSError("the answer was lost")

    kept.set_trial_state_values = lost
    assert study.tell(trial, [1.0] * len(AIMS)).state == TrialState.COMPLETE
    assert clock.slept == [0.5]
    with pytest.raises(ValueError, match="Cannot tell"):
        study.tell(trial, [1.0] * len(AIMS))


def test_other_errors_are_not_tried_again(clock: Clock) -> None:
    with pytest.raises(ValueError, match="a bug"):
        persistently(lambda: int("a bug"))
    assert clock.slept == []


def test_an_interrupt_waits_for_the_storage() -> None:
    done = []

    def action() -> None:
        interrupt._interrupt(2, None)
        done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        persistently(action)
    assert done == ["whole"]


def test_an_interrupt_waits_for_the_journals_lock(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a study is written from: between renaming and removing its lock Optuna cannot be stopped."""
    study = create(folder, None, AIMS)
    unlink = os.unlink

    def interrupted(path: str) -> None:
        if str(path).endswith(".rename"):
            unlink(path)
            interrupt._interrupt(signal.SIGINT, None)
            return
        unlink(path)

    monkeypatch.setattr(os, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.set_user_attr("key", "value")
    monkeypatch.undo()
    assert open_study(folder).user_attrs["key"] == "value"
    assert {path.name for path in folder.path.iterdir()} == {folder.journal.name}


def test_trials_of_a_study_that_was_opened_count_on(folder: StudyFolder) -> None:
    with_trials(folder, 2)
    study = open_study(folder)
    study.tell(study.ask(), state=TrialState.FAIL)
    assert [trial.number for trial in open_study(folder).get_trials()] == [0, 1, 2]


def test_a_full_disk_leaves_no_half_line(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    study = create(folder, None, AIMS)
    whole = folder.journal.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, before[1]))  # room for half of what comes
    try:
        with pytest.raises(OSError, match="File too large"):
            study.set_user_attr("command", "x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folder.journal.read_bytes() == whole
    study.set_user_attr("command", "y")
    assert open_study(folder).user_attrs["command"] == "y"


def test_a_line_that_says_what_cannot_be_is_cut_off_with_all_after_it(folder: StudyFolder) -> None:
    """JSON as it should be, and yet damaged: a flipped bit in the number of an operation."""
    study = create(folder, None, AIMS)
    for number in range(3):
        study.tell(study.ask(), [float(number), 1.0])
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if b'"op_code":6' in line]
    lines[places[2]] = lines[places[2]].replace(b'"op_code":6', b'"op_code":66')
    folder.journal.write_bytes(b"".join(lines))
    with pytest.raises(UserError) as caught:
        open_study(folder).get_trials()
    assert said(caught) == f"{folder.journal}: is damaged; run its sweep again, which mends it"
    assert mend(folder)
    assert [trial.values for trial in open_study(folder).get_trials()][:2] == [[0.0, 1.0], [1.0, 1.0]]


@pytest.fixture
def proxy(folder: StudyFolder, url: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The address of Optuna's proxy in front of a database, and what starts one there."""
    from optuna.storages import get_storage
    from optuna.storages._grpc.server import make_server

    create(folder, url, AIMS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    servers = []

    def start() -> Any:
        server = make_server(get_storage(url), "127.0.0.1", port)
        server.start()
        servers.append(server)
        return server

    yield f"grpc://127.0.0.1:{port}", start
    for server in servers:
        server.stop(None).wait()


def test_a_proxy_stands_for_its_database(folder: StudyFolder, url: str, proxy: Any) -> None:
    address, start = proxy
    start()
    study = create(folder, address, AIMS)
    trial = study.ask()
    trial.set_user_attr("worker", "w0")
    study.tell(trial, [1.0, 2.0])
    (found,) = open_study(folder, url).get_trials()
    assert (found.values, found.user_attrs) == ([1.0, 2.0], {"worker": "w0"})
    with pytest.raises(UserError) as caught:
        open_study(StudyFolder(folder.path.with_name("other")), address)
    assert said(caught) == f"sweep.name=other: {address} holds no study of that name"


def test_a_proxy_that_is_away_is_waited_for(
    folder: StudyFolder, proxy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address, start = proxy
    server = start()
    study = open_study(folder, address)
    server.stop(None).wait()
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    with pytest.raises(StorageInternalError):
        study.get_trials()
    assert caplog.messages[0].startswith(
        "the storage failed, trying again: failed to connect to all addresses"
    )
    start()
    monkeypatch.setattr(storage, "PATIENCE", 60.0)
    assert study.get_trials() == []
