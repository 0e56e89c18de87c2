"""``ccsweep.accelerate`` on plain torch networks, trained here without anything of this project.

    taskset -c 0 python benchmarks/accelerate.py [data.dir=../shared/data] [seeds=3] [seconds=2]

scikit-learn's digits (64-512-512-10) and MNIST (784-1000-600-400-10): Adam, dropout, no L1, no gate.
Estimators and plans come from validation images. On test images, which nothing has seen before, it is
counted how many predictions changed and how many were wrong before and after; every batch size is timed,
one thread, taking turns with torch eager.
"""

import statistics
import sys
from collections.abc import Callable
from itertools import cycle

import torch
from torch import Tensor, nn

import ccsweep
from ccsweep import data
from ccsweep.data.dataset import Dataset
from ccsweep.engine.benchmark import split
from ccsweep.engine.clock import race

NETWORKS = {"digits": ((512, 512), 40, 50), "mnist": ((1000, 600, 400), 8, 250)}
"""Hidden units, epochs, batch size."""
PROMISED = 0.001
BATCHES = (1, 32, 256)


def train(dataset: Dataset, hidden: tuple[int, ...], epochs: int, batch: int, seed: int) -> nn.Sequential:
    """A dense network as anyone trains one."""
    torch.manual_seed(seed)
    sizes = (dataset.features, *hidden)
    parts: list[nn.Module] = []
    for inputs, units in zip(sizes, hidden, strict=False):
        parts += [nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(0.3)]
    model = nn.Sequential(*parts, nn.Linear(hidden[-1], dataset.classes))
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    images, labels = dataset.train.images, dataset.train.labels
    for epoch in range(epochs):
        for chosen in torch.randperm(len(labels)).split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
        print(f"{dataset.name}, seed {seed}: epoch {epoch + 1} of {epochs}", end="\r", file=sys.stderr)
    return model.eval()


def wrong(logits: Tensor, labels: Tensor) -> float:
    """Error in percent."""
    return 100 * float((logits.argmax(1) != labels).double().mean())


def on_fresh(model: nn.Module, batches: list[Tensor]) -> Callable[[], object]:
    """A call with the next batch."""
    coming = cycle(batches)
    return lambda: model(next(coming))


@torch.inference_mode()
def compare(dataset: Dataset, model: nn.Module, seed: int, seconds: float) -> None:
    """Accelerate the model; print what it changed and what it gained."""
    fast = ccsweep.accelerate(model, dataset.validation.images, PROMISED, batch_sizes=BATCHES)
    images, labels = dataset.test.images, dataset.test.labels
    before, after = model(images), fast(images)
    changed = int((before.argmax(1) != after.argmax(1)).sum())
    print(
        f"\n{dataset.name}, seed {seed}: {changed} of {len(images):,} test predictions changed (promised",
        end=" ",
    )
    print(f"{PROMISED:.1%}), error {wrong(before, labels):.2f} % before, {wrong(after, labels):.2f} % after")
    print(fast.report)
    for batch in BATCHES:
        batches = split(images, batch)
        took = race({"torch": on_fresh(model, batches), "engine": on_fresh(fast, batches)}, seconds)
        torch_took, engine_took = (statistics.median(took[name]) for name in ("torch", "engine"))
        gain = torch_took / engine_took
        print(f"  batch {batch:4}  torch {torch_took:8.1f} us  engine {engine_took:8.1f} us  {gain:5.2f}x")


def main() -> None:
    """Both networks, every seed."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    for name, how in NETWORKS.items():
        directory = None if name == "digits" else given.get("data.dir", "../shared/data")
        dataset = data.load(name, directory=directory)
        for seed in range(int(given.get("seeds", "3"))):
            compare(dataset, train(dataset, *how, seed), seed, float(given.get("seconds", "2")))


if __name__ == "__main__":
    main()
