import numpy as np

from ccsweep.data.drawing import DIGIT, FONTS, _font, draw, draw_series


def test_a_picture_depends_on_its_own_seed_alone():
    images, labels = draw_series(7, 0, 12)
    later, later_labels = draw_series(7, 5, 9)
    np.testing.assert_array_equal(later, images[5:9])
    np.testing.assert_array_equal(later_labels, labels[5:9])
    other, _ = draw_series(8, 0, 12)
    assert not (other == images).all(axis=(1, 2, 3)).any()


def test_follows_svhn():
    image, label = draw(np.random.default_rng(0))
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert 0 <= label <= 9
    images, labels = draw_series(1, 0, 400)
    counts = np.bincount(labels, minlength=10)
    assert counts.min() > 10
    assert counts.argmax() == 1  # as in SVHN, whose streets are numbered from 1 too
    # 5th and 95th percentile of SVHN's contrast are 0.06 and 0.22, its mean brightness is 0.46.
    luma = images @ [0.299, 0.587, 0.114] / 255
    low, high = np.percentile(luma.std(axis=(1, 2)), [5, 95])
    assert 0.03 < low < 0.09
    assert 0.16 < high < 0.26
    assert 0.4 < luma.mean() < 0.6


def test_every_font_has_digits_of_the_same_height():
    for name in FONTS:
        _, top, _, bottom = _font(name).getbbox("0")
        assert abs(bottom - top - DIGIT) <= 2, name
