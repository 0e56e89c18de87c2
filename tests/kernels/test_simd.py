"""Each instruction, its plain twin and NumPy give the same."""

import numba
import numpy as np
import pytest

from ccsweep.kernels import simd
from ccsweep.kernels.simd import LANES

ODD = (np.nan, np.inf, -np.inf)


def whole(*shape: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers, half of them 0: their sums are exact in any order."""
    return np.random.default_rng(seed).choice(np.array([-2, -1, 0, 0, 0, 1, 2], np.float32), shape)


def called(instruction):
    """Numba calls it, for Python cannot."""
    return numba.njit(lambda *arguments: instruction(*arguments), error_model="numpy")


def adders(vectors: int):
    return [called(made(vectors)) for made in (simd.fused_add, simd.plain_add)]


@pytest.mark.parametrize("vectors", [1, 2, 4, 8])
def test_rows_are_added(vectors):
    width, stride = LANES * vectors, LANES * vectors + 5
    rows, bias = whole(9, stride), whole(width, seed=1)
    for add in adders(vectors):
        for listed in ([], [4], [8, 0, 3, 3]):
            index, value = np.array([*listed, 99], np.int32), whole(len(listed) + 1, seed=2)
            sums = np.full(width + 4, 7, np.float32)
            add(index, value, len(listed), rows.ctypes.data, stride, bias.ctypes.data, sums, 3)
            expected = bias + value[: len(listed)] @ rows[listed, :width]
            np.testing.assert_array_equal(sums, [7, 7, 7, *expected, 7])


def test_what_is_not_finite_stays_so_in_sums():
    rows, bias = np.ones((3, LANES), np.float32), np.zeros(LANES, np.float32)
    rows[1, :4] = (0, -1, np.inf, np.nan)
    for add in adders(1):
        sums = np.empty(LANES, np.float32)
        index = np.array([0, 1], np.int32)
        add(index, np.array([1, np.inf], np.float32), 2, rows.ctypes.data, LANES, bias.ctypes.data, sums, 0)
        np.testing.assert_array_equal(sums, [np.nan, -np.inf, np.inf, np.nan] + [np.inf] * 12)


@pytest.mark.parametrize("vectors", [1, 2, 4, 8])
@pytest.mark.parametrize("made", [simd.fused_add_and_dot, simd.plain_add_and_dot])
def test_rows_are_added_and_multiplied(made, vectors):
    both = called(made(vectors))
    width, stride = LANES * vectors, LANES * vectors + 5
    rows, weights = whole(9, stride), whole(width, seed=1)
    for listed in ([], [4], [8, 0, 3, 3]):
        index, value = np.array([*listed, 99], np.int32), whole(len(listed) + 1, seed=2)
        sums, dots = np.full(width + 4, 7, np.float32), np.full(len(listed) + 1, 10, np.float32)
        both(index, value, len(listed), rows.ctypes.data, stride, weights.ctypes.data, sums, 3, dots)
        np.testing.assert_array_equal(sums, [7, 7, 7, *(value[:-1] @ rows[listed, :width]), 7])
        np.testing.assert_array_equal(dots, [*(10 + rows[listed, :width] @ weights), 10])


@pytest.mark.parametrize("dots", [simd.fused_dots, simd.plain_dots])
def test_four_dot_products(dots):
    call = called(dots)
    x, rows = whole(5 * LANES), whole(4, 5 * LANES, seed=1)
    addresses = [row.ctypes.data for row in rows]
    for chunks in ([], [2 * LANES], [0, LANES, 4 * LANES]):
        sums = np.full(7, 9, np.float32)
        call(x, np.array([*chunks, 999], np.int32), len(chunks), *addresses, sums, 2)
        taken = [j for start in chunks for j in range(start, start + LANES)]
        np.testing.assert_array_equal(sums, [9, 9, *(rows[:, taken] @ x[taken]), 9])
    x[3], rows[:, 3] = np.inf, (1, -1, 0, np.nan)
    call(x, np.zeros(1, np.int32), 1, *addresses, sums, 2)
    np.testing.assert_array_equal(sums[2:6], [np.inf, -np.inf, np.nan, np.nan])


@pytest.mark.parametrize(
    ("instruction", "kept"),
    [
        (simd.compress("!="), lambda v: v != 0),
        (simd.plain_keep(positive=False), lambda v: v != 0),
        (simd.compress(">"), lambda v: ~(v <= 0)),
        (simd.plain_keep(positive=True), lambda v: ~(v <= 0)),
    ],
)
def test_a_list_goes_on(instruction, kept):
    keep = called(instruction)
    generator = np.random.default_rng(0)
    for density in (0.0, 0.1, 0.5, 1.0):
        values = generator.standard_normal(3 * LANES).astype(np.float32)
        values[generator.random(3 * LANES) >= density] = 0
        values[[20, 25, 30]] = ODD if density else -0.0
        numbers = generator.integers(0, 2**31, 3 * LANES, dtype=np.int32)
        index, value = np.full(40, -1, np.int32), np.full(40, -1, np.float32)
        expected = np.flatnonzero(kept(values[LANES : 2 * LANES])) + LANES
        assert keep(numbers, values, LANES, index, value, 5) == len(expected)
        end = 5 + len(expected)
        np.testing.assert_array_equal(index[5:end], numbers[expected])
        np.testing.assert_array_equal(value[5:end], values[expected])
        assert (index[:5] == -1).all()
        assert (value[:5] == -1).all()
        assert (index[5 + LANES :] == -1).all()
        assert (value[5 + LANES :] == -1).all()


@pytest.mark.parametrize("instruction", [simd.compress_indices, simd.plain_indices])
def test_a_list_of_indices_goes_on(instruction):
    values = np.tile(np.array([1, -1, 0, np.nan, -0.0, np.inf, -np.inf, 2], np.float32), 4)
    numbers, index = np.arange(100, 132, dtype=np.int32), np.full(40, -1, np.int32)
    kept = [116 + k for k in range(16) if not values[16 + k] <= 0]
    assert called(instruction)(numbers, values, 16, index, 5) == len(kept)
    assert index[:5].tolist() == [-1] * 5
    assert index[5 : 5 + len(kept)].tolist() == kept
    assert (index[5 + LANES :] == -1).all()


def test_a_float_at_an_address():
    values = whole(8)
    at = called(simd.float_at)
    assert [at(values.ctypes.data, k) for k in range(8)] == list(values)


def test_16_by_16_floats_are_transposed():
    source, target = whole(LANES, LANES + 3), np.full((LANES, LANES + 5), 7, np.float32)
    called(simd.transpose)(source.ctypes.data, LANES + 3, target.ctypes.data, LANES + 5)
    np.testing.assert_array_equal(target[:, :LANES], source[:, :LANES].T)
    assert (target[:, LANES:] == 7).all()
