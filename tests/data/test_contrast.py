"""What local contrast normalisation promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve

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


def by_hand(image: np.ndarray) -> np.ndarray:
    """The docstring's three lines with a two-dimensional convolution, in float64."""
    away = np.arange(-4, 5)
    window = np.exp(-(away[:, None] ** 2 + away**2) / (2 * 2.0**2))

    def blurred(x: np.ndarray) -> np.ndarray:
        return convolve(x, window, mode="constant") / convolve(np.ones_like(x), window, mode="constant")

    centred = image - blurred(image)
    deviation = np.sqrt(blurred(centred**2))
    return centred / np.maximum(np.maximum(deviation, deviation.mean()), 1e-3)


@pytest.mark.parametrize("scale", [1.0, 0.002])
def test_written_out(scale):
    """Also where the mean deviation is the floor, in flat parts, and where the fixed one is, in faint pictures."""
    luma = images(1) * np.float32(scale)
    luma[:, :20] = 0.5 * np.float32(scale)
    luma = np.concatenate([luma, luma[:, :, ::-1]], axis=2)[:, :, 5:33]  # not square
    expected = np.stack([by_hand(image.astype(np.float64)) for image in luma])
    np.testing.assert_allclose(contrast.normalise(luma), expected, atol=2e-3)


def test_luminance_is_bt601():
    colours = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], dtype=np.uint8)
    np.testing.assert_allclose(contrast.luminance(colours), [[[0.299, 0.587, 0.114, 1]]], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 4095, 4097])
def test_chunks_leave_no_seam(count):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    whole = contrast.normalise(contrast.luminance(pictures)).reshape(count, -1)
    np.testing.assert_allclose(contrast.preprocess(pictures, "pictures"), whole, atol=1e-5)


def test_what_is_shown_while_it_takes_long(monkeypatch):
    told = []

    class Bar:
        def __init__(self, what, total, unit):
            told.append((what, total, unit))

        def update(self, count):
            told.append(count)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append("closed")

    monkeypatch.setattr(contrast.progress, "Bar", Bar)
    out = contrast.preprocess(np.zeros((4099, 2, 3, 3), dtype=np.uint8), "train.mat")
    assert told == [("normalising train.mat", 4099, "images"), 4096, 3, "closed"]
    assert (out.shape, out.dtype) == ((4099, 6), np.float32)
    assert contrast.luminance(np.zeros((1, 2, 3, 3), dtype=np.uint8)).dtype == np.float32


def test_what_the_result_depends_on():
    assert contrast.settings() == {"lcn": 1, "window": 9, "sigma": 2.0, "floor": 1e-3}
