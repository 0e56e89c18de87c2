"""Arrays that are slow to compute, kept in the user's cache folder."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from ccsweep.files import in_turn, user_cache, whole

Arrays = dict[str, np.ndarray]

# The array that names all arrays of a file: a zip whose directory is damaged may just look shorter.
MEMBERS = "members"

log = logging.getLogger("ccsweep.data")


def cached(name: str, key: str, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of ``compute``, computed once per ``key`` and machine.

    A cache file is there whole or not at all. One that cannot be read, or whose checksum (every
    member of an .npz has one) does not match, is computed again. Processes that need the same
    arrays wait for the first one. Where the folder cannot be written, nothing is kept.

    Args:
        name: What the arrays are, for the file name and messages.
        key: Stands for everything the arrays depend on, see ``dataset.digest``.
        compute: Makes the arrays.
    """
    try:
        path = user_cache() / "arrays" / f"{name}-{key}.npz"
    except OSError as error:
        log.warning("%s cannot be kept: %s", name, error)
        return compute()
    arrays = _read(path, log.debug)
    if arrays is None:
        with _lock(path):
            arrays = _read(path, log.warning)  # another process may have made it meanwhile
            if arrays is None:
                arrays = compute()
                _write(path, arrays)
    return arrays


def _read(path: Path, tell: Callable[..., None]) -> Arrays | None:
    try:
        # Opened here, for np.load forgets to close a file that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if sorted(arrays) != sorted(arrays[MEMBERS]):
            raise ValueError("an array is missing")
        del arrays[MEMBERS]
        return arrays
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy and zipfile raise a dozen kinds, one per damaged byte
        tell("%s is damaged (%s) and is made again", path, error)
        return None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keeps other processes from making the same file; does nothing where none can be made."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(in_turn(path.with_suffix(".lock")))
        yield


def _write(path: Path, arrays: Arrays) -> None:
    members = {MEMBERS: np.array([MEMBERS, *arrays])}
    try:
        with whole(path) as part, part.open("wb") as file:
            np.savez(file, **members, **arrays)  # type: ignore[arg-type]  # numpy types **kwds as bool
    except OSError as error:
        log.warning("%s cannot be kept: %s", path, error)
