"""What happens around the epochs: refreshing factors, watching the clock, logging."""

import time
from statistics import fmean
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ccsweep.estimator.factors import sign_disagreement, subspace_angle
from ccsweep.training.module import ConditionalModule

STALENESS_SAMPLES = 500


class RefreshFactors(Callback):
    """Recomputes all factors from the current weights.

    At the end of each epoch, just before validation, so that what is validated, saved and tested
    gates with factors of its own weights; and every ``steps`` training steps where given. What the
    refreshes of an epoch cost, and how stale the factors were just before, goes to the epoch's figures.

    Args:
        images: calibration data (samples, in_features).
        steps: training steps between refreshes; None: once an epoch.
    """

    def __init__(self, images: Tensor, steps: int | None = None) -> None:
        self.images = images
        self.steps = steps
        self.seconds = 0.0
        self.stale: list[list[tuple[float, float]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Refresh when the number of steps is due."""
        if self.steps is not None and trainer.global_step % self.steps == 0:
            self._refresh(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refresh at the end of the epoch, and hand over the epoch's figures."""
        self._refresh(pl_module)
        assert isinstance(pl_module, ConditionalModule)
        figures = {"refresh/seconds": self.seconds, "refresh/count": float(len(self.stale))}
        for i, layer in enumerate(zip(*self.stale, strict=True), 1):
            disagreements, angles = zip(*layer, strict=True)
            figures[f"refresh/layer{i}/sign_disagreement"] = fmean(disagreements)
            figures[f"refresh/layer{i}/subspace_angle"] = fmean(angles)
        pl_module.refresh_figures = figures if pl_module.network.estimator is not None else {}
        self.seconds, self.stale = 0.0, []

    def _refresh(self, module: pl.LightningModule) -> None:
        assert isinstance(module, ConditionalModule)
        module.require_finite()  # before NaN weights reach the SVD or a checkpoint
        network = module.network
        gated = [layer for layer in network.hidden if layer.gated]
        before = [layer.factors for layer in gated]
        began = time.perf_counter()
        network.refresh(network.layer_data(self.images))
        self.seconds += time.perf_counter() - began
        seen = network.layer_data(self.images[:STALENESS_SAMPLES])
        self.stale.append(
            [
                (
                    sign_disagreement(old, layer.factors, x.inputs, layer.bias),
                    subspace_angle(old, layer.factors),
                )
                for old, layer, x in zip(before, gated, seen, strict=False)
            ]
        )


class WallClock(Callback):
    """Stops training before the epoch that would end after ``minutes``, judged by the longest so far."""

    def __init__(self, minutes: float) -> None:
        self.deadline = time.perf_counter() + 60 * minutes
        self.longest = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when the epoch began."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if another epoch does not fit."""
        now = time.perf_counter()
        self.longest = max(self.longest, now - self.began)
        if now + self.longest > self.deadline:
            trainer.should_stop = True


class MetricLog(Protocol):
    """What a tracked run offers to callbacks."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log one batch of figures."""


class TrackMetrics(Callback):
    """Sends each epoch's figures to the tracked run, in one batch."""

    def __init__(self, run: MetricLog) -> None:
        self.run = run

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what training and validation found; steps count epochs from 1."""
        self._log(trainer, ("train/", "validation/", "refresh/"))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the test found."""
        self._log(trainer, ("test/",))

    def _log(self, trainer: pl.Trainer, prefixes: tuple[str, ...]) -> None:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(prefixes)}
        self.run.log_metrics(metrics, step=trainer.current_epoch + 1)
