"""The data module under a real Lightning trainer."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from ccsweep.data import load
from ccsweep.data.batches import ArrayBatches
from ccsweep.data.dataset import Dataset
from ccsweep.data.module import ArrayDataModule


class Witness(pl.LightningModule):
    """A linear network that writes down the training batches it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(64, 10)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        self.seen.append((self.current_epoch, labels.tolist()))
        return torch.nn.functional.cross_entropy(self.layer(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        assert batch[0].shape[1] == 64

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", samples=130)


def fit(digits: Dataset, folder: Path, epochs: int, checkpoint: Path | None = None) -> Witness:
    witness = Witness()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    module = ArrayDataModule(digits, 50, seed=3)
    trainer.fit(witness, module, ckpt_path=checkpoint, weights_only=False)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    trainer.test(witness, module, verbose=False)
    return witness


def test_resumed_run_sees_the_batches_of_the_uninterrupted_one(digits, tmp_path):
    whole = fit(digits, tmp_path, 4)
    begun = fit(digits, tmp_path, 2)
    resumed = fit(digits, tmp_path, 4, tmp_path / "2.ckpt")
    assert [epoch for epoch, _ in whole.seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert begun.seen + resumed.seen == whole.seen
    torch.testing.assert_close(resumed.layer.weight, whole.layer.weight)


def test_splits_stay_where_they_are_on_the_same_device(digits):
    module = ArrayDataModule(digits, 50, seed=3, device="cpu")
    module.setup("fit")
    assert module.dataset.train.images.data_ptr() == digits.train.images.data_ptr()
    assert len(module.train_dataloader()) == 3
    assert len(module.val_dataloader()) == 1
    assert len(module.test_dataloader()) == 1


def test_needs_a_device(digits):
    with pytest.raises(RuntimeError, match=r"^ArrayDataModule needs a trainer or a device$"):
        ArrayDataModule(digits, 50, seed=3).setup("fit")


def test_which_batches_of_which_split(digits):
    module = ArrayDataModule(digits, 50, seed=3, device="cpu")
    assert [len(y) for _, y in module.train_dataloader()] == [50, 50, 30]
    seen = torch.cat([y for _, y in module.train_dataloader()])
    assert torch.equal(seen, torch.cat([y for _, y in ArrayBatches(digits.train, 50, 3)]))
    for loader, split in (
        (module.val_dataloader(), digits.validation),
        (module.test_dataloader(), digits.test),
    ):
        assert (loader.batch_size, loader.seed) == (2000, None)
        assert loader.split is split
