"""Checkpoints: written whole or not at all, read as weights only."""

import os
import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from ccsweep.errors import UserError
from ccsweep.network import ConditionalMLP

BEST, LAST = "best.ckpt", "last.ckpt"


class AtomicCheckpointIO(CheckpointIO):
    """Writes to a file beside the checkpoint, then renames: a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save ``checkpoint`` to ``path``."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint; nothing in it is ever executed."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete ``path``."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged or holds more than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; the run may have stopped before its first epoch ended")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as a checkpoint ({reason}); train the run again") from error


def load_network(network: ConditionalMLP, path: Path, factors: bool = True) -> int:
    """Put the weights of a training checkpoint into ``network``.

    Args:
        network: of the checkpoint's shape.
        path: the checkpoint.
        factors: take the saved factors, so that the network gates exactly as the saved one did;
            otherwise recompute them, for a network with other estimators.

    Returns:
        The epoch that the checkpoint was written in, counted from 0.

    Raises:
        UserError: the checkpoint belongs to another network.
    """
    saved = load(path)
    state = {k.removeprefix("network."): v for k, v in saved["state_dict"].items()}
    if not factors:
        state = {k: v for k, v in state.items() if not k.endswith((".u", ".v"))}
    try:
        network.load_state_dict(state, strict=factors)
    except RuntimeError as error:
        raise UserError(f"{path}: holds another network than the config describes") from error
    if not factors:
        network.refresh()
    return int(saved["epoch"])
