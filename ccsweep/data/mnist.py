"""MNIST: 28 x 28 handwritten digits, pixels divided by 255.

Source: LeCun, Cortes and Burges, the official files; 50,000 images are trained on, the last 10,000
of the training files are for validation, as in the paper.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ccsweep.data.dataset import Dataset, Request, Split, digest
from ccsweep.data.files import RemoteFile, obtain
from ccsweep.errors import UserError

FILES = (
    RemoteFile("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    RemoteFile("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    RemoteFile("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    RemoteFile("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
)
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://web.archive.org/web/2020id_/http://yann.lecun.com/exdb/mnist/",
)
SHAPE = (28, 28)
VALIDATION = 10_000  # images at the end of the training files


def load(request: Request) -> Dataset:
    """MNIST from ``<directory>/mnist``, downloaded if it is not there.

    Raises:
        NotAvailableError: No file is there and no mirror has them.
        UserError: A file is wrong, unreadable or missing.
    """
    files = obtain(
        FILES,
        request.directory / "mnist",
        MIRRORS,
        verify=request.verify,
    )
    images, labels = _pair(files[0].path, files[1].path)
    if len(images) <= VALIDATION:
        raise UserError(
            f"{files[0].path} has {len(images):,} images, expected more than the {VALIDATION:,} "
            "that are held back for validation: delete it to download the official file"
        )
    test = _pair(files[2].path, files[3].path)
    official = all(file.official for file in files)
    label = "mnist" if official else f"MNIST sample ({len(images):,} training digits)"
    return Dataset(
        name="mnist",
        label=label,
        shape=SHAPE,
        classes=10,
        train=Split.from_numpy(images[:-VALIDATION], labels[:-VALIDATION]).first(request.samples),
        validation=Split.from_numpy(images[-VALIDATION:], labels[-VALIDATION:]),
        test=Split.from_numpy(*test),
        digest=digest(files=[file.md5 for file in files], samples=request.samples),
        notes=() if official else (f"{label}, checksums not verified",),
    )


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (n, 28, 28) in 0..1 and their labels uint8 (n,)."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != SHAPE or labels.shape != images.shape[:1]:
        raise UserError(
            f"{images_path} has shape {images.shape} and {labels_path.name} {labels.shape}, "
            "expected (n, 28, 28) and (n,): delete the wrong one to download it again"
        )
    if labels.max(initial=0) > 9:
        raise UserError(
            f"{labels_path} has a label {labels.max()}, expected 0 to 9: delete it to download it again"
        )
    return np.divide(images, 255, dtype=np.float32), labels  # in one pass: fresh memory is what takes time


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes, the format MNIST came in.

    Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension
    as a big-endian 32-bit integer, then the values.

    Returns:
        uint8, in the shape that the file names.

    Raises:
        UserError: The file is not such a file, or is cut off.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
        if content[:3] != b"\0\0\x08":
            raise ValueError(f"it begins with {content[:3].hex(' ') or 'nothing'}, not 00 00 08")
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], dtype=">u4").astype(int)
        return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(
            f"{path} is not a whole gzipped IDX file ({error}): delete it to download it again"
        ) from error
