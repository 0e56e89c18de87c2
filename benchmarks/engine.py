"""The engine beside its peers: torch eager, ONNX Runtime, exact skip alone; fresh inputs on every call.

    taskset -c 0 python benchmarks/engine.py [data.dir=../shared/data] [seconds=5] [folder=outputs/benchmark]

One thread. Networks with the paper's layers are trained on MNIST and SVHN with a gate on the first layer
(about three minutes each, kept in ``folder``), and one 4096x16384 layer is drawn at random, its density
set to 10 %. For each batch size all candidates take turns of some milliseconds, each with its weights in
the cache as in use. Printed: the engine's plan, then median microseconds, the middle half's spread and
the least, and how many times faster than torch eager by median and by least: on a busy machine the
least is what the code takes, the rest is the company it keeps.
onnxruntime and onnx are wanted (pip install onnxruntime onnx); without them that row is left out.
"""

import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ccsweep import engine
from ccsweep.data import load
from ccsweep.engine import peers
from ccsweep.engine.layers import layers_of
from ccsweep.engine.race import race
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.fit import EstimatorSettings
from ccsweep.network import ConditionalMLP

# sizes, rank of the first layer's estimator, epochs, learning rate, L1, bias of the first layer
NETWORKS = {
    "mnist": ([784, 1000, 600, 400, 10], 25, 16, 0.25, 1e-4, 0.0),
    # Its inputs are centred: with bias 0 half of the first layer's units would be positive.
    "svhn": ([1024, 1500, 700, 400, 200, 10], 48, 60, 0.1, 3e-4, -1.5),
}


def train(name: str, directory: str, folder: Path) -> tuple[ConditionalMLP, Tensor, Tensor]:
    """The network, calibration inputs (not trained on) and test inputs."""
    sizes, rank, epochs, rate, penalty, bias = NETWORKS[name]
    data = load(name, directory=directory, verify=False)
    torch.manual_seed(0)
    estimator = EstimatorSettings("whitened", ranks=(rank,))
    network = ConditionalMLP(sizes, estimator, gated_layers=1, dropout_input=0.2, dropout_hidden=0.5)
    file = folder / f"{name}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        network.initialise(weight_std=0.0, bias=0.0)
        torch.nn.init.constant_(network.hidden[0].bias, bias)
        images, labels = data.train.images, data.train.labels
        optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.5)
        for epoch in range(epochs):
            for group in optimiser.param_groups:
                group.update(lr=rate * 0.95**epoch, momentum=min(0.8, 0.5 * 1.05**epoch))
            network.train()
            order = torch.randperm(len(images)).split(250)
            for step, chosen in enumerate(order):
                if step % 50 == 0 and epoch > 0:
                    network.refresh(images[:2000])
                logits, traces = network.trace(images[chosen])
                active = torch.stack([trace.activation.sum(1).mean() for trace in traces]).sum()
                loss = F.cross_entropy(logits, labels[chosen]) + penalty * active
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            print(f"{name}: epoch {epoch + 1} of {epochs}", end="\r", file=sys.stderr)
        network.refresh(images[:2000])
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    network.eval()
    with torch.inference_mode():
        logits, traces = network.trace(data.test.images)
    wrong = 100 * (logits.argmax(1) != data.test.labels).double().mean()
    shares = "/".join(f"{(trace.activation > 0).double().mean():.2f}" for trace in traces)
    gate = traces[0].gate
    assert gate is not None
    print(
        f"\n{data.label}: error {wrong:.2f} %, units positive {shares}, first gate {gate.double().mean():.2f}"
    )
    return network, data.validation.images, data.test.images


def wide() -> tuple[ConditionalMLP, Tensor, Tensor]:
    """One 4096x16384 layer of rank 100 and its biases such that 10 % of units are positive; random inputs."""
    torch.manual_seed(0)
    network = ConditionalMLP([4096, 16384, 1], EstimatorSettings("svd", ranks=(100,)))
    hidden = network.hidden[0]
    x = torch.randn(600, 4096)
    with torch.no_grad():
        u, v = torch.randn(4096, 100) / 64, torch.randn(100, 16384) / 10
        hidden.weight.copy_((u @ v).T).add_(torch.randn(16384, 4096), alpha=0.002)
        hidden.bias.copy_(-1.28 * v.norm(dim=0))
        hidden.factors = Factors(u, v, torch.zeros(16384))
    return network.eval(), x[:300], x[300:]


def compare(network: ConditionalMLP, calibration: Tensor, inputs: Tensor, batch: int, seconds: float) -> None:
    """Print the engine's plan, and all candidates' times for one batch size."""
    auto = engine.compile(network, calibration, batch, threads=1)
    print(auto.plan)
    layers = layers_of(network)
    candidates: dict[str, peers.Run] = {"torch eager": peers.eager(layers)}
    try:
        candidates["ONNX Runtime"] = peers.onnxruntime(layers, threads=1)
    except peers.UnavailableError as error:
        print(f"ONNX Runtime: {error}")
    candidates |= {"exact skip alone": peers.exact_skip(layers, threads=1), "ccsweep engine": auto}
    batches = cycle(inputs[: len(inputs) // batch * batch].split(batch))

    def fresh(run: Callable[[Tensor], object]) -> Callable[[], object]:
        return lambda: run(next(batches))

    took = race({name: fresh(run) for name, run in candidates.items()}, seconds)
    base = statistics.median(took["torch eager"])
    for name, times in took.items():
        low, middle, high = np.percentile(times, [25, 50, 75])
        gains = f"{base / middle:6.2f}x eager, by the least {min(took['torch eager']) / min(times):.2f}x"
        spread = f"({low:.1f} to {high:.1f}, least {min(times):.1f})"
        print(f"  batch {batch:5} {name:17} {middle:9.1f} us {spread:40} {gains}")


def main() -> None:
    """Compare everything on every network."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    directory, folder = (
        given.get("data.dir", "../shared/data"),
        Path(given.get("folder", "outputs/benchmark")),
    )
    seconds = float(given.get("seconds", "5"))
    torch.set_num_threads(1)
    for name in NETWORKS:
        network, calibration, inputs = train(name, directory, folder)
        for batch in (1, 32, 256, 1024):
            if batch <= len(inputs):
                compare(network, calibration, inputs, batch, seconds)
    print("\n4096x16384, rank 100, random")
    network, calibration, inputs = wide()
    compare(network, calibration, inputs, 1, seconds)


if __name__ == "__main__":
    main()
