"""Rows and blocks by hand."""

import numpy as np

from ccsweep.kernels import memory
from tests.kernels.test_simd import called


def test_rows_are_whole_vectors_and_long_ones_an_odd_number_of_them():
    assert [memory.vectors(width) for width in (0, 1, 16, 17, 256)] == [0, 16, 16, 32, 256]
    widths = (1, 17, 240, 241, 255, 256, 257, 272, 273, 1000)
    assert [memory.spaced(width) for width in widths] == [*(16, 32, 240, 272, 272, 272, 272, 272, 304, 1008)]


def test_the_second_level_cache_is_this_machines(tmp_path):
    for k, (level, size) in enumerate([("1", "48K"), ("1", "32K"), ("2", "1280K"), ("3", "245760K")]):
        (tmp_path / f"index{k}").mkdir()
        (tmp_path / f"index{k}" / "level").write_text(f"{level}\n")
        (tmp_path / f"index{k}" / "size").write_text(f"{size}\n")
    assert memory.second_level(tmp_path) == 1280 * 1024
    (tmp_path / "index2" / "size").write_text("unknown")
    assert memory.second_level(tmp_path) == memory.UNKNOWN
    assert memory.second_level(tmp_path / "no Linux") == memory.UNKNOWN
    assert memory.BLOCK_BYTES == memory.second_level() >= 2**17


def test_blocks_fit_the_cache(monkeypatch):
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2**22)
    # 4 MiB hold 2**20 floats: 1024 rows of 1024, in whole tiles of 128 and no more than there are.
    assert [memory.block(1024, rows) for rows in (1, 128, 129, 1024, 5000)] == [128, 128, 256, 1024, 1024]
    assert [memory.block(length, 10**9) for length in (2048, 1100, 2**20, 2**13)] == [512, 896, 128, 128]
    assert memory.block(1, 10**9) == 2**20
    assert memory.block(0, 300) == 384
    assert memory.block(1024, 5000, cached=2**21) == 512


def test_arrays_start_at_a_cache_line():
    arrays = [memory.aligned(rows, width) for rows in (1, 3, 7) for width in (16, 48)]
    assert [array.shape for array in arrays] == [(rows, width) for rows in (1, 3, 7) for width in (16, 48)]
    assert all(array.ctypes.data % 64 == 0 and array.dtype == "float32" for array in arrays)


def test_arrays_at_addresses():
    for kind, at in ((np.float32, memory.floats), (np.int32, memory.ints)):
        values = np.arange(8).astype(kind)
        part = called(at)(values.ctypes.data + 8, 5)
        assert part.dtype == kind
        assert part.tolist() == [2, 3, 4, 5, 6]
        part[0] = 9
        assert values[2] == 9
