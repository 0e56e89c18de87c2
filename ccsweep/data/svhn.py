"""SVHN: 32 x 32 digits cropped from street views, as locally contrast-normalised brightness.

Source: Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011,
format 2 (cropped digits); for non-commercial use by its own page. The paper trains on
train + extra.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from ccsweep.data import contrast, splits
from ccsweep.data.cache import Arrays, cached
from ccsweep.data.dataset import Dataset, Request, Split, digest
from ccsweep.data.files import LocalFile, RemoteFile, obtain
from ccsweep.errors import UserError

TRAIN = RemoteFile("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373")
TEST = RemoteFile("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3")
EXTRA = RemoteFile("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7")
MIRRORS = (
    "http://ufldl.stanford.edu/housenumbers/",
    "https://ufldl.stanford.edu/housenumbers/",
    "https://web.archive.org/web/2020id_/http://ufldl.stanford.edu/housenumbers/",
)
SHAPE = (32, 32)

log = logging.getLogger("ccsweep.data")


def load(request: Request) -> Dataset:
    """SVHN from ``<directory>/svhn``, downloaded if it is not there.

    A tenth of train_32x32.mat is for validation, see ``splits.blocks``; extra_32x32.mat, if asked
    for, is only trained on, being easier than the others.

    Raises:
        NotAvailableError: No file is there and no mirror has them.
        UserError: A file is wrong, unreadable or missing.
    """
    wanted = (TRAIN, TEST, EXTRA) if request.extra else (TRAIN, TEST)
    files = obtain(
        wanted,
        request.directory / "svhn",
        MIRRORS,
        verify=request.verify,
    )
    train, test, *extra = [_preprocessed(file) for file in files]
    kept, held = splits.blocks(len(train.labels))
    validation = Split(train.images[held], train.labels[held])
    parts = [Split(train.images[kept], train.labels[kept]), *extra]
    official = all(file.official for file in files)
    count = len(train.labels) + sum(len(part.labels) for part in extra)
    label = _label(official, request.extra, count)
    return Dataset(
        name="svhn",
        label=label,
        shape=SHAPE,
        classes=10,
        train=_joined(parts).first(request.samples),
        validation=validation,
        test=test,
        digest=digest(
            files=[file.md5 for file in files],
            split=splits.settings(),
            samples=request.samples,
            **contrast.settings(),
        ),
        notes=() if official else (f"{label}, checksums not verified",),
    )


def _label(official: bool, extra: bool, count: int) -> str:
    if official:
        return "svhn (train + extra)" if extra else "svhn"
    return f"SVHN sample ({count:,} training digits)"


def _joined(parts: list[Split]) -> Split:
    if len(parts) == 1:
        return parts[0]  # without a second copy of everything
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _preprocessed(file: LocalFile) -> Split:
    """One file as network input: images (n, 1024); kept in the cache."""

    def compute() -> Arrays:
        log.info("reading %s", file.path)  # unpacking the extra images takes half a minute
        images, labels = read_mat(file.path)
        return {"images": contrast.preprocess(images, file.path.name), "labels": labels}

    key = digest(file=file.md5, **contrast.settings())
    arrays = cached(f"svhn-{file.path.stem}", key, compute)
    return Split.from_numpy(arrays["images"], arrays["labels"])


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One of SVHN's Matlab files, in which X is 32 x 32 x 3 x n and a zero has the label 10.

    Returns:
        Images uint8 (n, 32, 32, 3), a view on Matlab's order of axes; labels uint8 (n,), 0 to 9.

    Raises:
        UserError: The file is not such a file, or is cut off.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].ravel()
        if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
            raise ValueError(f"X is {images.dtype} {images.shape}, y has {len(labels)} labels")
        if len(labels) == 0 or not np.isin(labels, np.arange(1, 11)).all():  # NaN and 1.5 are not
            raise ValueError("expected labels that are whole numbers from 1 to 10")
    except Exception as error:  # scipy raises a dozen kinds, one per way of being damaged
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is not a whole SVHN file ({reason}): delete it to download it again"
        ) from error
    return images.transpose(3, 0, 1, 2), (labels % 10).astype(np.uint8)
