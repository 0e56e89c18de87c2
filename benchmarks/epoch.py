"""What training costs: ccsweep's two ways of a step beside bare PyTorch loops, each in a process of its own.

    python benchmarks/epoch.py data.dir=../shared/data [threads=1] [rounds=1] [cases=mnist,svhn] [epochs=N]

For each case, in turns: a bare loop in float32, the same under bfloat16 autocast (AMX, where the CPU has it),
ccsweep with training.step=dense, and a whole training with =skipping, from the first epoch to the last. An
epoch is training and validating; ccsweep's also refreshes factors, counts what its layers did, logs to MLflow
(sqlite) and writes checkpoints. Where nothing is skipped all epochs cost the same: those loops run four, of
which the first is not counted, and stand for as many as the case has. Kernels are compiled before the clock
starts; 10 s, once on a machine. The machine must have nothing else to do.
Results: docs/results.md.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.register import register
from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset
from ccsweep.tracking import provenance
from ccsweep.tracking.run import Run
from ccsweep.training.fit import Job
from ccsweep.training.skipping import warm_up

CASES = {
    "mnist": ["+experiment=mnist", "ranks=50-35-25"],
    "mnist_control": ["+experiment=mnist", "ranks=control"],
    "mnist_sparse": ["+experiment=mnist_sparse"],
    "mnist_sparse_control": ["+experiment=mnist_sparse", "ranks=control", "ranks.layers=null"],
    "svhn": ["+experiment=svhn"],
    "svhn_sparse": ["+experiment=svhn_sparse"],
}
LOOPS = ("bare float32", "bare bfloat16", "dense", "skipping")
EPOCHS = 4


class BareLoop:
    """The control's arithmetic with nothing around it."""

    def __init__(self, config: Config, dataset: Dataset, precision: torch.dtype) -> None:
        torch.manual_seed(config.training.seed)
        self.settings, self.dataset = config.training, dataset
        low = precision != torch.float32
        self.cast = torch.autocast("cpu", precision) if low else nullcontext()
        self.layers = [nn.Linear(d, h) for d, h in pairwise(config.layer_sizes)]
        for layer in self.layers:
            std = self.settings.weight_std or (2 / layer.in_features) ** 0.5
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight for layer in self.layers], "weight_decay": self.settings.l2},
            {"params": [layer.bias for layer in self.layers]},
        ]
        settings = self.settings
        self.optimizer = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)

    def forward(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Logits and the sum of all activations."""
        total = x.new_zeros(())
        x = F.dropout(x, self.settings.dropout_input, training)
        for layer in self.layers[:-1]:
            a = layer(x).relu()
            total = total + a.sum()
            x = F.dropout(a, self.settings.dropout_hidden, training)
        return self.layers[-1](x), total

    def epochs(self, count: int) -> Iterator[float]:
        """Train and validate so often; seconds of each."""
        for _ in range(count):
            start = time.perf_counter()
            images, labels = self.dataset.train
            for chosen in torch.randperm(len(labels)).split(self.settings.batch_size):
                with self.cast:
                    logits, activations = self.forward(images[chosen], training=True)
                    loss = F.cross_entropy(logits, labels[chosen])
                    loss = loss + self.settings.l1 / len(chosen) * activations
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                with torch.no_grad():
                    for layer in self.layers:
                        layer.weight.renorm_(2, 0, self.settings.max_norm or torch.inf)
            with torch.no_grad(), self.cast:
                images, labels = self.dataset.validation
                for x, y in zip(images.split(2000), labels.split(2000), strict=True):
                    (self.forward(x, training=False)[0].argmax(1) != y).sum()
            yield time.perf_counter() - start


class Clock(Callback):
    """Notes when each epoch begins, and when the last one ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, *args: Any) -> None:
        """An epoch begins, and the one before has ended."""
        self.times.append(time.perf_counter())

    def on_train_end(self, *args: Any) -> None:
        """The last epoch has ended."""
        self.times.append(time.perf_counter())


def one(loop: str, overrides: list[str]) -> dict[str, Any]:
    """Run one loop in this process; seconds of its epochs and, for ccsweep, its best validation error."""
    register()
    config = check(composed(overrides))
    dataset = data.load(config.data.name, directory=config.data.dir, verify=config.data.verify)
    epochs = config.training.epochs
    if loop.startswith("bare"):
        seconds = list(BareLoop(config, dataset, getattr(torch, loop.split()[1])).epochs(EPOCHS))
        return {"seconds": [statistics.median(seconds[1:])] * epochs}
    config.training.step = loop
    if loop == "dense":
        config.training.epochs = EPOCHS
    else:
        warm_up(config.training)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uri = f"sqlite:///{folder}/mlflow.db"
        with Run.start(uri, experiment="epoch", name=loop, params={}, tags={}, folder=folder) as run:
            trained = Job(config, dataset, folder).fit(run, callbacks=[clock])
    seconds = [b - a for a, b in pairwise(clock.times)]
    if loop == "dense":
        return {"seconds": [statistics.median(seconds[1:])] * epochs}
    return {"seconds": seconds, "error": trained.validation_error}


def main() -> None:
    """Take turns in fresh processes and print a table per case."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if "loop" in given:
        torch.set_num_threads(int(given["threads"]))
        print(json.dumps(one(given["loop"], json.loads(given["overrides"]))))
        return
    threads, rounds = given.pop("threads", "1"), int(given.pop("rounds", "1"))
    cases = given.pop("cases", ",".join(CASES)).split(",")
    if "epochs" in given:
        given["training.epochs"] = given.pop("epochs")
    hardware: Any = provenance.collect()["hardware"]
    print(f"{hardware['cpu']}, torch {torch.__version__}, {threads} thread(s), {rounds} round(s)")
    for case in cases:
        overrides = [*CASES[case], "data.stand_in=null", *(f"{k}={v}" for k, v in given.items())]
        found: dict[str, list[dict[str, Any]]] = {loop: [] for loop in LOOPS}
        for _ in range(rounds):
            for loop in LOOPS:
                command = [sys.executable, __file__, f"loop={loop}", f"threads={threads}"]
                command.append(f"overrides={json.dumps(overrides)}")
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[loop].append(json.loads(done.stdout.splitlines()[-1]))
        _show(case, found)


def _show(case: str, found: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{case:22}  first s  last s  whole s  (rounds)          over float32  over bf16  validation %")
    whole = {loop: statistics.median(sum(r["seconds"]) for r in runs) for loop, runs in found.items()}
    for loop, runs in found.items():
        first, last = (statistics.median(r["seconds"][k] for r in runs) for k in (0, -1))
        spread = " ".join(f"{sum(r['seconds']):.1f}" for r in runs)
        gains = [whole[bare] / whole[loop] for bare in LOOPS[:2]]
        errors = " ".join(f"{r['error']:.2f}" for r in runs if "error" in r)
        print(
            f"{loop:22}  {first:7.2f} {last:7.2f} {whole[loop]:8.1f}  ({spread:14}) "
            f"{gains[0]:11.2f}x {gains[1]:9.2f}x  {errors}",
            flush=True,
        )


if __name__ == "__main__":
    main()
