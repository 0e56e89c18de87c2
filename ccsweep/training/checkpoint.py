"""Checkpoints: written whole or not at all, read as weights only."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from ccsweep.errors import UserError, first_line
from ccsweep.figures import VALIDATION_ERROR
from ccsweep.files import check_sums, whole
from ccsweep.network import ConditionalMLP


def best(folder: Path) -> Path:
    """The checkpoint of a run's best epoch, by validation error."""
    return folder / "checkpoints" / "best.ckpt"


def last(folder: Path) -> Path:
    """The checkpoint of a run's last epoch, to go on from."""
    return folder / "checkpoints" / "last.ckpt"


def epochs_done(folder: Path) -> int:
    """Epochs that a run's last checkpoint has behind it; 0 where there is none yet."""
    return int(load(last(folder))["epoch"]) + 1 if last(folder).exists() else 0


class SaveCheckpoints(Checkpoint):
    """Saves each epoch as ``last``, and before that as ``best`` if its validation error is the lowest.

    An epoch that is both is written once: ``last`` is then another name of the same file.

    Lightning's ModelCheckpoint writes its ``last`` only in epochs that are also best, and forgets the
    best of a folder that was moved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best_error = float("inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch that validation ends."""
        error = float(trainer.callback_metrics[VALIDATION_ERROR.metric])
        if error < self.best_error:
            self.best_error = error
            trainer.save_checkpoint(best(self.folder))
            if _also_named(best(self.folder), last(self.folder)):
                return
        trainer.save_checkpoint(last(self.folder))

    def state_dict(self) -> dict[str, float]:
        """What a resumed run must know of the epochs before."""
        return {"best_error": self.best_error}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from the best so far."""
        self.best_error = state_dict["best_error"]


def _also_named(file: Path, name: Path) -> bool:
    """Give ``file`` a second name, in place of what had it; False where the file system has no such thing."""
    try:
        with whole(name) as partial:
            os.link(file, partial)
    except OSError:
        return False
    return True


class AtomicCheckpointIO(CheckpointIO):
    """Writes :func:`~ccsweep.files.whole` files: a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save ``checkpoint`` to ``path``."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint; nothing in it is ever executed."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete ``path``."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, having compared its checksums.

    Raises:
        UserError: the file is missing, damaged or holds more than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; the run may have stopped before its first epoch ended")
    check_sums(path, "train the run again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, one for each way a file can be wrong
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({first_line(error)}); train the run again"
        ) from error


_FACTORS = (".u", ".v", ".shift")


def load_network(network: ConditionalMLP, path: Path, factors: bool = True) -> int:
    """Put the weights of a training checkpoint into ``network``.

    Args:
        network: of the checkpoint's shape.
        path: the checkpoint.
        factors: take the saved factors, so that the network gates exactly as the saved one did;
            otherwise leave them as they are, for a network with another estimator.

    Returns:
        The epoch that the checkpoint was written in, counted from 0.

    Raises:
        UserError: the checkpoint belongs to another network.
    """
    saved = load(path)
    state = {k.removeprefix("network."): v for k, v in saved["state_dict"].items()}
    # A network that only predicts keeps up no moments.
    expected = network.state_dict()
    state = {k: v for k, v in state.items() if k in expected or ".running." not in k}
    if not factors:
        own = {k: v for k, v in expected.items() if k.endswith(_FACTORS)}
        state = {k: v for k, v in state.items() if not k.endswith(_FACTORS)} | own
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: holds another network than the config describes") from error
    return int(saved["epoch"])
