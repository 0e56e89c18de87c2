"""``ccsweep.accelerate`` on plain torch networks, trained here without anything of this project.

    taskset -c 0 python benchmarks/accelerate.py [data.dir=../shared/data] [cases=mnist,clicks] [seconds=1]
    python benchmarks/accelerate.py coverage [seeds=20] [on=training]

``mnist``: 784-1000-600-400-10, Adam and dropout. ``clicks``: three embeddings and an MLP on synthetic clicks,
which are drawn here from a rule with noise. ``transformer``: a ReLU feed-forward in OPT's shape, small
(128-512-128), in a block with attention, on synthetic sequences. ``regression``: scikit-learn's Friedman
function. ``autoencoder``: of the digits. Estimators are fitted and verified on inputs that nothing was
trained on; changed answers are counted on others again. One thread, all in turns, on inputs that the
last call did not have. A peer that changes more answers than was promised is no peer: it is timed, its
column says how many, and only "over the fastest of all" counts it.

``coverage``: of so many small classifiers, how often new data break the promise; with ``on=training`` each
learns 4,000 samples by heart and is accelerated with these same ones. Results: docs/results.md.
"""

import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ccsweep
from ccsweep import data
from ccsweep.engine.accelerate.keep import criterion
from ccsweep.engine.clock import turns
from ccsweep.tracking import provenance

BATCHES = (1, 32, 256)

Inputs = tuple[Tensor, ...]


class Case(NamedTuple):
    """A trained model, inputs to accelerate it with, others to count on, and what must hold."""

    model: nn.Module
    given: Inputs
    new: Inputs
    keep: str
    promised: float = 0.001


def trained(
    model: nn.Module, draw: Callable[[int], tuple[Inputs, Tensor]], loss: Callable[..., Tensor], steps: int
) -> nn.Module:
    """Adam at 1e-3, batches of 250."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        inputs, target = draw(250)
        optimiser.zero_grad()
        loss(model(*inputs), target).backward()
        optimiser.step()
    return model.eval()


def mlp(*sizes: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between."""
    parts: list[nn.Module] = []
    for inputs, units in pairwise(sizes):
        parts += [nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts[:-2])


def mnist(directory: str) -> Case:
    """784-1000-600-400-10."""
    dataset = data.load("mnist", directory=directory)
    images, labels = dataset.train

    def draw(count: int) -> tuple[Inputs, Tensor]:
        chosen = torch.randint(len(labels), (count,))
        return (images[chosen],), labels[chosen]

    model = trained(mlp(784, 1000, 600, 400, 10, dropout=0.3), draw, F.cross_entropy, 600)
    return Case(model, (dataset.validation.images,), (dataset.test.images,), "argmax")


class Clicks(nn.Module):
    """Embeddings of three categories beside eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(1000, 32) for _ in range(3))
        self.deep = mlp(104, 1024, 512, 256, 1)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """The logit of a click."""
        found = [table(categories[:, k]) for k, table in enumerate(self.tables)]
        return self.deep(torch.cat([numbers, *found], 1)).squeeze(1)


def clicks(directory: str) -> Case:
    """Synthetic: a click's chance follows from the numbers and a hidden taste of each category."""
    taste, weights = torch.randn(3, 1000), torch.randn(8)

    def draw(count: int) -> tuple[Inputs, Tensor]:
        numbers, categories = torch.randn(count, 8), torch.randint(1000, (count, 3))
        logit = numbers @ weights + sum(taste[k][categories[:, k]] for k in range(3)) - 2
        return (numbers, categories), torch.bernoulli(logit.sigmoid())

    model = trained(Clicks(), draw, F.binary_cross_entropy_with_logits, 800)
    return Case(model, draw(20000)[0], draw(20000)[0], "sign")


