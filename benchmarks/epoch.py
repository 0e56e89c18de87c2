"""What Lightning, tracking and checkpoints cost: an epoch of ccsweep beside a bare PyTorch loop.

    python benchmarks/epoch.py data.dir=../shared/data [epochs=10] [overrides ...]

MNIST, control network 784-1000-600-400-10, training=mnist, batch 250. One epoch is training on 50 000
images and validating on 10 000; ccsweep's also counts what its layers did, logs to MLflow
(sqlite) and writes one checkpoint, or two when the epoch is the best.
Both train in one process, taking turns epoch by epoch; the first epoch of each is warm-up and not
counted. Printed: median, spread (min to max) and the ratio of the medians. Results: docs/results.md.
"""

import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.register import register
from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset
from ccsweep.tracking.run import Run
from ccsweep.training.fit import Job


class BareLoop:
    """The same arithmetic with nothing around it."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        torch.manual_seed(config.training.seed)
        self.settings = config.training
        self.dataset = dataset
        sizes = config.layer_sizes
        self.layers = [nn.Linear(d, h) for d, h in pairwise(sizes)]
        for layer in self.layers:
            std = self.settings.weight_std or (2 / layer.in_features) ** 0.5
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight for layer in self.layers], "weight_decay": self.settings.l2},
            {"params": [layer.bias for layer in self.layers]},
        ]
        self.optimizer = torch.optim.SGD(
            groups, lr=self.settings.learning_rate, momentum=self.settings.momentum
        )

    def forward(self, x: torch.Tensor, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and the sum of all activations."""
        total = x.new_zeros(())
        x = F.dropout(x, self.settings.dropout_input, training)
        for layer in self.layers[:-1]:
            a = layer(x).relu()
            total = total + a.sum()
            x = F.dropout(a, self.settings.dropout_hidden, training)
        return self.layers[-1](x), total

    def epoch(self) -> float:
        """Train and validate once; returns seconds."""
        start = time.perf_counter()
        images, labels = self.dataset.train
        for chosen in torch.randperm(len(labels)).split(self.settings.batch_size):
            logits, activations = self.forward(images[chosen], training=True)
            loss = F.cross_entropy(logits, labels[chosen])
            loss = loss + self.settings.l1 / len(chosen) * activations
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                for layer in self.layers:
                    norms = torch.linalg.vector_norm(layer.weight, dim=1, keepdim=True)
                    layer.weight.mul_((self.settings.max_norm / norms).clamp_(max=1.0))
        with torch.no_grad():
            images, labels = self.dataset.validation
            for x, y in zip(images.split(2000), labels.split(2000), strict=True):
                (self.forward(x, training=False)[0].argmax(1) != y).sum()
        return time.perf_counter() - start


class TakeTurns(Callback):
    """Runs an epoch of the bare loop before each of ccsweep's, outside its clock."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.bare_seconds: list[float] = []
        self.seconds: list[float] = []
        self.began: float | None = None

    def on_train_epoch_start(self, *args: Any) -> None:
        """End the clock of the epoch before, run the bare loop, start the clock."""
        self.on_train_end()
        self.bare_seconds.append(self.bare.epoch())
        self.began = time.perf_counter()

    def on_train_end(self, *args: Any) -> None:
        """End the clock of the last epoch."""
        if self.began is not None:
            self.seconds.append(time.perf_counter() - self.began)
        self.began = None


def main() -> None:
    """Compose the config, take turns, print the table."""
    arguments = sys.argv[1:]
    epochs = next((a.partition("=")[2] for a in arguments if a.startswith("epochs=")), "10")
    overrides = ["+experiment=mnist", "ranks=control", f"training.epochs={epochs}"]
    overrides += [a for a in arguments if not a.startswith("epochs=")]
    register()
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        config = check(compose("config", overrides=overrides))
    dataset = data.load(config.data.name, directory=config.data.dir, verify=config.data.verify)
    turns = TakeTurns(BareLoop(config, dataset))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = Run.start(
            f"sqlite:///{folder}/mlflow.db",
            experiment="benchmark",
            name="epoch",
            params={},
            tags={},
            folder=folder,
        )
        with run:
            Job(config, dataset, folder).fit(run, watch=[turns])
    print(f"torch {torch.__version__}, Lightning {pl.__version__}, {torch.get_num_threads()} threads")
    medians = []
    for name, seconds in (("bare loop", turns.bare_seconds), ("ccsweep", turns.seconds)):
        counted = seconds[1:]
        medians.append(statistics.median(counted))
        spread = f"{min(counted):.2f} to {max(counted):.2f}"
        print(f"{name:10} {medians[-1]:.2f} s an epoch  ({spread}, {len(counted)} epochs)")
    print(f"ratio      {medians[1] / medians[0]:.3f}")


if __name__ == "__main__":
    main()
