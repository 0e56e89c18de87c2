"""Downloads against real servers, interrupted in every way; files put there by hand."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccsweep.data.files import NotAvailableError, RemoteFile, obtain
from ccsweep.errors import UserError

CONTENT = bytes(range(256)) * 4000
SCRIPT = """
import sys
from pathlib import Path
from ccsweep.data.files import RemoteFile, obtain
name, md5, folder, mirror = sys.argv[1:]
obtain([RemoteFile(name, md5)], Path(folder), [mirror], verify=True)
"""


def download(file: RemoteFile, folder: Path, mirror: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, file.name, file.md5, str(folder), mirror],
        stderr=subprocess.DEVNULL,
    )


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_downloads_once_and_then_needs_no_mirror(mirrors, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    for _ in range(2):
        [found] = obtain([file], tmp_path / "set", [mirrors.url("good")], verify=True)
        assert found.path.read_bytes() == CONTENT
        assert found.official
    assert mirrors.asked == ["/good/a.gz"]
    assert visible(tmp_path / "set") == ["a.gz"]


@pytest.mark.parametrize("bad", ["none", "cut", "wrong"])
def test_next_mirror_takes_over(mirrors, tmp_path, bad):
    file = mirrors.publish("a.gz", CONTENT)
    chain = [mirrors.url(bad), mirrors.url("good")]
    [found] = obtain([file], tmp_path / "set", chain, verify=True)
    assert found.path.read_bytes() == CONTENT
    assert mirrors.asked == [f"/{bad}/a.gz", "/good/a.gz"]


def test_no_mirror_says_why_each_failed_and_leaves_no_file(mirrors, nowhere, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    folder = tmp_path / "set"
    chain = [*(mirrors.url(manners) for manners in ("none", "cut", "wrong")), nowhere]
    with pytest.raises(NotAvailableError) as caught:
        obtain([file], folder, chain, verify=True)
    assert str(caught.value) == (
        f"a.gz is not in {folder} and no mirror has it ({chain[0]}: status 404; "
        f"{chain[1]}: cut off; {chain[2]}: wrong checksum; {chain[3]}: no connection): "
        "put it there, or set data.dir to a folder with set/a.gz"
    )
    assert visible(folder) == []


def test_killed_download_is_not_the_file_and_the_next_start_recovers(mirrors, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    folder = tmp_path / "set"
    process = download(file, folder, mirrors.url("slow"))
    try:
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size > 0 for path in (folder / ".partial").glob("*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert visible(folder) == []
    [found] = obtain([file], folder, [mirrors.url("good")], verify=True)
    assert found.path.read_bytes() == CONTENT
    assert not (folder / ".partial").exists()


def test_two_processes_download_once(mirrors, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    both = [download(file, tmp_path / "set", mirrors.url("slow")) for _ in range(2)]
    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert mirrors.asked == ["/slow/a.gz"]
    assert (tmp_path / "set" / "a.gz").read_bytes() == CONTENT


def by_hand(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"by hand")


def test_wrong_checksum_is_an_error_and_the_file_stays(mirrors, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    folder = tmp_path / "set"
    by_hand(folder, ["a.gz"])
    with pytest.raises(UserError) as caught:
        obtain([file], folder, [mirrors.url("good")], verify=True)
    assert str(caught.value) == (
        f"{folder}/a.gz has MD5 7d909037a76176adb749eda313187060, expected {file.md5}: delete it "
        "to download it again, or set data.verify=false to use it as it is"
    )
    assert (folder / "a.gz").read_bytes() == b"by hand"
    assert mirrors.asked == []


def test_unverified_file_is_used_as_it_is(mirrors, tmp_path):
    file = mirrors.publish("a.gz", CONTENT)
    by_hand(tmp_path / "set", ["a.gz"])
    [found] = obtain([file], tmp_path / "set", [mirrors.url("good")], verify=False)
    assert not found.official
    assert found.path.read_bytes() == b"by hand"
    assert mirrors.asked == []


def test_read_only_folder_is_only_read(nowhere, tmp_path):
    folder = tmp_path / "set"
    by_hand(folder, ["a.gz"])
    folder.chmod(0o555)
    try:
        obtain([RemoteFile("a.gz", "?")], folder, [nowhere], verify=False)
        assert os.listdir(folder) == ["a.gz"]
    finally:
        folder.chmod(0o755)


def test_folder_that_cannot_be_made(nowhere, tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "set"
    with pytest.raises(UserError) as caught:
        obtain([RemoteFile("a.gz", "?")], folder, [nowhere], verify=True)
    assert str(caught.value) == (
        f"a.gz is not in {folder} and cannot be downloaded there (Not a directory): "
        "put it there, or set data.dir to another folder"
    )


@pytest.mark.parametrize("present", ["a.gz", "b.gz"])
def test_half_a_set_is_not_missing_as_a_whole(nowhere, tmp_path, present):
    by_hand(tmp_path / "set", [present])
    files = [RemoteFile("a.gz", "?"), RemoteFile("b.gz", "?")]
    with pytest.raises(UserError, match=r"^[ab]\.gz is not in ") as caught:
        obtain(files, tmp_path / "set", [nowhere], verify=False)
    assert not isinstance(caught.value, NotAvailableError)


def test_set_that_stops_halfway_is_not_missing_as_a_whole(mirrors, tmp_path):
    files = [mirrors.publish("a.gz", CONTENT), RemoteFile("b.gz", "?")]
    with pytest.raises(UserError, match=r"^b\.gz is not in ") as caught:
        obtain(files, tmp_path / "set", [mirrors.url("good")], verify=True)
    assert not isinstance(caught.value, NotAvailableError)
    assert visible(tmp_path / "set") == ["a.gz"]
