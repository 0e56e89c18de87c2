"""One wide layer at batch 1: the engine beside torch, ONNX Runtime and exact skip.

    taskset -c 0 python benchmarks/wide.py [seconds=5]

4096 inputs, 16384 units, an estimator of rank 100; weights at random around that rank, and biases such that
10 % of the units are positive. Inputs are dense, so exact skip gains nothing. One thread, fresh inputs on
every call, the candidates taking turns. By bytes of weights the limit is ``1 / (density + rank cost)``,
7.7 at 10 %: see docs/method.md. Trained networks: ``python -m ccsweep task=benchmark run=ID``.
"""

import sys

import torch

from ccsweep.config.schema import RanksConfig
from ccsweep.engine.benchmark import compare
from ccsweep.estimator.factors import Factors
from ccsweep.network import ConditionalMLP

INPUTS, UNITS, RANK = 4096, 16384, 100
DEVIATIONS = -1.28
"""A tenth of a normal distribution lies above as many standard deviations, on the other side."""


def layer() -> ConditionalMLP:
    """The layer, with one output behind it."""
    torch.manual_seed(0)
    network = ConditionalMLP([INPUTS, UNITS, 1], RanksConfig([RANK]))
    hidden = network.hidden[0]
    with torch.no_grad():
        u, v = torch.randn(INPUTS, RANK) / INPUTS**0.5, torch.randn(RANK, UNITS) / RANK**0.5
        hidden.weight.copy_((u @ v).T).add_(torch.randn(UNITS, INPUTS), alpha=0.002)
        hidden.bias.copy_(DEVIATIONS * v.norm(dim=0))
        hidden.factors = Factors(u, v, torch.zeros(UNITS))
    return network.eval()


def main() -> None:
    """Time the layer and print the plan and the table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    network, inputs = layer(), torch.randn(600, INPUTS)
    found = compare(network, inputs[:300], inputs[300:], 1, 1, float(given.get("seconds", "5")))
    print(found.plan)
    for name, timing in found.timings.items():
        spread = f"({timing.low:.0f} to {timing.high:.0f}, {timing.calls} calls)"
        print(f"{name:25} {timing.median:8.0f} us {spread:32} {found.speedup(name):6.2f}x")
    for name, reason in found.unavailable.items():
        print(f"{name:25} {reason}")


if __name__ == "__main__":
    main()
