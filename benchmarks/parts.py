"""Where the time of float32 skipping goes, by taking parts away: one layer at batch 256, one thread.

    taskset -c 0 python benchmarks/parts.py [seconds=1]

784 inputs, 1000 units, a fifth of the inputs not zero. First listing the inputs, the layer with its inputs
listed, and of that adding up rows of weights alone; then the same with other rows in their place: all samples
read the same four, which lie in the first-level cache, or 256 (1 MB), which lie in the second. What these
save is waiting for weights.
"""

import sys
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import torch

from ccsweep.engine.clock import race
from ccsweep.engine.layers import Layer
from ccsweep.engine.layout import Layout
from ccsweep.estimator.cost import INPUT_SPARSE
from ccsweep.kernels.compiling import jit
from ccsweep.kernels.float32 import add_rows, input_sparse
from ccsweep.kernels.lists import list_inputs
from ccsweep.kernels.table import LAYER

INPUTS, UNITS, BATCH, DENSITY, OTHERS = 784, 1000, 256, 0.2, 16


@jit
def rows_alone(indices: Any, values: Any, counts: Any, table: Any, sums: Any) -> None:
    """What the layer does between its lists."""
    layer = table.view(LAYER)[0]
    for first in range(0, layer.stride, layer.block):
        width = min(layer.block, layer.stride - first)
        rows, bias = layer.rows + 4 * first, layer.bias + 4 * first
        for s in range(len(counts)):
            add_rows(indices[s], values[s], counts[s], rows, layer.stride, bias, sums, width)


@jit
def whole(table: Any, numbers: Any, lists: Any, new: Any, out: Any) -> None:
    """The layer, its inputs listed."""
    input_sparse(table.view(LAYER)[0], numbers, len(lists[2]), lists, new, out)


def nothing_listed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for the lists of a batch."""
    shape = BATCH, 2048
    return np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(BATCH, np.int64)


def main() -> None:
    """Time the parts and print what each takes of a sample."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((UNITS, INPUTS), np.float32) / 28
    layout = Layout(
        [Layer(weight, np.full(UNITS, -0.5, np.float32), True), Layer(weight[:1, :1], weight[0, :1], False)]
    )
    table = layout.table(0, [INPUT_SPARSE])
    numbers, sums = np.arange(2048, dtype=np.int32), np.empty(2048, np.float32)
    some = [generator.random((BATCH, INPUTS), np.float32) for _ in range(OTHERS)]
    some = [np.where(x < DENSITY, x, np.float32(0)) for x in some]
    listed = []
    for x in some:
        lists = nothing_listed()
        list_inputs(x, INPUTS, numbers, *lists)
        listed.append(lists)
    new, out = nothing_listed(), np.empty((0, 0), np.float32)
    products = UNITS * np.mean([lists[2].mean() for lists in listed])

    def rows(kept: int) -> Any:
        coming = cycle([(indices % kept, values, counts) for indices, values, counts in listed])
        return lambda: rows_alone(*next(coming), table, sums)

    inputs, again = cycle(some), cycle(listed)
    parts = {
        "listing the inputs": lambda: list_inputs(next(inputs), INPUTS, numbers, *new),
        "the layer, its inputs listed": lambda: whole(table, numbers, next(again), new, out),
        "its rows alone": rows(INPUTS),
        "rows in the second-level cache": rows(256),
        "rows in the first-level cache": rows(4),
    }
    for name, took in race(parts, float(given.get("seconds", "1"))).items():
        sample = median(took) / BATCH
        rate = (
            ""
            if "inputs" in name and "layer" not in name
            else f"{products / sample / 1000:6.1f} products a ns"
        )
        print(f"{name:32} {sample:6.2f} us a sample {rate}")


if __name__ == "__main__":
    main()
