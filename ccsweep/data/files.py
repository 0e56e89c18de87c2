"""The files of a data set: found, downloaded and checked.

A file is never overwritten: one that is there is either right, or the user decides. A download
counts as the file only once it is whole and its checksum is right.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from ccsweep.data import progress
from ccsweep.errors import UserError
from ccsweep.files import in_turn

CONNECT_SECONDS = 3  # per mirror, so that a machine without network knows within seconds
READ_SECONDS = 30  # without a single byte

log = logging.getLogger("ccsweep.data")


@dataclass(frozen=True)
class RemoteFile:
    """One official file: its name, which it has on every mirror too, and its MD5."""

    name: str
    md5: str


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine, with the MD5 that was found."""

    path: Path
    md5: str
    official: bool


class NotAvailableError(UserError):
    """None of a data set's files is there and no mirror has them: a stand-in may take over."""


def obtain(
    files: Iterable[RemoteFile],
    folder: Path,
    mirrors: Iterable[str],
    *,
    verify: bool,
) -> list[LocalFile]:
    """The files of one data set, downloaded into ``folder`` where they are missing.

    Files that are there are used without any access to the network and without writing anything.

    Args:
        files: What is needed.
        folder: Where they are or will be.
        mirrors: Base addresses, ending in "/", tried in this order.
        verify: Whether a file that is there must have its official MD5. A download always must.

    Returns:
        The files in the order of ``files``.

    Raises:
        NotAvailableError: No file is there and no mirror has the first one.
        UserError: A file has the wrong MD5; some files are there, but another one is missing and
            cannot be downloaded; the folder cannot be written.
    """
    files, mirrors = list(files), list(mirrors)
    # All that is there is checked first: who has a wrong file need not download the others.
    found = {file: _check(file, folder, verify) for file in files if _is_there(file, folder)}
    missing = [file for file in files if file not in found]
    if missing:
        _download(missing, folder, mirrors, may_be_replaced=not found)
        found |= {file: _check(file, folder, verify) for file in missing}
    return [found[file] for file in files]


def _is_there(file: RemoteFile, folder: Path) -> bool:
    return (folder / file.name).is_file()


def _check(file: RemoteFile, folder: Path, verify: bool) -> LocalFile:
    path = folder / file.name
    try:
        md5 = pooch.file_hash(str(path), alg="md5")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend that, or set data.dir") from error
    if verify and md5 != file.md5:
        raise UserError(
            f"{path} has MD5 {md5}, expected {file.md5}: delete it to download it again, "
            "or set data.verify=false to use it as it is"
        )
    return LocalFile(path, md5, official=md5 == file.md5)


def _download(missing: list[RemoteFile], folder: Path, mirrors: list[str], *, may_be_replaced: bool) -> None:
    """Downloads the files; stops at the first that no mirror has, for the others will not come."""
    try:
        with _sole_downloader(folder) as partial:
            for file in missing:
                if _is_there(file, folder):
                    continue  # another process has just downloaded it
                failures = _try_mirrors(file, partial, mirrors)
                if failures:
                    # Past the first file the set is half there: no case for a stand-in.
                    absent = may_be_replaced and file == missing[0]
                    raise (NotAvailableError if absent else UserError)(
                        f"{file.name} is not in {folder} and no mirror has it "
                        f"({'; '.join(failures)}): put it there, or set data.dir to a folder "
                        f"with {folder.name}/{file.name}"
                    )
                os.replace(partial / file.name, folder / file.name)
    except OSError as error:
        raise UserError(
            f"{missing[0].name} is not in {folder} and cannot be downloaded there "
            f"({error.strerror or error}): put it there, or set data.dir to another folder"
        ) from error


@contextmanager
def _sole_downloader(folder: Path) -> Iterator[Path]:
    """Holds the folder's lock and an empty subfolder for files that are not yet whole.

    The operating system drops the lock of a process that is killed; what it has left half done
    is swept away by the next one.
    """
    partial = folder / ".partial"

    def tell() -> None:
        log.info("another process is downloading into %s: waiting for it", folder)

    with in_turn(folder / ".download.lock", tell):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _try_mirrors(file: RemoteFile, partial: Path, mirrors: list[str]) -> list[str]:
    """Downloads from the first mirror that has the file; else says why each of them failed."""
    pooch.get_logger().setLevel("WARNING")  # pooch's own lines bypass the logging configuration
    failures = []
    for mirror in mirrors:
        log.info("downloading %s%s", mirror, file.name)
        with progress.Bar(file.name, 0, "B") as bar:  # pooch sets the total once it knows it
            downloader = pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=1 << 16,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                # A server that unpacks a .gz on the way would change its checksum.
                headers={"Accept-Encoding": "identity"},
            )
            try:
                pooch.retrieve(mirror + file.name, f"md5:{file.md5}", file.name, partial, None, downloader)
            except (requests.RequestException, ValueError) as error:
                failures.append(f"{mirror}: {_reason(error)}")
            else:
                return []
    return failures


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.RequestException):
        return type(error).__name__
    return "wrong checksum"  # pooch's ValueError
