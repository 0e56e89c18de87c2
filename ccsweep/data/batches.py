"""Batches straight from one array on the training device: no workers, no collating, no copies back.

A DataLoader fetches sample by sample, which for small images takes longer than the training step.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ccsweep.data.dataset import Split


class ArrayBatches:
    """Iterates over a split in batches, in a new order each epoch.

    The order depends on ``(seed, epoch)`` alone: not on the device, on what was iterated before
    or on torch's global generator. So a run that is resumed at an epoch sees the batches that the
    uninterrupted run would have seen. The last batch may be smaller.

    Args:
        split: Images (n, features) and labels (n,), already on the training device.
        batch_size: Images per batch.
        seed: Of the orders; None keeps the split's own order, for validation and test.
    """

    batch_sampler = None  # Lightning asks whoever has a ``sampler`` for it

    def __init__(self, split: Split, batch_size: int, seed: int | None) -> None:
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.split.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (batch, features) and labels (batch,), without waiting for the device."""
        images, labels = self.split
        if self.seed is None:
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)
            return
        # The order is drawn on the host to be the same everywhere and goes over once an epoch.
        order = _order(len(labels), self.seed, self.epoch).to(labels.device)
        for chosen in order.split(self.batch_size):
            yield _rows(images, chosen), _rows(labels, chosen)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next iteration; Lightning calls it before each epoch."""
        self.epoch = epoch

    @property
    def sampler(self) -> "ArrayBatches":
        """Itself: Lightning looks for ``dataloader.sampler.set_epoch``."""
        return self


def _rows(x: Tensor, chosen: Tensor) -> Tensor:
    """Those rows; on a CPU without torch's threads, which would spin on for as long as a step takes."""
    if x.device.type != "cpu":
        return x.index_select(0, chosen)
    return torch.from_numpy(x.numpy()[chosen.numpy()])


def _order(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation, int64 (count,); nearby seeds and epochs give unrelated ones."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state) >> 1)
    return torch.randperm(count, generator=generator)
