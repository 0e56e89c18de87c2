"""Products of bytes against NumPy, bit for bit, with each instruction that this CPU has, and without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.kernels import vnni
from ccsweep.kernels.vnni import BYTES, GROUP, ORDER
from tests.kernels.test_simd import called

WIDTHS = sorted({0, vnni.WIDTH, min(vnni.WIDTH, 256)})
ADD = {(width, k): called(vnni.row_adder(k, width)) for width in WIDTHS for k in (1, 3, 4)}
DOT = {width: called(vnni.dotter(width)) for width in WIDTHS}
SCORE = {(width, *n): called(vnni.scorer(*n, width)) for width in WIDTHS for n in ((4, 2), (1, 8))}
EXTREMES = ("any", "largest", "smallest", "zero")


def draw(
    kind: str, low: int, high: int, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """Bytes, any, or all of them as they come worst."""
    numbers = {"largest": high, "smallest": low, "zero": 0}
    made = generator.integers(low, high + 1, shape) if kind == "any" else np.full(shape, numbers[kind])
    return made.astype(np.uint8 if low == 0 else np.int8)


@settings(max_examples=60)
@given(
    kinds=st.tuples(*[st.sampled_from(EXTREMES)] * 2),
    chosen=st.sampled_from(sorted(ADD)),
    fours=st.tuples(st.integers(0, 3), st.integers(0, 5)),
    seed=st.integers(0, 999),
)
def test_listed_rows_are_added_and_subtracted(kinds, chosen, fours, seed):
    generator, blocks = np.random.default_rng(seed), chosen[1]
    units, negatives, count = BYTES * blocks, GROUP * fours[0], GROUP * sum(fours)
    weights = draw(kinds[0], -128, 127, (40, units), generator)
    rows = np.zeros((40, units + 2 * BYTES), np.int8)
    rows[:, :units] = weights.reshape(40, blocks, BYTES)[:, :, ORDER].reshape(40, units)
    index = generator.integers(0, 40, count).astype(np.int32)
    quantised = draw(kinds[1], 0, 255, (count,), generator)
    sums = np.full(units + 1, 7, np.int32)
    ADD[chosen](
        *(index.ctypes.data, quantised.ctypes.data, negatives, count),
        *(rows.ctypes.data, rows.shape[1], sums.ctypes.data),
    )
    signed = np.where(np.arange(count) < negatives, -1, 1) * quantised.astype(np.int64)
    np.testing.assert_array_equal(sums, [*(signed @ weights[index].astype(np.int64)), 7])


@settings(max_examples=60)
@given(
    kinds=st.tuples(*[st.sampled_from(EXTREMES)] * 2),
    width=st.sampled_from(WIDTHS),
    chunks=st.lists(st.integers(0, 6), max_size=7, unique=True),
    seed=st.integers(0, 999),
)
def test_four_dot_products(kinds, width, chunks, seed):
    generator = np.random.default_rng(seed)
    x = draw(kinds[0], 0, 255, (7 * BYTES,), generator)
    rows = draw(kinds[1], -128, 127, (4, 7 * BYTES), generator)
    listed = np.array([*chunks, 99], np.int32) * BYTES
    sums = np.full(5, 7, np.int32)
    addresses = [row.ctypes.data for row in rows]
    DOT[width](x.ctypes.data, listed.ctypes.data, len(chunks), *addresses, sums.ctypes.data)
    taken = [j for chunk in chunks for j in range(BYTES * chunk, BYTES * chunk + BYTES)]
    expected = rows[:, taken].astype(np.int64) @ x[taken].astype(np.int64)
    np.testing.assert_array_equal(sums, [*expected, 7])


@settings(max_examples=60)
@given(
    kinds=st.tuples(*[st.sampled_from(EXTREMES)] * 2),
    chosen=st.sampled_from(sorted(SCORE)),
    groups=st.integers(0, 9),
    seed=st.integers(0, 999),
)
def test_scores(kinds, chosen, groups, seed):
    generator, (_, samples, vectors) = np.random.default_rng(seed), chosen
    units = 16 * vectors
    x = draw(kinds[0], 0, 255, (samples, 48), generator)
    weights = draw(kinds[1], -128, 127, (groups, units, GROUP), generator)
    start = generator.integers(-(2**20), 2**20, units).astype(np.int32)
    sums = np.full((samples, units + 3), 7, np.int32)
    SCORE[chosen](
        *(x.ctypes.data, 48, groups, weights.ctypes.data, GROUP * units),
        *(start.ctypes.data, sums.ctypes.data, 4 * (units + 3)),
    )
    by_rank = weights.transpose(0, 2, 1).reshape(GROUP * groups, units).astype(np.int64)
    np.testing.assert_array_equal(sums[:, :units], start + x[:, : GROUP * groups].astype(np.int64) @ by_rank)
    assert (sums[:, units:] == 7).all()


@pytest.mark.parametrize("offset", [0, 128])
def test_floats_become_the_nearest_bytes(offset):
    values = np.array([0, 0.5, 1.5, 2.5, 3.49, 100, 126.5, 127, -0.5, -127, 1, 2, 3, 4, 5, -0.0], np.float32)
    values = values if offset else np.abs(values)
    found = np.zeros(20, np.uint8)
    called(vnni.round_to_bytes)(values.ctypes.data, np.float32(1), np.int32(offset), found.ctypes.data)
    np.testing.assert_array_equal(found, [*(np.rint(values).astype(int) + offset), 0, 0, 0, 0])


def test_the_reach_of_floats():
    reach = called(vnni.reach)
    values = np.zeros(32, np.float32)
    assert reach(values.ctypes.data, 0) == reach(values.ctypes.data, 32) == 0
    values[[3, 20]] = 2, 7
    assert (reach(values.ctypes.data, 16), reach(values.ctypes.data, 32)) == (2, 7)
    values[31] = -1
    assert reach(values.ctypes.data, 32) == -7
    values[30] = -np.inf
    assert reach(values.ctypes.data, 32) == -np.inf
    values[5] = np.nan
    assert np.isnan(reach(values.ctypes.data, 32))


def test_sums_become_floats_again():
    sums = np.arange(-8, 8, dtype=np.int32)
    scales, bias, found = np.full(16, 0.25, np.float32), np.ones(16, np.float32), np.empty(16, np.float32)
    addresses = [array.ctypes.data for array in (scales, bias, found)]
    called(vnni.rescale)(sums.ctypes.data, np.float32(2), *addresses)
    np.testing.assert_array_equal(found, sums * 0.5 + 1)


def test_what_is_occupied():
    row = np.zeros(BYTES, np.uint8)
    call = called(vnni.occupied)
    assert not call(row.ctypes.data)
    for place in (0, 17, 63):
        row[:] = 0
        row[place] = 1
        assert call(row.ctypes.data)
