"""The Lightning module: loss, schedules, and the figures of every epoch."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional as F

from ccsweep.config.schema import TrainingConfig
from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.cost import LayerCost, speedup_limit, theoretical_speedup
from ccsweep.estimator.moments import EVERY
from ccsweep.estimator.statistics import GateStatistics, count, statistics
from ccsweep.network import ConditionalMLP, Drop
from ccsweep.training.schedules import learning_rate, limit_norms, momentum
from ccsweep.training.skipping import (
    Densities,
    SkippingExamination,
    SkippingStep,
    dropout_mask,
    step_key,
    warm_up,
)
from ccsweep.training.ways import DENSE, SKIPPING, Ways

NEVER = torch.iinfo(torch.int64).max
Stepped = tuple[Tensor, Callable[[int], Tensor]]
"""The loss before the step, and what gives the inputs of a layer, counted from 0, in it."""


class DivergedError(UserError):
    """The loss became NaN or infinite; the message says since which step."""


class ConditionalModule(pl.LightningModule):
    """Trains a :class:`ConditionalMLP` as the paper does; settings and their sources: conf/training.

    Loss: cross-entropy + l1 * (sum of all hidden activations, mean over the batch). Nothing in a step
    waits for the device: sums stay tensors until the epoch ends.
    """

    def __init__(
        self,
        network: ConditionalMLP,
        config: TrainingConfig,
        refreshes: float,
        gates_in_training: Callable[[int], bool] = lambda epoch: True,
        ways: Sequence[str] = (DENSE,),
    ) -> None:
        """Wrap a network.

        Args:
            network: the network to train.
            config: optimisation and regularisation.
            refreshes: factorisations per training step, for the theoretical speed-up.
            gates_in_training: whether the gate is on while an epoch, counted from 0, trains.
            ways: that training steps may go; of several the quicker one is taken.
        """
        super().__init__()
        self.automatic_optimization = False  # a step may go another way than through gradients
        self.ways = Ways(*ways)
        self._skipping: SkippingStep | None = None
        self._laid_out = False
        self._densities: list[Densities] = []
        self.gates_in_training = gates_in_training
        self.network = network
        self.config = config
        self.refreshes = refreshes
        self.layer_statistics: list[GateStatistics] = []
        """Of the last validation or test pass, one per hidden layer."""
        self.error = float("nan")
        """Of the same pass, in percent."""
        self.refresh_figures: dict[str, float] = {}
        """What the refreshes of the epoch cost, and how stale the factors were; set by the refresher."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD; weight decay on weights, not on biases."""
        linears = self.network.linears()
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight for layer in linears], "weight_decay": self.config.l2},
            {"params": [layer.bias for layer in linears], "weight_decay": 0.0},
        ]
        return torch.optim.SGD(groups, lr=self.config.learning_rate, momentum=self.config.momentum)

    def on_train_epoch_start(self) -> None:
        """Set the epoch's schedules, functions of the epoch alone; a step has randomness of its own."""
        epoch = self.current_epoch
        self.network.gate_in_training = self.gates_in_training(epoch)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = learning_rate(self.config, epoch)
            group["momentum"] = momentum(self.config, epoch)
        self._loss_sum: Tensor | float = 0.0
        self._first_bad = torch.tensor(NEVER, device=self.device)
        self._steps = 0
        self.ways.begin_epoch(epoch)
        self._epoch_start = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One step of SGD on images (batch, features) and labels (batch,)."""
        images, labels = batch
        key = step_key(self.config.seed, self.current_epoch, batch_idx)
        looked_at = self.global_step % EVERY == 0 and any(layer.running for layer in self.network.hidden)
        way = self.ways.next()
        if way == SKIPPING:
            self._lay_out()
        else:
            self.settle()
        with self.ways.clock(way):
            loss, inputs = (self._skip if way == SKIPPING else self._multiply)(images, labels, key)
        self._loss_sum += loss
        bad = torch.where(loss.isfinite(), NEVER, self.global_step - 1)
        self._first_bad = torch.minimum(self._first_bad, bad)
        if looked_at:
            for k, layer in enumerate(self.network.hidden):
                if layer.running is not None:
                    layer.running.update(inputs(k))
        self._steps += 1

    def _multiply(self, images: Tensor, labels: Tensor, key: int) -> Stepped:
        """The dense step: all products, by torch."""
        optimizer = self._optimizer
        logits, traces = self.network.trace(images, self._drop(key))
        loss = F.cross_entropy(logits, labels)
        if self.config.l1:
            # Activations are never negative, so their sum is their L1 norm. Dropout's 1/keep makes up for
            # those that it silences.
            loss = loss + self.config.l1 / len(images) * sum(t.kept.sum() for t in traces)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.config.max_norm is not None:
            limit_norms(self.network.linears(), self.config.max_norm)
        return loss.detach(), lambda k: traces[k].inputs.detach()

    def _skip(self, images: Tensor, labels: Tensor, key: int) -> Stepped:
        """The same step without what is zero, gated off or dropped."""
        assert self._skipping is not None
        group = self._optimizer.param_groups[0]
        loss = self._skipping.step(images, labels, key, group["lr"], group["momentum"])
        self._optimizer.step()  # finds no gradients and moves nothing: it counts the step
        return torch.tensor(loss), self._skipping.layer_inputs

    @property
    def _optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def _lay_out(self) -> None:
        """Take weights and momenta to where the skipping step keeps them."""
        if self._laid_out:
            return
        if self._skipping is None:
            warm_up(self.config)  # here, where it is announced, and not in the first step that is timed
            self._skipping = SkippingStep(self.network, self.config, torch.get_num_threads())
        self._optimizer.zero_grad()
        self._skipping.load(self._optimizer.optimizer, self._densities)
        self._laid_out = True

    def settle(self) -> None:
        """Bring weights and momenta back to the network and the optimizer, before anything looks at them."""
        if self._laid_out:
            assert self._skipping is not None
            self._skipping.store(self._optimizer.optimizer)
            self._laid_out = False

    def _drop(self, key: int) -> Drop | None:
        """Dropout by the masks that the skipping step has; on a GPU torch's own."""
        if self.device.type != "cpu":
            return None
        network = self.network

        def drop(x: Tensor, level: int) -> Tensor:
            share = network.dropout_hidden if level else network.dropout_input
            return x * dropout_mask(x.shape, key, level, share).to(x.dtype) if share else x

        return drop

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the way of a step hangs on, so that a resumed run goes on with it."""
        checkpoint["way"] = self.ways.chosen
        checkpoint["densities"] = [list(densities) for densities in self._densities]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on that way, where it is open."""
        way = checkpoint.get("way")
        self.ways.chosen = way if way in self.ways.open else self.ways.chosen
        self._densities = [Densities(*pair) for pair in checkpoint.get("densities", [])]

    def require_finite(self) -> None:
        """Raise :class:`DivergedError` if a loss of this epoch, or a weight by now, is not finite."""
        step = int(self._first_bad)
        if step == NEVER and not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            step = self.global_step
        if step != NEVER:
            raise DivergedError(
                f"the loss is not a finite number since step {step} (epoch {self.current_epoch + 1}); "
                f"try a smaller training.learning_rate than {self.config.learning_rate:g}"
            )

    @property
    def _in_fit(self) -> bool:
        """Whether validation ends an epoch of training, instead of standing alone."""
        return self.trainer.state.fn == TrainerFn.FITTING

    def on_validation_start(self) -> None:
        """Note how long the epoch's training took, before validation begins."""
        self.settle()
        if self._in_fit:
            self._epoch_seconds = time.perf_counter() - self._epoch_start

    def on_validation_epoch_start(self) -> None:
        """Empty the sums."""
        self._counts = torch.zeros(len(self.network.hidden), 4, dtype=torch.int64, device=self.device)
        self._wrong: Tensor | int = 0
        self._losses: Tensor | float = 0.0
        self._samples = 0
        self._nonzero: Tensor | int = 0
        skips = self._in_fit and self.ways.chosen == SKIPPING
        self._examine = SkippingExamination(self.network, torch.get_num_threads()) if skips else None

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the sums."""
        images, labels = batch
        self._samples += len(labels)
        if self._examine is not None:
            loss, wrong, counts, nonzero = self._examine(images, labels)
            self._losses, self._wrong = self._losses + loss, self._wrong + wrong
            self._counts, self._nonzero = self._counts + counts, self._nonzero + nonzero
            return
        logits, traces = self.network.trace(images)
        self._losses += F.cross_entropy(logits, labels, reduction="sum")
        self._wrong += (logits.argmax(1) != labels).sum()
        self._counts += torch.stack([count(t.preactivation, t.gate) for t in traces])
        self._nonzero += images.count_nonzero()

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log what validation found; in training also the epoch's loss, speed and refreshes."""
        found = self._figures("validation")
        if not self._in_fit:
            self.log_dict(found)
            return
        on = [shares.density for shares in self.layer_statistics]
        self._densities = [Densities(*pair) for pair in zip(self._input_densities(), on, strict=False)]
        optimizer = self.optimizers()
        group = optimizer.param_groups[0]  # type: ignore[union-attr]
        training = {
            "train/loss": self._loss_sum / max(self._steps, 1),
            "train/learning_rate": group["lr"],
            "train/momentum": group["momentum"],
            "train/seconds": self._epoch_seconds,
        }
        self.log_dict(training | self.ways.figures() | found | self.refresh_figures)

    def on_test_epoch_end(self) -> None:
        """Log what the test found."""
        self.log_dict(self._figures("test"))

    def _figures(self, stage: str) -> dict[str, float]:
        layers = self.network.hidden
        self.layer_statistics = [
            statistics(counts, gated=layer.rank is not None)
            for layer, counts in zip(layers, self._counts.cpu(), strict=True)
        ]
        self.error = 100 * int(self._wrong) / self._samples
        figures = {
            "error": self.error,
            "loss": float(self._losses) / self._samples,
            "theoretical_speedup": self.theoretical_speedup(),
            "theoretical_speedup_inference": self.theoretical_speedup(refreshes=0.0),
            "speedup_limit": speedup_limit(list(self._costs()), self._input_densities()),
        }
        for i, (layer, shares) in enumerate(zip(layers, self.layer_statistics, strict=True), 1):
            named = {"rank": layer.rank, **shares._asdict()}
            figures |= {f"layer{i}/{name}": float(v) for name, v in named.items() if v is not None}
        return {f"{stage}/{name}": value for name, value in figures.items()}

    def theoretical_speedup(self, refreshes: float | None = None) -> float:
        """From the densities of the last pass.

        Args:
            refreshes: factorisations per batch; None counts them as often as training does.
        """
        refreshes = self.refreshes if refreshes is None else refreshes
        return theoretical_speedup(list(self._costs()), self.config.batch_size, refreshes)

    def speedup_bound(self) -> float:
        """Theoretical speed-up of a forward pass if no gated unit were computed: what the ranks allow."""
        costs = [cost if cost.rank is None else cost._replace(density=0.0) for cost in self._costs()]
        return theoretical_speedup(costs, self.config.batch_size)

    def _input_densities(self) -> list[float]:
        """Share of non-zero inputs of each layer, the output layer included, in the last pass."""
        features = self.network.hidden[0].in_features
        first = int(self._nonzero) / (self._samples * features)
        return [first, *(s.true_density * (1 - s.false_off) for s in self.layer_statistics)]

    def _costs(self) -> Iterable[LayerCost]:
        unseen = [1.0] * len(self.network.hidden)
        densities = [shares.density for shares in self.layer_statistics] or unseen
        for layer, density in zip(self.network.hidden, densities, strict=True):
            d, h, rank = layer.in_features, layer.out_features, layer.rank
            refresh = 0.0
            if rank is not None:
                how = self.network.estimator
                refresh = ESTIMATORS[how.name].operations(d, h, rank, how.refresh)
            yield LayerCost(d, h, rank, density, refresh)
        output = self.network.output
        yield LayerCost(output.in_features, output.out_features)
