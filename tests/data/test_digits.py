import numpy as np
import torch
from sklearn.datasets import load_digits

from ccsweep.data import load
from ccsweep.data.dataset import Request
from ccsweep.data.digits import load_like_mnist


def test_every_digit_is_in_one_split(tmp_path):
    data = load("digits")
    splits = (data.train, data.validation, data.test)
    assert [len(split.labels) for split in splits] == [1257, 180, 360]
    assert data.shape == (8, 8)
    together = torch.cat([split.images for split in splits]).numpy() * 16
    labelled = np.column_stack([together, torch.cat([split.labels for split in splits])])
    original = load_digits()
    expected = np.column_stack([original.data, original.target])
    np.testing.assert_array_equal(np.sort(labelled, axis=0), np.sort(expected, axis=0))


def test_in_the_shape_of_mnist(tmp_path):
    small, large = load("digits"), load_like_mnist(Request(tmp_path))
    assert large.shape == (28, 28)
    assert torch.equal(large.train.labels, small.train.labels)
    images = large.train.images.reshape(-1, 28, 28)
    border = torch.ones(28, 28, dtype=torch.bool)
    border[4:24, 4:24] = False
    assert (images[:, border] == 0).all()
    torch.testing.assert_close(images.amax((1, 2)), small.train.images.amax(1), atol=0.15, rtol=0)
    assert large.digest != small.digest


def test_what_it_says_of_itself():
    data, few = load("digits"), load("digits", samples=30)
    assert (data.name, data.label, data.classes, data.notes) == ("digits", "digits", 10, ())
    assert torch.equal(few.train.images, data.train.images[:30])
    assert torch.equal(few.test.images, data.test.images)
    assert few.digest != data.digest
    order = np.random.default_rng(1797).permutation(1797)
    assert data.test.labels.tolist() == load_digits().target[order[:360]].tolist()
    assert data.validation.labels.tolist() == load_digits().target[order[360:540]].tolist()
    assert data.digest == "5e35cbecdea891e5"  # runs and checkpoints name their data by it
