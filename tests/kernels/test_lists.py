"""Lists of what is left to compute."""

import numpy as np
import pytest

from ccsweep.kernels import lists
from ccsweep.kernels.simd import LANES
from tests.kernels.test_simd import called

NUMBERS = np.arange(400, dtype=np.int32)


def empty(samples: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = samples, width + LANES
    return np.full(shape, -1, np.int32), np.full(shape, -1, np.float32), np.full(samples, -1, np.int64)


@pytest.mark.parametrize("inputs", [1, 15, 16, 17, 300])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_the_inputs_that_are_not_zero(inputs, density):
    generator = np.random.default_rng(inputs)
    for samples in (0, 1, 5):
        x = generator.standard_normal((samples, inputs)).astype(np.float32)
        x[generator.random(x.shape) >= density] = 0
        index, value, counts = empty(samples, inputs)
        assert lists.list_inputs(x, x.shape[1], NUMBERS, index, value, counts)
        for s in range(samples):
            listed = np.flatnonzero(x[s])
            assert index[s, : counts[s]].tolist() == listed.tolist()
            np.testing.assert_array_equal(value[s, : counts[s]], x[s, listed])
        back = np.full((samples, inputs + 3), 7, np.float32)
        lists.spread(samples, inputs, (index, value, counts), back)
        np.testing.assert_array_equal(back[:, :inputs], x)
        assert (back[:, inputs:] == 7).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("place", [0, 15, 16, 18])
def test_inputs_that_are_not_finite_are_noticed_and_listed(bad, place):
    x = np.zeros((3, 19), np.float32)
    x[:, 7] = np.finfo(np.float32).max  # the largest that is
    index, value, counts = empty(3, 19)
    assert lists.list_inputs(x, x.shape[1], NUMBERS, index, value, counts)
    x[1, place] = bad
    assert not lists.list_inputs(x, x.shape[1], NUMBERS, index, value, counts)
    assert counts.tolist() == [1, 2, 1]
    assert sorted(index[1, :2]) == sorted([7, place])


@pytest.mark.parametrize("width", [0, 16, 48])
def test_the_positive_ones_are_appended(width):
    sums = np.tile(np.array([1, -1, 0, np.nan, np.inf, -np.inf, 2, -0.0], np.float32), 6)
    index, value, _ = empty(1, 60)
    index[0, 0] = 5
    count = lists.append_positive(NUMBERS[100:], sums, width, index[0], value[0], 1)
    expected = [k for k in range(width) if not sums[k] <= 0]
    assert index[0, :count].tolist() == [5, *(100 + k for k in expected)]
    np.testing.assert_array_equal(value[0, 1:count], sums[expected])


def test_what_fills_up_the_last_vector_is_taken_off():
    index = np.array([3, 40, 41, 42], np.int32)
    assert [lists.within(index, 4, units) for units in (50, 43, 42, 41, 40, 4, 3)] == [4, 4, 3, 2, 1, 1, 0]
    assert lists.within(index, 0, 3) == 0


def test_chunks():
    samples, inputs = 3, 70
    chunks, counts = np.full((samples, 6), -1, np.int32), np.zeros(samples, np.int64)
    lists.list_chunks(inputs, samples, chunks, counts)
    assert counts.tolist() == [5, 5, 5]
    assert chunks[:, :5].tolist() == [[0, 16, 32, 48, 64]] * 3
    index = np.array([[0, 15, 33, 69], [16, 17, 18, 31], [0, 0, 0, 0]], np.int32)
    lists.list_occupied_chunks(samples, (index, None, np.array([4, 4, 0])), chunks, counts)
    assert counts.tolist() == [3, 1, 0]
    assert chunks[0, :3].tolist() == [0, 32, 64]
    assert chunks[1, 0] == 16


@pytest.mark.parametrize(("low", "high"), [(0, 50), (0, 17), (17, 50), (30, 30)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_lists_are_turned_round(density, low, high):
    turn = called(lists.turn)
    generator = np.random.default_rng(0)
    x = np.where(generator.random((6, 50)) < density, generator.standard_normal((6, 50)), 0).astype(
        np.float32
    )
    made = empty(6, 50)
    lists.list_inputs(x, x.shape[1], NUMBERS, *made)
    first, last = 1, 5
    starts = np.full(51, -1, np.int64)
    samples, values = np.full(400, -1, np.int32), np.full(400, -1, np.float32)
    turn(made, first, last, starts, samples, values, low, high)
    assert starts.tolist() == np.cumsum([0, *(x[first:last] != 0).sum(0)]).tolist()
    for i in range(low, high):
        part = slice(starts[i], starts[i + 1])
        expected = [s for s in range(first, last) if x[s, i]]
        assert samples[part].tolist() == expected
        np.testing.assert_array_equal(values[part], x[expected, i])
    assert (samples >= 0).sum() == starts[high] - starts[low]  # the others' are left alone
