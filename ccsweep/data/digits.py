"""Digits: scikit-learn's 1,797 real handwritten digits of 8 x 8 pixels; needs no files.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998, its test set.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ccsweep.data.dataset import Dataset, Request, Split, digest

ORDER = 1797  # seed of the shuffle below
TEST, VALIDATION = 360, 180  # images, about a fifth and a tenth; the rest is trained on
MNIST_SHAPE = (28, 28)
MNIST_INK = 20  # MNIST's own digits were scaled to 20 pixels and centred in 28


def load(request: Request) -> Dataset:
    """The digits as they are: 8 x 8 values, divided by 16."""
    return _dataset(request, _images())


def load_like_mnist(request: Request) -> Dataset:
    """The digits in MNIST's shape: enlarged to 20 x 20 pixels in the middle of 28 x 28.

    The empty border matters: like MNIST's it is exactly zero and can be skipped.
    """
    margin = (MNIST_SHAPE[0] - MNIST_INK) // 2
    enlarged = np.stack([_enlarged(image) for image in _images()])
    return _dataset(request, np.pad(enlarged, ((0, 0), (margin, margin), (margin, margin))))


@cache
def _rows() -> np.ndarray:
    """(1797, 65): 64 values of 0 to 16 and the label of each, in scikit-learn's order.

    Its file is read here, as to import scikit-learn takes half a second.
    """
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    return np.loadtxt(Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")


def _images() -> np.ndarray:
    """float32 (1797, 8, 8) in 0..1."""
    return (_rows()[:, :-1].reshape(-1, 8, 8) / 16).astype(np.float32)


def _labels() -> np.ndarray:
    return _rows()[:, -1].astype(int)


def _enlarged(image: np.ndarray) -> np.ndarray:
    size = (MNIST_INK, MNIST_INK)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _dataset(request: Request, images: np.ndarray) -> Dataset:
    # The set is ordered by writers: unshuffled, the test digits would be other people's.
    order = np.random.default_rng(ORDER).permutation(len(images))
    labels = _labels()
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])
    return Dataset(
        name="digits",
        label="digits",
        shape=images.shape[1:],
        classes=10,
        train=Split.from_numpy(images[train], labels[train]).first(request.samples),
        validation=Split.from_numpy(images[validation], labels[validation]),
        test=Split.from_numpy(images[test], labels[test]),
        digest=digest(
            images=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
            order=ORDER,
            samples=request.samples,
        ),
    )
