import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccsweep import interrupt
from ccsweep.errors import UserError
from ccsweep.files import (
    has_room,
    in_turn,
    private_folder,
    read_json,
    remove_leftovers,
    sole,
    user_cache,
    whole,
    write_text,
)

HALF = """
import time
from pathlib import Path
from ccsweep.files import whole
with whole(Path("file.txt")) as partial:
    partial.write_text("half of ")
    print(flush=True)
    time.sleep(60)
"""
HOLD = """
import time
from pathlib import Path
from ccsweep.files import sole
with sole(Path("lock"), "held"):
    print(flush=True)
    time.sleep(60)
"""


@contextmanager
def stuck(code: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has come to its long sleep."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("before", [None, "the old text"])
def test_a_kill_in_the_middle_leaves_what_was_there(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_text(before)
    with stuck(HALF, tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (path.read_text() if path.exists() else None) == before
    write_text(path, "the new text")
    assert path.read_text() == "the new text"


def test_a_reader_sees_no_half(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("the old text")
    with stuck(HALF, tmp_path):
        assert path.read_text() == "the old text"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("the old text")
    with pytest.raises(error), whole(path) as partial:  # noqa: PT012
        partial.write_text("half of ")
        raise error
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file.txt": "the old text"}


def test_an_interrupt_in_the_middle_waits_for_the_file(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, interrupt._interrupt)
    path = tmp_path / "file.txt"
    try:
        with pytest.raises(KeyboardInterrupt), whole(path) as partial:  # noqa: PT012
            os.kill(os.getpid(), signal.SIGUSR1)
            partial.write_text("all of it")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file.txt": "all of it"}


def test_an_error_before_anything_is_written_is_that_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the cause"), whole(tmp_path / "file.txt"):
        raise ValueError("the cause")


def test_what_was_written_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: steps.append(os.fstat(descriptor).st_size))
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (steps.append("replaced"), replace(self, target))
    )
    write_text(tmp_path / "file.txt", "é" * 5000)
    assert steps == [10_000, "replaced"]
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "there" / "file.txt")
    for text in ("one", "two"):
        write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "there" / "file.txt").read_text() == text


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "hello")
    reader.join()
    assert heard == ["hello"]
    assert pipe.is_fifo()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "text")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with stuck(HOLD, tmp_path) as process:
        for seconds in (0.0, 0.1):
            with (
                pytest.raises(UserError, match=r"^folder: somebody works there$"),
                sole(tmp_path / "lock", "folder: somebody works there", seconds),
            ):
                raise AssertionError("held twice")
        process.kill()
        process.wait()
        with sole(tmp_path / "lock", "the lock of a dead process holds nobody up"):
            pass


def test_who_may_wait_gets_what_is_let_go_in_time(tmp_path: Path) -> None:
    with stuck(HOLD, tmp_path) as process:
        threading.Timer(0.1, process.kill).start()
        with sole(tmp_path / "lock", "too late", seconds=60):
            assert process.wait() == -signal.SIGKILL


def test_a_refusal_inside_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    with stuck(HOLD, tmp_path), pytest.raises(UserError, match=r"^the inner one$"):  # noqa: SIM117
        with (
            sole(tmp_path / "a" / "new" / "outer", "the outer one"),
            sole(tmp_path / "lock", "the inner one"),
        ):
            raise AssertionError("held twice")


def test_who_waits_says_so_once_and_gets_it(tmp_path: Path) -> None:
    told: list[str] = []
    with in_turn(tmp_path / "a" / "new" / "lock", lambda: told.append("nobody is there")):
        assert told == []
    with stuck(HOLD, tmp_path) as process:

        def tell() -> None:
            told.append("waiting")
            process.kill()

        with in_turn(tmp_path / "lock", tell):
            assert told == ["waiting"]
        with in_turn(tmp_path / "lock"):  # and it was let go
            pass


def test_who_waited_as_long_as_it_would_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with in_turn(lock), pytest.raises(TimeoutError) as caught, in_turn(lock, longest=0.1):
        pass
    assert str(caught.value) == f"{lock} was held for 0 s"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_a_private_folder_is_its_users_alone(temporary: Path) -> None:
    folder = private_folder()
    assert folder == temporary / f"ccsweep-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert private_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["a file", "a link", "another user's"])
def test_a_place_that_someone_else_took_is_not_private(kind: str, temporary: Path, tmp_path: Path) -> None:
    place = temporary / f"ccsweep-{os.getuid()}"
    if kind == "a file":
        place.touch()
    elif kind == "a link":
        place.symlink_to(tmp_path)
    elif os.getuid() == 0:
        place.mkdir()
        os.chown(place, 12345, 12345)
    else:
        pytest.skip("only root can give a folder away")
    with pytest.raises(PermissionError) as caught:
        private_folder()
    assert str(caught.value) == f"{place} belongs to another user"


def test_the_users_cache_or_a_private_one(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_cache() == tmp_path / "cache" / "ccsweep"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")  # a home that is not there, nor can be made
    assert user_cache() == private_folder()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    kept = ["a.json", ".lock", ".a.json", "a.4711", "checkpoints/last.ckpt"]
    left = [".a.json.4711", "checkpoints/.last.ckpt.12", "checkpoints/last.partial", ".room.7"]
    (tmp_path / "checkpoints").mkdir()
    for name in (*kept, *left):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(kept)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"\xff", "is no JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (b"7", "expected a JSON object, found int"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path, "make it again")
    assert str(caught.value) == f"{path}: {reason}; make it again"
    path.write_text('{"a": 1}')
    assert read_json(path, "make it again") == {"a": 1}


def test_whether_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not has_room(tmp_path)


def test_a_place_where_no_lock_can_be_made_is_not_waited_for() -> None:
    with pytest.raises(FileNotFoundError), sole(Path("/proc/lock"), "held", seconds=60):
        pass
