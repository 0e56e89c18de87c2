import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.files import in_turn, sole, whole, write_text

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
