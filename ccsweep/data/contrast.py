"""Brightness and local contrast normalisation, the preprocessing of SVHN.

Source: Jarrett, Kavukcuoglu, Ranzato and LeCun, "What is the best multi-stage architecture for
object recognition?", ICCV 2009, section 2 (subtractive, then divisive normalisation in a Gaussian
window). The paper names the method without its settings, so the window below is this project's
choice.
"""

import numpy as np

from ccsweep.data import progress

VERSION = 1  # part of every cache key and digest: raise it when a result changes
WINDOW = 9  # pixels across, as in Jarrett et al.
SIGMA = 2.0  # of the Gaussian, in pixels
FLOOR = 1e-3  # a quarter of a grey level: below it there is only rounding, not contrast
CHUNK = 4096  # images at a time, so that a whole SVHN never exists as several float arrays

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Y of YUV, ITU-R BT.601


def settings() -> dict[str, object]:
    """What the result depends on besides the pixels; for cache keys and digests."""
    return {"lcn": VERSION, "window": WINDOW, "sigma": SIGMA, "floor": FLOOR}


def luminance(images: np.ndarray) -> np.ndarray:
    """Y channel of uint8 RGB images (n, height, width, 3): float32 (n, height, width) in 0..1."""
    return images.astype(np.float32) @ (LUMA / 255)


def normalise(luma: np.ndarray) -> np.ndarray:
    """Local contrast normalisation of float32 images (n, height, width), each on its own.

    With w a Gaussian window that sums to one, also at the border (where it is cut off and scaled
    up again)::

        v = x - w * x                       subtractive: remove the local mean
        s = sqrt(w * v^2)                   local standard deviation
        y = v / max(s, mean(s), FLOOR)      divisive; the image's mean s keeps flat parts flat

    So y does not change when the image is made brighter, or its contrast is scaled.
    """
    rows, columns = _blur(luma.shape[1]), _blur(luma.shape[2])
    centred = luma - rows @ luma @ columns.T
    deviation = np.sqrt(rows @ (centred * centred) @ columns.T)
    typical = deviation.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(np.maximum(deviation, typical), FLOOR)


def preprocess(images: np.ndarray, what: str) -> np.ndarray:
    """``normalise(luminance(images))`` chunk by chunk.

    Args:
        images: uint8 (n, height, width, 3); may be a view with any strides.
        what: Their name on the progress bar, shown when it takes over a second.

    Returns:
        float32 (n, height * width).
    """
    out = np.empty((len(images), images.shape[1] * images.shape[2]), dtype=np.float32)
    with progress.Bar(f"normalising {what}", len(images), "images") as bar:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            out[start : start + CHUNK] = normalise(luminance(chunk)).reshape(len(chunk), -1)
            bar.update(len(chunk))
    return out


def _blur(size: int) -> np.ndarray:
    """Gaussian blur of a line of pixels as a matrix (size, size); each row sums to one.

    A 32 x 32 matrix product is faster than a convolution here, and right at the border by itself.
    """
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    weight = np.exp(-0.5 * (distance / SIGMA) ** 2) * (distance <= WINDOW // 2)
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
