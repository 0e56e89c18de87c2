"""SVHN from files: the sample of real ones, small ones in their format, and damaged ones."""

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from ccsweep.data import contrast, load, splits
from ccsweep.data.svhn import read_mat
from ccsweep.errors import UserError


def test_matlab_conventions(write_svhn):
    path = write_svhn(train=30) / "svhn" / "train_32x32.mat"
    raw = loadmat(path)
    images, labels = read_mat(path)
    assert images.shape == (30, 32, 32, 3)
    np.testing.assert_array_equal(images[7], raw["X"][:, :, :, 7])
    np.testing.assert_array_equal(labels, np.where(raw["y"] == 10, 0, raw["y"]).ravel())


def test_small_files(write_svhn):
    directory = write_svhn(train=400, test=30, extra=50)
    data = load("svhn", directory=directory, verify=False)
    assert data.label == "SVHN sample (400 training digits)"
    assert data.notes == ("SVHN sample (400 training digits), checksums not verified",)
    kept, held = splits.blocks(400)
    images, labels = read_mat(directory / "svhn" / "train_32x32.mat")
    expected = contrast.preprocess(images, "images")
    torch.testing.assert_close(data.train.images, torch.from_numpy(expected[kept]))
    torch.testing.assert_close(data.validation.images, torch.from_numpy(expected[held]))
    assert data.validation.labels.tolist() == labels[held].tolist()
    assert len(data.test.labels) == 30


def test_extra_is_only_trained_on(write_svhn):
    directory = write_svhn(train=400, test=30, extra=50)
    data = load("svhn", directory=directory, verify=False)
    more = load("svhn", directory=directory, verify=False, extra=True)
    assert more.label == "SVHN sample (450 training digits)"
    assert len(more.train.labels) == len(data.train.labels) + 50
    assert torch.equal(more.train.images[:-50], data.train.images)
    assert torch.equal(more.validation.images, data.validation.images)
    assert more.digest != data.digest


def test_second_start_reads_the_cache(write_svhn, cache_home):
    directory = write_svhn(train=200, test=30)
    first = load("svhn", directory=directory, verify=False)
    kept = {path: path.stat().st_mtime_ns for path in (cache_home / "arrays").glob("*.npz")}
    second = load("svhn", directory=directory, verify=False)
    assert len(kept) == 2
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert torch.equal(first.train.images, second.train.images)
    assert first.digest == second.digest


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_cut_off_file(write_svhn, keep):
    path = write_svhn(train=30) / "svhn" / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError) as caught:
        read_mat(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a whole SVHN file (")
    assert message.endswith("): delete it to download it again")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((32, 32, 3, 2)), [[1], [2]], "X is float64 (32, 32, 3, 2), y has 2 labels"),
        (np.zeros((32, 32, 3, 2), "u1"), [[1]], "X is uint8 (32, 32, 3, 2), y has 1 labels"),
        (np.zeros((32, 32, 3, 2), "u1"), [[0], [1]], "expected labels that are whole numbers from 1 to 10"),
        (np.zeros((32, 32, 3, 2), "u1"), [[1.5], [1]], "expected labels that are whole numbers from 1 to 10"),
        (
            np.zeros((32, 32, 3, 2), "u1"),
            [[np.nan], [1]],
            "expected labels that are whole numbers from 1 to 10",
        ),
    ],
)
def test_matlab_file_of_something_else(tmp_path, images, labels, reason):
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": images, "y": labels})
    with pytest.raises(UserError) as caught:
        read_mat(path)
    assert str(caught.value) == (
        f"{path} is not a whole SVHN file ({reason}): delete it to download it again"
    )


@pytest.mark.realdata
def test_real_sample(shared_data):
    data = load("svhn", directory=shared_data, verify=False)
    assert data.label == "SVHN sample (8,000 training digits)"
    assert data.shape == (32, 32)
    assert data.train.images.shape == (7100, 1024)  # 8,000 - 800 - 10 gaps of 2 x 5
    assert data.validation.images.shape == (800, 1024)
    assert data.test.images.shape == (1000, 1024)
    assert data.train.images.isfinite().all()
    assert data.train.images.mean().abs() < 0.05
    assert 0.6 < data.train.images.std() < 1


@pytest.mark.realdata
def test_real_sample_is_not_the_official_file(shared_data):
    with pytest.raises(UserError) as caught:
        load("svhn", directory=shared_data)
    assert str(caught.value) == (
        f"{shared_data}/svhn/train_32x32.mat has MD5 eb3f195db5644727d9f41adb7dac27bf, expected "
        "e26dedcc434d2e4c54c9b2d4a06d8373: delete it to download it again, "
        "or set data.verify=false to use it as it is"
    )
