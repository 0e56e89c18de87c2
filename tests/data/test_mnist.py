"""MNIST from files: the official ones, small ones in their format, and damaged ones."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ccsweep.data import load
from ccsweep.data.mnist import read_idx
from ccsweep.errors import UserError


@given(array=arrays(np.uint8, array_shapes(max_dims=4, max_side=5), elements=st.integers(0, 255)))
def test_idx_round_trip(idx, array):
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.gz")
        path.write_bytes(idx(array))
        np.testing.assert_array_equal(read_idx(path), array)


@given(keep=st.floats(0, 0.999), seed=st.integers(0, 9))
def test_cut_off_idx_is_one_line(idx, keep, seed):
    whole = idx(np.random.default_rng(seed).integers(0, 256, (9, 5, 5), dtype=np.uint8))
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.gz")
        path.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(UserError, match=r"^\S+a\.gz is not a whole gzipped IDX file \(.+"):
            read_idx(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"garbage", "Not a gzipped file (b'ga')"),
        (gzip.compress(b"garbage", mtime=0), "it begins with 67 61 72, not 00 00 08"),
        (gzip.compress(b"", mtime=0), "it begins with nothing, not 00 00 08"),
    ],
)
def test_garbage_is_named(tmp_path, content, reason):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(path)
    assert str(caught.value) == (
        f"{path} is not a whole gzipped IDX file ({reason}): delete it to download it again"
    )


def test_small_files(write_mnist):
    directory = write_mnist()
    data = load("mnist", directory=directory, verify=False)
    assert data.label == "MNIST sample (10,050 training digits)"
    assert data.notes == ("MNIST sample (10,050 training digits), checksums not verified",)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [
        50,
        10_000,
        20,
    ]
    raw = read_idx(directory / "mnist" / "train-images-idx3-ubyte.gz")
    torch.testing.assert_close(data.train.images[3] * 255, torch.tensor(raw[3].ravel()).float())
    torch.testing.assert_close(data.validation.images[0] * 255, torch.tensor(raw[50].ravel()) * 1.0)


def test_samples_cut_the_training_split_only(write_mnist):
    directory = write_mnist()
    data = load("mnist", directory=directory, verify=False)
    few = load("mnist", directory=directory, verify=False, samples=7)
    assert len(few.train.labels) == 7
    assert torch.equal(few.train.images, data.train.images[:7])
    assert torch.equal(few.validation.images, data.validation.images)
    assert few.digest != data.digest


def test_too_few_for_validation(write_mnist):
    directory = write_mnist(train=10_000)
    with pytest.raises(UserError) as caught:
        load("mnist", directory=directory, verify=False)
    assert str(caught.value) == (
        f"{directory}/mnist/train-images-idx3-ubyte.gz has 10,000 images, expected more than the "
        "10,000 that are held back for validation: delete it to download the official file"
    )


def test_images_and_labels_must_match(write_mnist, idx):
    directory = write_mnist()
    labels = directory / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.zeros(19, dtype=np.uint8)))
    with pytest.raises(UserError) as caught:
        load("mnist", directory=directory, verify=False)
    assert str(caught.value) == (
        f"{directory}/mnist/t10k-images-idx3-ubyte.gz has shape (20, 28, 28) and "
        "t10k-labels-idx1-ubyte.gz (19,), expected (n, 28, 28) and (n,): "
        "delete the wrong one to download it again"
    )


@pytest.mark.realdata
def test_official_files(shared_data):
    data = load("mnist", directory=shared_data)
    assert (data.name, data.label, data.notes) == ("mnist", "mnist", ())
    assert data.train.images.shape == (50_000, 784)
    assert data.validation.images.shape == (10_000, 784)
    assert data.test.images.shape == (10_000, 784)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.images.min() == 0
    assert data.train.images.max() == 1
    assert load("mnist", directory=shared_data, verify=False).notes == ()  # they are official
