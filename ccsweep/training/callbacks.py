"""What happens around the epochs: refreshing factors, watching the clock, logging."""

import time
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from ccsweep import watch
from ccsweep.estimator.factors import sign_disagreement, subspace_angle
from ccsweep.training.module import ConditionalModule

STALENESS_SAMPLES = 500


class RefreshFactors(Callback):
    """Recomputes all factors from the current weights.

    At the end of each epoch, just before validation, so that what is validated, saved and tested
    gates with factors of its own weights; and every ``steps`` training steps where given. What the
    refreshes of an epoch cost goes to the epoch's figures, and how stale the factors were before the last.

    Args:
        images: calibration data (samples, in_features).
        steps: training steps between refreshes; None: once an epoch.
    """

    def __init__(self, images: Tensor, steps: int | None = None) -> None:
        self.images = images
        self.steps = steps
        self.seconds, self.count = 0.0, 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Refresh when the number of steps is due, unless the epoch ends here: then validation will."""
        if self.steps is not None and trainer.global_step % self.steps == 0 and not trainer.is_last_batch:
            self._refresh(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refresh at the end of the epoch, and hand over the epoch's figures."""
        assert isinstance(pl_module, ConditionalModule)
        network = pl_module.network
        gated = [layer for layer in network.hidden if layer.gated]
        before = [layer.factors for layer in gated]
        self._refresh(pl_module)
        figures = {"refresh/seconds": self.seconds, "refresh/count": float(self.count)}
        seen = network.layer_data(self.images[:STALENESS_SAMPLES])
        for i, (old, layer, data) in enumerate(zip(before, gated, seen, strict=False), 1):
            disagreement = sign_disagreement(old, layer.factors, data.inputs, layer.bias)
            figures[f"refresh/layer{i}/sign_disagreement"] = disagreement
            figures[f"refresh/layer{i}/subspace_angle"] = subspace_angle(old, layer.factors)
        pl_module.refresh_figures = figures if gated else {}
        self.seconds, self.count = 0.0, 0

    def _refresh(self, module: pl.LightningModule) -> None:
        assert isinstance(module, ConditionalModule)
        module.settle()
        module.require_finite()  # before NaN weights reach the SVD or a checkpoint
        began = time.perf_counter()
        module.network.refresh(self.images)
        self.seconds += time.perf_counter() - began
        self.count += 1


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
        figures = self._log(trainer, ("train/", "validation/", "refresh/"))
        if trainer.state.fn == TrainerFn.FITTING:
            watch.tell(trainer.current_epoch + 1, figures)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the test found."""
        self._log(trainer, ("test/",))

    def _log(self, trainer: pl.Trainer, prefixes: tuple[str, ...]) -> dict[str, float]:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(prefixes)}
        self.run.log_metrics(metrics, step=trainer.current_epoch + 1)
        return metrics
