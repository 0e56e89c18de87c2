import numpy as np

from ccsweep.data.drawing import DIGIT, FONTS, VERSION, _font, draw, draw_series


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


KNOWN = bytes.fromhex(
    "045f506461064f44615b009dc186a901cce6d6ef04868b9c82067a7180920155535652093e43444a059a9fa39b08c0bc"
    "ab930966837a6d01ccb8d7d603a49ca4ac0214211d39041e1e302d02333b363c0396869586028fa4a5aa07a8c38bb003"
    "c19eb5a9096951735e06c3bbc5a4017d79898906b9e5b9d8056279638805886b958f0377726e7705887e9270088eb895"
    "b60961676b75017a8a97950674678566048ba9aabf02cbd6b8ec087d83a09e04b6d0c3d103652e45530290b78fa809a8"
    "bf9db403a793a89702cbbadcce0680858d9000423e4f4703bfb1ccbd00c9a4d0b5026967575d0496919b920529342d31"
)


def test_the_pictures_that_its_version_names():
    """Mean brightness of the quarters of 48 pictures, as they were when VERSION became what it is.

    Whoever changes a picture raises VERSION, for cached data sets are named by it, and writes these anew.
    Another FreeType may draw a letter slightly otherwise.
    """
    images, labels = draw_series(5, 0, 48)
    quarters = images.reshape(48, 2, 16, 2, 16, 3).mean(axis=(2, 4, 5)).reshape(48, 4)
    known = np.frombuffer(KNOWN, dtype=np.uint8).reshape(48, 5)
    assert VERSION == 1
    assert labels.tolist() == known[:, 0].tolist()
    np.testing.assert_allclose(quarters, known[:, 1:], atol=2)
