"""Dropout against its definition in NumPy, and the instruction against its twin."""

import numpy as np
import pytest

from ccsweep.kernels.simd import LANES
from ccsweep.kernels.training import dropout
from ccsweep.kernels.training.dropout import ALL
from tests.kernels import reference
from tests.kernels.test_simd import ODD, called

KEY = np.uint64(0x9876_5432_10FE_DCBA)
NUMBERS = np.arange(400, dtype=np.int32)
sample_key, hashed = called(dropout.sample_key), called(dropout.hashed)


def words(level: int, sample: int) -> tuple[np.uint32, np.uint32]:
    return tuple(np.uint32(word) for word in sample_key(KEY, level, sample))


@pytest.mark.parametrize("level", [0, 1, 7])
def test_hashes_are_as_defined(level):
    expected = reference.hashes(int(KEY), level, 5, 40)
    found = [[hashed(np.int32(unit), *words(level, sample)) for unit in range(40)] for sample in range(5)]
    assert found == expected.tolist()


def test_a_known_stream():
    """The first numbers of splitmix64 from 0, and of murmur3's finaliser, as their authors publish them."""
    zero = np.uint64(0)
    pairs = [sample_key(zero, 0, sample) for sample in range(3)]
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [low + (high << 32) for low, high in pairs] == first
    assert hashed(np.int32(1), np.uint32(0), np.uint32(0)) == 0x514E28B7


def test_masks_are_unrelated():
    """Of neighbouring units, samples, levels and keys: as many agree as chance has it."""
    masks = np.array(
        [reference.kept(key, level, 60, 500, 0.5) for key in (1, 2, 1 << 40) for level in (0, 1, 2)]
    )
    assert abs(masks.mean() - 0.5) < 5 * 0.5 / masks.size**0.5
    pairs = [(masks[i], masks[j]) for i in range(9) for j in range(i)]
    pairs += [
        (masks[:, :-1], masks[:, 1:]),
        (masks[..., :-1], masks[..., 1:]),
        (masks[..., :-16], masks[..., 16:]),
    ]
    for one, other in pairs:
        assert abs((one == other).mean() - 0.5) < 5 * 0.5 / one.size**0.5
    for share in (0.1, 0.2, 0.8):
        kept = reference.kept(3, 1, 100, 1000, share)
        assert abs(kept.mean() - (1 - share)) < 5 * (share * (1 - share) / kept.size) ** 0.5


def limit_of(share: float) -> np.uint32:
    return np.uint32(round((1 - share) * 2**32) - 1)


@pytest.mark.parametrize(
    ("instruction", "counts"),
    [
        (dropout.compress_dropped("!="), lambda v: v != 0),
        (dropout.plain_drop(positive=False), lambda v: v != 0),
        (dropout.compress_dropped(">"), lambda v: ~(v <= 0)),
        (dropout.plain_drop(positive=True), lambda v: ~(v <= 0)),
    ],
)
def test_a_list_goes_on_without_what_is_dropped(instruction, counts):
    drop = called(instruction)
    for share, density in [(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (0.8, 1.0), (0.5, 0.0)]:
        generator = np.random.default_rng(0)
        values = generator.standard_normal(3 * LANES).astype(np.float32)
        values[generator.random(3 * LANES) >= density] = 0
        values[[20, 25, 30]] = ODD if density else -0.0
        numbers = NUMBERS[100:]
        index, value = np.full(40, -1, np.int32), np.full(40, -1, np.float32)
        stays = reference.kept(int(KEY), 2, 4, 200, share)[3, 100 + LANES : 100 + 2 * LANES]
        expected = np.flatnonzero(counts(values[LANES : 2 * LANES]) & stays) + LANES
        scale = np.float32(1 / (1 - share))
        found = drop(numbers, values, LANES, index, value, 5, *words(2, 3), limit_of(share), scale)
        assert found == len(expected)
        end = 5 + len(expected)
        np.testing.assert_array_equal(index[5:end], numbers[expected])
        np.testing.assert_array_equal(value[5:end], values[expected] * scale)
        assert (index[:5] == -1).all()
        assert (value[5 + LANES :] == -1).all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_positive_ones_that_stay_are_appended(share):
    sums = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    index, value = np.full(90, -1, np.int32), np.full(90, -1, np.float32)
    append = called(dropout.append_kept)
    count = append(NUMBERS, sums, 48, index, value, 2, words(0, 0), limit_of(share), np.float32(2))
    expected = np.flatnonzero((sums[:48] > 0) & reference.kept(int(KEY), 0, 1, 48, share)[0])
    assert index[2:count].tolist() == expected.tolist()
    # Where nothing is dropped there is nothing to make up for.
    np.testing.assert_array_equal(value[2:count], sums[expected] * (2 if share else 1))
    assert limit_of(0.0) == ALL


@pytest.mark.parametrize("inputs", [1, 15, 16, 17, 100])
def test_the_inputs_that_stay_are_listed(inputs):
    x = np.random.default_rng(0).integers(-1, 2, inputs).astype(np.float32)
    index, value = np.full(inputs + LANES, -1, np.int32), np.full(inputs + LANES, -1, np.float32)
    rest = np.full(LANES, 9, np.float32)
    listed = called(dropout.list_kept)
    count = listed(x, rest, NUMBERS, index, value, words(0, 5), limit_of(0.2), np.float32(1.25))
    expected = np.flatnonzero((x != 0) & reference.kept(int(KEY), 0, 6, inputs, 0.2)[5])
    assert index[:count].tolist() == expected.tolist()
    np.testing.assert_array_equal(value[:count], x[expected] * np.float32(1.25))


@pytest.mark.parametrize(
    ("batch", "width", "share"), [(1, 1, 0.5), (7, 33, 0.2), (40, 100, 0.8), (3, 5, 0.0)]
)
def test_a_mask_is_the_same_one(batch, width, share):
    mask = np.full((batch, width), np.nan, np.float32)
    dropout.write_mask(KEY, 2, limit_of(share), np.float32(1 / (1 - share)), mask)
    expected = reference.kept(int(KEY), 2, batch, width, share) / (1 - share)
    np.testing.assert_allclose(mask, expected, rtol=1e-6)
