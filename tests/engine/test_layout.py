"""Weights in memory: read back from the addresses that the kernels get."""

import ctypes
import pickle

import numpy as np
import pytest
import torch

from ccsweep.engine.layers import Layer
from ccsweep.engine.layout import Layout
from ccsweep.engine.ways import INT8
from ccsweep.estimator.cost import GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.kernels import table
from ccsweep.kernels.table import LAYER
from tests.engine.conftest import draw


def at(address: int, rows: int, width: int) -> np.ndarray:
    """Floats at an address, which is a cache line's."""
    assert address % 64 == 0
    floats = ctypes.cast(int(address), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, (rows, width))


def padded(values: np.ndarray, width: int, filled_with: float = 0.0) -> np.ndarray:
    filled = np.full((values.shape[0], width), filled_with, np.float32)
    filled[:, : values.shape[1]] = values
    return filled


def records(made: Layout, first: int, ways: list[str]) -> np.ndarray:
    found = made.table(first, ways)
    assert found.dtype == np.int64
    return found.view(LAYER)


def test_input_sparse_layers_lie_by_input():
    layers = draw([20, 40, 3], rank=5, seed=0)
    made = Layout(layers)
    first, last = records(made, 0, [INPUT_SPARSE] * 2)
    assert [row["way"] for row in (first, last)] == [table.INPUT_SPARSE] * 2
    assert [(row["inputs"], row["units"], row["relu"]) for row in (first, last)] == [(20, 40, 1), (40, 3, 0)]
    assert [(row["stride"], row["block"]) for row in (first, last)] == [(48, 128), (16, 128)]
    np.testing.assert_array_equal(at(first["rows"], 20, 48), padded(layers[0].weight.T, 48))
    np.testing.assert_array_equal(at(last["rows"], 40, 16), padded(layers[1].weight.T, 16))
    np.testing.assert_array_equal(at(first["bias"], 1, 48), padded(layers[0].bias[None], 48))
    assert [first[name] for name in ("u", "v", "gate_bias", "rank")] == [0] * 4


@pytest.mark.parametrize(("way", "number"), [(GATED, table.GATED), (TWO_SIDED, table.TWO_SIDED)])
def test_gated_layers_lie_by_unit_beside_their_factors(way, number):
    layers = draw([20, 40, 3], rank=5, seed=0)
    made = Layout(layers)
    (row,) = records(made, 0, [way])
    gate = [part.numpy() for part in layers[0].gate]
    assert (row["way"], row["rank"], row["stride"], row["gate_stride"], row["block"]) == (
        number,
        5,
        32,
        48,
        128,
    )
    np.testing.assert_array_equal(at(row["rows"], 40, 32), padded(layers[0].weight, 32))
    np.testing.assert_array_equal(at(row["bias"], 1, 48), padded(layers[0].bias[None], 48))
    np.testing.assert_array_equal(at(row["u"], 20, 16), padded(gate[0], 16))
    np.testing.assert_array_equal(at(row["v"], 5, 48), padded(gate[1], 48))
    shifted = (layers[0].bias + gate[2])[None]
    np.testing.assert_array_equal(at(row["gate_bias"], 1, 48), padded(shifted, 48, -np.inf))
    np.testing.assert_array_equal(made.u(0), padded(gate[0], 16))


def test_each_gated_layer_has_its_own_factors():
    layers = draw([20, 40, 30, 3], rank=5, seed=0)
    made = Layout(layers)
    _, row = records(made, 0, [GATED, GATED])
    u, v, shift = (part.numpy() for part in layers[1].gate)
    np.testing.assert_array_equal(at(row["u"], 40, 16), padded(u, 16))
    np.testing.assert_array_equal(at(row["v"], 5, 32), padded(v, 32))
    np.testing.assert_array_equal(at(row["gate_bias"], 1, 32)[0, :30], layers[1].bias + shift)


def test_a_table_may_begin_at_any_layer():
    made = Layout(draw([20, 40, 30, 3], rank=5, seed=0))
    whole, part = (
        records(made, 0, [INPUT_SPARSE, GATED, INPUT_SPARSE]),
        records(made, 1, [GATED, INPUT_SPARSE]),
    )
    assert part.tolist() == whole[1:].tolist()  # the same addresses: made once


def test_a_layer_is_laid_out_once_for_each_way(monkeypatch):
    made = Layout(draw([20, 40, 3], rank=5, seed=0))
    ways = [GATED + INT8, INPUT_SPARSE + INT8]
    before = records(made, 0, ways)
    monkeypatch.setattr(Layout, "_quantised", None)
    np.testing.assert_array_equal(records(made, 0, ways), before)
    np.testing.assert_array_equal(records(made, 1, ways[1:]), before[1:])


def test_it_is_a_copy():
    layers = draw([20, 40, 3], rank=5, seed=0)
    made = Layout(layers)
    before = made.layers[0].weight.copy(), [part.clone() for part in made.layers[0].gate]
    layers[0].weight[:] = 7
    for part in layers[0].gate:
        part.fill_(7)
    assert np.array_equal(made.layers[0].weight, before[0])
    assert all(torch.equal(*parts) for parts in zip(made.layers[0].gate, before[1], strict=True))
    other = pickle.loads(pickle.dumps(made))
    assert np.array_equal(other.layers[0].weight, before[0])
    assert records(other, 0, [INPUT_SPARSE])[0]["rows"] != records(made, 0, [INPUT_SPARSE])[0]["rows"]


def test_its_bytes():
    made = Layout(draw([20, 40, 3], rank=5, seed=0))
    weights, gate = 40 * 32 + 48 + 3 * 48 + 16, 20 * 5 + 5 * 40 + 40
    assert made.bytes == 4 * (weights + gate)
    made.table(0, [INPUT_SPARSE, INPUT_SPARSE])
    assert made.bytes == 4 * (weights + gate + 20 * 48 + 40 * 16)
    made.table(0, [GATED])
    assert made.bytes == 4 * (weights + gate + 20 * 48 + 40 * 16 + 20 * 16 + 5 * 48 + 48)


def test_a_dense_layer_is_a_view():
    layers = draw([20, 40, 3], rank=5, seed=0)
    made = Layout(layers)
    for k in range(2):
        dense = made.dense(k)
        assert dense.transposed.shape == (layers[k].inputs, layers[k].units)
        assert np.array_equal(dense.transposed.numpy().T, layers[k].weight)
        assert np.array_equal(dense.bias.numpy(), layers[k].bias)
        assert dense.relu == layers[k].relu
        assert np.shares_memory(dense.transposed.numpy(), made.layers[k].weight)


def test_only_layers_with_an_estimator_have_factors():
    plain = Layer(np.ones((3, 2), np.float32), np.ones(3, np.float32), True)
    with pytest.raises(AssertionError, match=r"^only layers with an estimator run gated$"):
        Layout([plain]).u(0)
