"""Files that are written whole or not at all, locks that fall with their process, a user's own places."""

import json
import logging
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ccsweep.errors import UserError, first_line, is_full_disk
from ccsweep.interrupt import finishing

log = logging.getLogger(__name__)
_damaged: set[Path] = set()  # that this process has named
_LEFTOVER = re.compile(r"\..+\.\d+|.+\.partial")  # as whole() names what it is not done with, and did once


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place beside ``path`` to write a file to; once on the disk it takes the place of ``path``.

    An error or a kill inside leaves the file that was there, or none; an interrupt waits for the file, as
    libraries make errors of their own of one in the middle. A link is followed and stays a link; a device or
    a pipe, which nothing can take the place of, is itself what is written to.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with finishing():
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def is_special(path: Path) -> bool:
    """Whether something is there that is no file and no folder: a device or a pipe, and no database."""
    return path.exists() and not path.is_file() and not path.is_dir()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files that were to be :func:`whole`, in all of ``folder``.

    Nobody else may be writing there.
    """
    for path in folder.rglob("*"):
        if _LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: of the file.
        hint: the next step, where it cannot be read.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}") from error
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error}); {hint}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}; {hint}")
    return content


def read_json_if_whole(path: Path, hint: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or a damaged one, which one line names.

    Args:
        path: of the file.
        hint: what follows from its being damaged.
    """
    if not path.is_file():
        return None
    try:
        return read_json(path, hint)
    except UserError as error:
        if path not in _damaged:
            log.warning("%s", error)
        _damaged.add(path)
        return None


def check_sums(path: Path, hint: str) -> None:
    """Compare the checksum of each part of a file that torch or NumPy wrote, which neither does itself.

    Args:
        path: of the file.
        hint: the next step, where it is damaged.

    Raises:
        UserError: a part is damaged, or it is no such file at all.
    """
    from zipfile import ZipFile

    try:
        with ZipFile(path) as parts:
            damaged = parts.testzip()
        if damaged is None:
            return
        reason = f"the checksum of its part {damaged} does not match"
    except Exception as error:  # zipfile raises a dozen kinds, one for each byte that may be wrong
        reason = first_line(error)
    raise UserError(f"{path}: is damaged ({reason}); {hint}")


def has_room(folder: Path, size: int = 2**24) -> bool:
    """Whether a file of ``size`` bytes could be written to ``folder`` now, by the disk and by quotas."""
    probe = folder / f".room.{os.getpid()}"
    try:
        probe.write_bytes(bytes(size))
        return True
    except OSError as error:
        return not is_full_disk(error)
    finally:
        probe.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def sole(lock: Path, refusal: str, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``lock``, a file that is made with its folder and stays; one process at a time does.

    Args:
        lock: what processes, also of several hosts, have in common.
        refusal: one line for who finds it held.
        seconds: to wait before that.

    Raises:
        UserError: ``refusal``.
    """

    def refuse() -> None:
        raise UserError(refusal)

    with in_turn(lock, refuse, seconds):
        yield


@contextmanager
def in_turn(
    lock: Path,
    tell: Callable[[], object] = lambda: None,
    seconds: float = 0.0,
    longest: float | None = None,
) -> Iterator[None]:
    """Hold ``lock`` as :func:`sole` does, but wait for it as long as it takes.

    Args:
        lock: what processes have in common.
        tell: called once where there is still someone to wait for after ``seconds``.
        seconds: to wait before that.
        longest: seconds to wait after that; None: for ever.

    Raises:
        TimeoutError: it was still held.
        OSError: no file can be made there.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()  # FileLock takes a place where no file can be made for one where someone holds it
    held = FileLock(lock)
    try:
        held.acquire(timeout=seconds)
    except Timeout:
        tell()
        try:
            held.acquire(timeout=-1 if longest is None else longest)
        except Timeout:
            raise TimeoutError(f"{lock} was held for {longest:.0f} s") from None
    try:
        yield
    finally:
        held.release()


def private_folder() -> Path:
    """A folder in the temporary one that nobody else of this host can read or write.

    Raises:
        OSError: someone else made a file or a folder of that name.
    """
    folder = Path(tempfile.gettempdir(), f"ccsweep-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # a link would lead to a place that another user chose
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def user_cache() -> Path:
    """The user's cache folder of ccsweep, moved by XDG_CACHE_HOME; a private one where no home is writable.

    Raises:
        OSError: there is not even a private one.
    """
    import platformdirs

    with suppress(OSError, RuntimeError):  # a container's user may have no home, or one that is not there
        folder = Path(platformdirs.user_cache_dir("ccsweep"))
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return private_folder()
