"""What local contrast normalisation promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from ccsweep.data import contrast

SEEDS = st.integers(0, 2**32 - 1)


def images(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.3, 0.6, (count, 32, 32)).astype(np.float32)


@given(level=st.floats(0, 1))
def test_constant_image_becomes_zero(level):
    flat = np.full((2, 32, 32), level, dtype=np.float32)
    np.testing.assert_allclose(contrast.normalise(flat), 0, atol=1e-3)


@given(seed=SEEDS, shift=st.floats(-0.3, 0.4), scale=st.floats(0.2, 5))
def test_brightness_and_contrast_do_not_matter(seed, shift, scale):
    luma = images(seed)
    changed = contrast.normalise(luma * np.float32(scale) + np.float32(shift))
    np.testing.assert_allclose(changed, contrast.normalise(luma), atol=2e-3)


@given(seed=SEEDS)
def test_inverted_image_is_negated(seed):
    luma = images(seed)
    np.testing.assert_allclose(contrast.normalise(1 - luma), -contrast.normalise(luma), atol=1e-3)


def test_each_image_on_its_own():
    batch = images(0, 5)
    np.testing.assert_allclose(contrast.normalise(batch)[3], contrast.normalise(batch[3:4])[0], atol=1e-5)


def test_agrees_with_a_convolution_away_from_the_border():
    luma = images(1)

    def blurred(x: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            x = gaussian_filter1d(x, contrast.SIGMA, axis=axis, radius=contrast.WINDOW // 2)
        return x

    centred = luma - blurred(luma)
    deviation = np.sqrt(blurred(centred**2))
    inner = np.s_[:, 10:-10, 10:-10]
    # Each image has its own mean deviation, in which the border counts: look where it is below.
    local = (centred / deviation)[inner]
    ours = contrast.normalise(luma)[inner]
    np.testing.assert_array_equal(np.sign(local), np.sign(ours))
    assert (np.abs(ours) <= np.abs(local) + 1e-4).all()
    assert np.isclose(ours, local, atol=1e-4).mean() > 0.3


def test_luminance_is_bt601():
    colours = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], dtype=np.uint8)
    np.testing.assert_allclose(contrast.luminance(colours), [[[0.299, 0.587, 0.114, 1]]], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 4095, 4097])
def test_chunks_leave_no_seam(count):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    whole = contrast.normalise(contrast.luminance(pictures)).reshape(count, -1)
    np.testing.assert_allclose(contrast.preprocess(pictures, "pictures"), whole, atol=1e-5)
