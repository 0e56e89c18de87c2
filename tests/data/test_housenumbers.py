import numpy as np

from ccsweep.data import contrast, load
from ccsweep.data.housenumbers import SEEDS, draw_many


def test_same_pictures_from_any_number_of_processes():
    series = [(1, 600), (2, 30)]
    alone, shared = draw_many(series, processes=1), draw_many(series, processes=2)
    for (images, labels), (same_images, same_labels) in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert [len(labels) for _, labels in alone] == [600, 30]


def test_splits_are_drawn_from_their_own_seeds():
    data = load("housenumbers", samples=90)
    for name, size in {"train": 90, "validation": 10, "test": 20}.items():
        split = getattr(data, name)
        [(images, labels)] = draw_many([(SEEDS[name], size)])
        np.testing.assert_array_equal(split.labels.numpy(), labels)
        np.testing.assert_allclose(split.images.numpy(), contrast.preprocess(images, name), atol=1e-5)
    assert len(set(SEEDS.values())) == 3


def test_fewer_are_the_first_of_more():
    few, more = load("housenumbers", samples=18), load("housenumbers", samples=90)
    np.testing.assert_array_equal(few.train.labels, more.train.labels[:18])
    assert few.digest != more.digest
