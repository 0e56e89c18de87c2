"""A data set as Lightning wants it."""

import pytorch_lightning as pl
import torch

from ccsweep.data.batches import ArrayBatches
from ccsweep.data.dataset import Dataset


class ArrayDataModule(pl.LightningDataModule):
    """Moves a data set to the training device once and hands out batches from there.

    Args:
        dataset: What to train on.
        batch_size: Images per training batch.
        eval_batch_size: Images per validation or test batch.
        seed: Of the order of training images in each epoch, 0 or more.
        device: Where to keep the data; None takes the trainer's device.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        eval_batch_size: int = 2000,
        seed: int,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.device = device

    def setup(self, stage: str) -> None:
        """Called by Lightning before each stage; only the first call has anything to move."""
        device = self.device
        if device is None:
            if self.trainer is None:
                raise RuntimeError("ArrayDataModule needs a trainer or a device")
            device = self.trainer.strategy.root_device
        self.dataset = self.dataset.to(device)

    def train_dataloader(self) -> ArrayBatches:
        """Training batches, in a new order each epoch."""
        return ArrayBatches(self.dataset.train, self.batch_size, self.seed)

    def val_dataloader(self) -> ArrayBatches:
        """Validation batches, in order."""
        return ArrayBatches(self.dataset.validation, self.eval_batch_size, None)

    def test_dataloader(self) -> ArrayBatches:
        """Test batches, in order."""
        return ArrayBatches(self.dataset.test, self.eval_batch_size, None)
