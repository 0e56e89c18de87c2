"""Cached arrays: computed once, whole or not at all."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccsweep.data.cache import cached

ARRAYS = {"a": np.arange(200, dtype=np.float32), "b": np.arange(5)}
SCRIPT = """
import time
import numpy as np
from ccsweep.data.cache import cached
def compute():
    print("computed", flush=True)
    time.sleep(0.5)
    return {"a": np.arange(3)}
assert cached("numbers", "key", compute)["a"].tolist() == [0, 1, 2]
"""


class Computation:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return ARRAYS


def check(arrays: dict[str, np.ndarray]) -> None:
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_computed_once_per_key(cache_home):
    compute = Computation()
    for _ in range(2):
        check(cached("numbers", "key", compute))
    assert compute.times == 1
    check(cached("numbers", "other", compute))
    assert compute.times == 2
    names = sorted(path.name for path in (cache_home / "arrays").iterdir())
    assert [name for name in names if not name.endswith(".lock")] == [
        "numbers-key.npz",
        "numbers-other.npz",
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_any_damage_is_repaired_or_harmless(cache_home, place, cut):
    cached("numbers", "key", Computation())
    path = cache_home / "arrays" / "numbers-key.npz"
    content = bytearray(path.read_bytes())
    index = int(place * len(content))
    if cut:
        del content[index:]
    else:
        content[index] ^= 0xFF
    path.write_bytes(content)
    check(cached("numbers", "key", Computation()))


def test_damage_is_said(cache_home, caplog):
    cached("numbers", "key", Computation())
    path = cache_home / "arrays" / "numbers-key.npz"
    path.write_bytes(b"garbage")
    compute = Computation()
    with caplog.at_level(logging.WARNING, "ccsweep.data"):
        check(cached("numbers", "key", compute))
    assert compute.times == 1
    assert f"{path} is damaged (" in caplog.text


def test_a_failing_computation_leaves_nothing(cache_home):
    def fail() -> dict[str, np.ndarray]:
        raise OSError("no luck")

    with pytest.raises(OSError, match="no luck"):
        cached("numbers", "key", fail)
    assert not list((cache_home / "arrays").glob("*.npz"))
    check(cached("numbers", "key", Computation()))


def test_works_without_a_place_to_keep_it(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check(cached("numbers", "key", Computation()))
    private = tmp_path / f"ccsweep-{os.getuid()}"
    assert [path.name for path in (private / "arrays").glob("*.npz")] == ["numbers-key.npz"]
    shutil.rmtree(private)
    private.write_text("in the way, too")
    check(cached("numbers", "key", Computation()))
    assert caplog.messages == [f"numbers cannot be kept: {private} belongs to another user"]


def test_processes_wait_for_the_first():
    both = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = [process.communicate(timeout=30)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(printed) == "computed\n"
