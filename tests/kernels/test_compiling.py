"""What is compiled is kept, found again, and never taken for something else."""

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest
from numba.core import config

from ccsweep.files import in_turn
from ccsweep.kernels import compiling
from ccsweep.kernels.compiling import Target, announced, kernel, key, target

HASWELL = Target("x86_64-unknown-linux-gnu", "haswell", "")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """NUMBA_CACHE_DIR, empty."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def double(x):
    return 2 * x


def files(place: Path) -> list[str]:
    return sorted(file.suffix for file in place.rglob("*double-*"))


def test_a_change_in_any_file_and_another_cpu_give_another_key(tmp_path):
    folder = Path(shutil.copytree(compiling.HERE, tmp_path / "kernels"))
    first = key(folder, HASWELL)
    assert first == key(compiling.HERE, HASWELL)
    assert first.startswith("ccsweep-haswell-")
    others = {key(folder, HASWELL._replace(cpu="znver4")), key(folder, HASWELL._replace(features="+avx512f"))}
    sources = sorted(folder.glob("*.py"))
    for file in sources:
        file.write_text(file.read_text() + "# changed\n")
        others.add(key(folder, HASWELL))
    (folder / "more.py").write_text("# new\n")
    others.add(key(folder, HASWELL))
    assert len(others) == 2 + len(sources) + 1
    assert first not in others


def test_the_target_is_what_numba_was_told():
    program = "from ccsweep.kernels.compiling import target; print(*target()[1:])"
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "haswell +avx\n"


def test_a_kernel_is_kept_in_its_keys_folder(place, monkeypatch):
    first = kernel(double)
    assert first(3) == 6
    folder = Path(first.stats.cache_path)
    assert folder.is_relative_to(place)
    assert folder.name == key(compiling.HERE, target())
    assert files(place) == [".nbc", ".nbi"]
    again = kernel(double)
    assert again(3) == 6
    assert again.stats.cache_hits.total() == 1
    monkeypatch.setattr(compiling, "_key", lambda: "ccsweep-other")
    other = kernel(double)
    assert other(3) == 6
    assert other.stats.cache_hits.total() == 0
    assert files(place) == [".nbc", ".nbc", ".nbi", ".nbi"]


def test_without_a_place_that_is_writable_it_computes(tmp_path, monkeypatch, caplog):
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(os, "makedirs", refuse)
    alone = kernel(double)
    with announced(alone):
        assert alone(3) == 6
    assert alone.stats.cache_path is None
    assert caplog.messages == [
        "compiling the engine's kernels: takes about 15 s, in every process: no folder to keep them is "
        "writable, set NUMBA_CACHE_DIR to one that is"
    ]


def test_without_a_home_no_folder_is_named_after_it(tmp_path, monkeypatch):
    """As in a container whose user id has no name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(compiling._Places, "_locator_classes", [compiling._OfUser])
    assert kernel(double).stats.cache_path is None
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(kernel(double).stats.cache_path).is_relative_to(tmp_path / "cache")


def test_without_a_home_kernels_are_kept_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(compiling._Places, "_locator_classes", [compiling._Private])
    kept = kernel(double)
    assert kept(3) == 6
    folder = tmp_path / f"ccsweep-{os.getuid()}" / "kernels" / key(compiling.HERE, target())
    assert Path(kept.stats.cache_path) == folder
    assert files(folder) == [".nbc", ".nbi"]


def test_one_process_at_a_time_keeps_what_it_compiled(place, monkeypatch, caplog):
    """numba alone would give two overloads of two processes the same file."""
    monkeypatch.setattr(compiling, "WAIT", 0.1)
    waiting = kernel(double)
    folder = Path(waiting.stats.cache_path)
    with in_turn(folder / ".lock"):
        assert waiting(3) == 6
    assert caplog.messages == [
        f"compiled kernels are not kept in {folder}: {folder / '.lock'} was held for 0 s"
    ]
    assert files(place) == []
    assert waiting(3.0) == 6
    assert files(place) == [".nbc", ".nbi"]


def test_a_full_disk_ends_nothing(place, monkeypatch, caplog):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    unkept = kernel(double)
    assert unkept(3) == 6
    folder = unkept.stats.cache_path
    assert caplog.messages == [
        f"compiled kernels are not kept in {folder}: [Errno 28] No space left on device"
    ]
    assert files(place) == []


def test_a_new_process_compiles_nothing():
    program = (
        "import logging; logging.basicConfig(format='%(message)s', level=logging.INFO)\n"
        "from ccsweep.kernels.skipping import run; from ccsweep.engine.compiled import warm_up\n"
        "warm_up(); print(run.stats.cache_hits.total(), run.stats.cache_misses.total())"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]
    assert "compiling" not in done.stderr


def test_compiling_is_said_once_and_timed(place, caplog):
    caplog.set_level(logging.INFO, "ccsweep.kernels")
    part = numba.njit(double)
    whole = kernel(lambda x: part(x) + 1)
    with announced(whole):
        assert whole(1) == 3
    said, timed = caplog.messages
    assert said == "compiling the engine's kernels: takes about 15 s, once: they are kept on disk"
    assert re.fullmatch(r"compiled the engine's kernels in \d s", timed)  # a busy machine takes a second
