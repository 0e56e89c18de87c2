"""Consecutive layers in one compiled call: skipping work, in float32 or int8, or dense in int8."""

import numpy as np

from ccsweep.kernels import dense, float32, int8
from ccsweep.kernels.compiling import kernel
from ccsweep.kernels.lists import list_inputs, spread
from ccsweep.kernels.memory import TILE, line_bytes
from ccsweep.kernels.simd import LANES
from ccsweep.kernels.table import DENSE, INPUT_SPARSE, LAYER, MASKED
from ccsweep.kernels.vnni import BYTES

SAMPLES, DENSE_SAMPLES = 128, 256
"""Samples that go through a layer together: their lists stay in the cache, and weights come to it for all.

Where no layer has lists there is room for more.
"""


@kernel
def run(x, projected, numbers, table, together, out):
    """Run consecutive layers, none of them dense in float32.

    Args:
        x: float32 (batch, inputs of the first layer), contiguous.
        projected: float32 (batch, rank in whole vectors), x U for a first layer whose gate is in float32; or
            (0, 0) to have it computed here, which only pays for few samples or many zeros.
        numbers: int32, 0, 1, 2, ...
        table: int64, a ``LAYER`` after the other.
        together: samples that go through a layer together; their lists should fit the cache.
        out: float32 (batch, units of the last layer), contiguous; filled.

    Returns:
        Whether all inputs were finite; rows that were not are not to be used, where layers are gated or int8.
    """
    layers = table.view(LAYER)
    batch, most = x.shape[0], min(x.shape[0], together)
    wide = max(layers.inputs.max(), layers.units.max()) + TILE + LANES
    indices = np.empty((2, most, wide), np.int32)
    values = np.empty((2, most, wide), np.float32)
    counts = np.empty((2, most), np.int64)
    in_blocks = ((layers.way == DENSE) | (layers.way == MASKED)).any()
    room = most + dense.SIDE if in_blocks else 0
    floats, quantised = np.empty(room * wide, np.float32), line_bytes(2, room * (-(-wide // BYTES) * BYTES))
    offsets, scales = np.empty((2, room), np.int64), np.empty((2, room), np.float32)
    finite = True
    for first in range(0, batch, together):
        samples = min(together, batch - first)
        part = x[first : first + samples]
        rest = out[first : first + samples]
        in_rows, in_lists, in_bytes = True, False, False  # how the inputs of the next layer stand ready
        for k in range(layers.size):
            layer = layers[k]
            lists = indices[k % 2], values[k % 2], counts[k % 2]
            new = indices[1 - k % 2], values[1 - k % 2], counts[1 - k % 2]
            if not in_lists and (layer.way == INPUT_SPARSE or not layer.int8 or layer.mixed):
                same = list_inputs(part, layer.inputs, numbers, lists[0], lists[1], lists[2])
                finite &= same or k > 0
                in_lists = True
            if layer.way == INPUT_SPARSE:
                if layer.int8:
                    int8.input_sparse(layer, numbers, samples, lists, new, rest)
                else:
                    float32.input_sparse(layer, numbers, samples, lists, new, rest)
                in_rows = False
                continue
            if not in_rows or (k == 0 and layer.inputs % LANES):
                given = part
                part = np.zeros((samples, -(-layer.inputs // LANES) * LANES), np.float32)
                if in_rows:
                    part[:, : layer.inputs] = given
                else:
                    spread(samples, layer.inputs, lists, part)
            in_rows = layer.way == DENSE or layer.way == MASKED
            in_lists = not in_rows
            if in_rows:
                here, there = k % 2, 1 - k % 2
                taken = dense.as_bytes(layer.stride, samples, quantised[here], offsets[here], scales[here])
                if not in_bytes:
                    same = int8.quantise_rows(layer, samples, part, *taken)
                    finite &= same or k > 0
                after = layers[min(k + 1, layers.size - 1)]
                in_bytes = k + 1 < layers.size and (after.way == DENSE or after.way == MASKED)
                left = dense.as_bytes(after.stride, samples, quantised[there], offsets[there], scales[there])
                if layer.way == MASKED:
                    part = dense.all_units_masked(layer, samples, taken, floats, left, in_bytes)
                else:
                    part = dense.all_units(layer, samples, taken, floats, left, in_bytes)
                continue
            t = projected
            if not layer.int8 or layer.mixed:
                known = k == 0 and projected.shape[1] > 0
                t = projected[first : first + samples] if known else float32.project(layer, samples, lists)
            if layer.int8:
                same = int8.gated(layer, numbers, samples, part, t, new)
                finite &= same or k > 0
            else:
                float32.gated(layer, numbers, samples, part, t, lists, new)
        if in_rows or layers[-1].relu:
            last, units = layers.size % 2, layers[-1].units
            if in_rows:
                rest[:, :units] = part[:samples, :units]
            else:
                spread(samples, units, (indices[last], values[last], counts[last]), rest)
    return finite
