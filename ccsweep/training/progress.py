"""How far training is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ccsweep.data.progress import QUIET
from ccsweep.figures import VALIDATION_ERROR


class ShowProgress(Callback):
    """One bar over all epochs, with the last epoch's validation error."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[error]}"),
            TimeElapsedColumn(),
            TextColumn("so far,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not self.live,
        )
        self.last_line = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, where a resumed run already stands."""
        assert trainer.max_epochs is not None
        per_epoch = int(trainer.num_training_batches)
        self.task = self.bar.add_task(
            "training",
            total=trainer.max_epochs * per_epoch,
            completed=trainer.current_epoch * per_epoch,
            error="",
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the bar."""
        if self.live:
            self.bar.advance(self.task)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch and its validation error."""
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        value = float(trainer.callback_metrics[VALIDATION_ERROR.metric])
        error = f"{VALIDATION_ERROR.name} {VALIDATION_ERROR.text(value)} %"
        self.bar.update(self.task, description=epoch, error=error)
        now = time.perf_counter()
        if not self.live and (
            now - self.last_line > QUIET or trainer.current_epoch + 1 == trainer.max_epochs
        ):
            self.last_line = now
            print(f"{epoch}  {error}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.bar.stop()