class Block(nn.Module):
    """One block in OPT's shape: attention, then a ReLU feed-forward of four times the width."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(128) for _ in range(2))
        self.fc1, self.fc2, self.head = nn.Linear(128, 512), nn.Linear(512, 128), nn.Linear(128, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Classes of a sequence."""
        h = self.norms[0](x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        x = x + self.fc2(F.relu(self.fc1(self.norms[1](x))))
        return self.head(x.mean(1))


def transformer(directory: str) -> Case:
    """Synthetic sequences of eight positions, whose class is the prototype that is mixed into them."""
    prototypes = torch.randn(8, 8, 128)

    def draw(count: int) -> tuple[Inputs, Tensor]:
        labels = torch.randint(8, (count,))
        return (0.35 * prototypes[labels] + torch.randn(count, 8, 128),), labels

    model = trained(Block(), draw, F.cross_entropy, 400)
    return Case(model, draw(8000)[0], draw(8000)[0], "argmax")


def regression(directory: str) -> Case:
    """scikit-learn's Friedman function of ten inputs, with noise."""
    from sklearn.datasets import make_friedman1

    x, y = (
        torch.from_numpy(part.astype(np.float32)) for part in make_friedman1(30000, noise=1.0, random_state=0)
    )
    y = (y - y.mean()) / y.std()

    def draw(count: int) -> tuple[Inputs, Tensor]:
        chosen = torch.randint(10000, (count,))
        return (x[chosen],), y[chosen]

    model = trained(mlp(10, 1024, 512, 1), draw, lambda out, target: F.mse_loss(out[:, 0], target), 1000)
    return Case(model, (x[10000:20000],), (x[20000:],), "values")


def autoencoder(directory: str) -> Case:
    """The digits through 16 numbers; too few of them for one in a thousand, so one in twenty is promised."""
    dataset = data.load("digits")
    images = dataset.train.images

    def draw(count: int) -> tuple[Inputs, Tensor]:
        chosen = images[torch.randint(len(images), (count,))]
        return (chosen,), chosen

    model = trained(mlp(64, 512, 16, 512, 64), draw, F.mse_loss, 1000)
    return Case(model, (dataset.validation.images,), (dataset.test.images,), "values", 0.05)


CASES = {case.__name__: case for case in (mnist, clicks, transformer, regression, autoencoder)}


def int8_of(model: nn.Module) -> nn.Module:
    """Torch's dynamic int8, two lines that anyone finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def onnxruntime_of(model: nn.Module, given: Inputs) -> dict[str, Callable[..., object]]:
    """ONNX Runtime in float32 and in dynamic int8, where the model exports."""
    import io
    import tempfile
    from pathlib import Path

    import onnxruntime  # type: ignore[import-untyped]
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    names = [f"x{k}" for k in range(len(given))]
    written = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # what attention would else call ONNX does not know
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(part[:4] for part in given),
            written,  # type: ignore[arg-type]
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name in names},
            dynamo=False,
        )
    torch.backends.mha.set_fastpath_enabled(True)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "a.onnx"), Path(folder, "b.onnx")
        plain.write_bytes(written.getvalue())
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
        for name, file in (("ONNX Runtime", plain), ("ONNX Runtime int8", small)):
            session = onnxruntime.InferenceSession(file.read_bytes(), options, ["CPUExecutionProvider"])

            def run(*inputs: Tensor, session: Any = session) -> object:
                feed = {name: part.numpy() for name, part in zip(names, inputs, strict=True)}
                return session.run(None, feed)

            found[name] = run
    return found


def batches(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Without end, other samples in each as long as there are any."""
    many = min(len(inputs[0]) // size, 64)
    return cycle(
        [tuple(part[k * size : (k + 1) * size].contiguous() for part in inputs) for k in range(max(1, many))]
    )


@torch.inference_mode()
def compare(name: str, case: Case, seconds: float) -> None:
    """Accelerate the model; print what it changed and what it gained."""
    with torch.inference_mode(False):
        fast = ccsweep.accelerate(case.model, case.given, case.promised, BATCHES, 1, case.keep)
    runs: dict[str, Callable[..., object]] = {"torch": case.model, "torch int8": int8_of(case.model)}
    try:
        runs |= onnxruntime_of(case.model, case.new)
    except Exception as error:
        print(f"{name}: no ONNX Runtime: {str(error).splitlines()[0]}")
    runs["accelerate"] = fast
    report = fast.report
    print(f"\n{name}: {report}")
    before = case.model(*case.new)
    rule = criterion(case.keep, [before], [len(before)], [])
    changed = {}
    for who, run in runs.items():
        after = run(*case.new)
        after = torch.from_numpy(after[0]) if isinstance(after, list) else after
        changed[who] = float(rule.changed(before, after, 1.0).double().mean())
    said = "; ".join(f"{who} {share:.2%}" for who, share in changed.items() if who != "torch")
    print(f"on {len(before):,} others, answers changed (promised {case.promised:.1%}): {said}")
    peers = [who for who in runs if who != "accelerate"]
    counting = [who for who in peers if changed[who] <= case.promised]
    heads = [
        who if who in (*counting, "accelerate") else f"{who} (changes {changed[who]:.2%})" for who in runs
    ]
    over = ["over torch", "over the fastest peer", "over the fastest of all"]
    print(f"| {name} | " + " | ".join([*heads, *over]) + " |")
    print("| --- |" + " ---: |" * (len(runs) + len(over)))
    for size in BATCHES:
        timed = turns({who: _next(run, batches(case.new, size)) for who, run in runs.items()}, seconds)
        median = {who: statistics.median(took for turn in timed for took in turn[who]) for who in runs}
        ours = median["accelerate"]
        beaten = median["torch"], *(min(median[who] for who in group) for group in (counting, peers))
        cells = [f"{one:.1f}" for one in median.values()] + [f"{one / ours:.2f}x" for one in beaten]
        print(f"| batch {size} | " + " | ".join(cells) + " |")


def _next(run: Callable[..., object], coming: Iterator[Inputs]) -> Callable[[], object]:
    return lambda: run(*next(coming))


def coverage(seeds: int, on: str) -> None:
    """How often new data break the promise; ``on`` says what the models are accelerated with."""
    print("| seed | ranks | observed | bound | on 20,000 new inputs |\n| ---: | --- | ---: | ---: | ---: |")
    broken, promised = 0, 0.01
    for seed in range(seeds):
        torch.manual_seed(seed)
        centres, mixing = 1.3 * torch.randn(8, 6), torch.randn(6, 40) / 6**0.5

        def draw(count: int, centres: Tensor = centres, mixing: Tensor = mixing) -> tuple[Inputs, Tensor]:
            labels = torch.randint(8, (count,))
            hidden = centres[labels] + torch.randn(count, 6)
            return (hidden @ mixing + 0.02 * torch.randn(count, 40),), labels

        inputs, labels = draw(4000)

        def again(count: int, inputs: Inputs = inputs, labels: Tensor = labels) -> tuple[Inputs, Tensor]:
            chosen = torch.randint(len(labels), (count,))
            return (inputs[0][chosen],), labels[chosen]

        learnt, steps = (again, 1500) if on == "training" else (draw, 300)
        model = trained(mlp(40, 128, 64, 8), learnt, F.cross_entropy, steps)
        fast = ccsweep.accelerate(model, inputs, promised, threads=1, keep="argmax")
        (one,) = fast.chains
        (new,) = draw(20000)[0]
        flags = torch.zeros(len(new), dtype=torch.bool)
        for use in one.arithmetics[1:]:  # whatever plans there will be
            vars(one)["at"] = lambda size, one=one, use=use: one.computing(use)
            with torch.no_grad():
                flags |= model(new).argmax(1) != fast(new).argmax(1)
        changed = float(flags.double().mean())
        broken += changed > promised
        done = fast.report.chains[0].partition("ranks ")[2]
        print(f"| {seed} | {done} | {fast.report.observed:.2%} | {fast.report.bound:.2%} | {changed:.2%} |")
    print(f"promised {promised:.0%} with 95 % confidence: broken for {broken} of {seeds} seeds")


def main(arguments: Sequence[str]) -> None:
    """All cases, or the coverage."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    torch.set_num_threads(1)
    if "coverage" in arguments:
        coverage(int(given.get("seeds", "20")), given.get("on", "others"))
        return
    hardware: Any = provenance.collect()["hardware"]
    print(f"{hardware['cpu']}, torch {torch.__version__}, one thread; microseconds")
    for name in given.get("cases", ",".join(CASES)).split(","):
        torch.manual_seed(0)
        compare(name, CASES[name](given.get("data.dir", "../shared/data")), float(given.get("seconds", "1")))


if __name__ == "__main__":
    main(sys.argv[1:])
