"""Which training images are held back for validation."""

import numpy as np

BLOCKS = 10  # blocks of validation images, evenly spread
SHARE = 0.1  # of the images go to validation
GAP = 5  # images left out on both sides of a block; SVHN's longest house number has six digits


def blocks(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits ``count`` images in a row into training and validation by contiguous blocks.

    SVHN's digits stand in the order of their photographs, and crops of one house number show
    parts of each other. Holding back single images would put near-copies of training images into
    the validation set; blocks with a gap around them put none.

    Args:
        count: Number of images, at least 1. Small sets get fewer blocks, one per 100 images.

    Returns:
        Ascending indices of the training and of the validation images. No training image is
        within ``GAP`` places of a validation image; the images in the gaps are in neither.
    """
    held = np.zeros(count, dtype=bool)
    near = np.zeros(count, dtype=bool)
    number = min(BLOCKS, max(1, count // 100))
    length = round(count * SHARE / number)
    for block in range(number):
        start = (2 * block + 1) * count // (2 * number) - length // 2
        held[start : start + length] = True
        near[max(0, start - GAP) : start + length + GAP] = True
    return np.flatnonzero(~near), np.flatnonzero(held)


def settings() -> dict[str, object]:
    """What the split depends on; for digests."""
    return {"blocks": BLOCKS, "share": SHARE, "gap": GAP}
