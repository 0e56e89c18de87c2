"""The float32 kernels against NumPy."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.kernels import skipping
from ccsweep.kernels.memory import TILE
from ccsweep.kernels.simd import LANES
from ccsweep.kernels.table import GATED, INPUT_SPARSE, LAYER, TWO_SIDED

NUMBERS = np.arange(1000, dtype=np.int32)


class Layer(NamedTuple):
    """Small whole numbers, so that sums and gates are exact in any order."""

    way: int
    weight: np.ndarray
    bias: np.ndarray
    relu: bool
    u: np.ndarray
    v: np.ndarray
    shift: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Every product computed, then the gate, in float64."""
        x = x.astype(np.float64)
        out = x @ self.weight + self.bias
        if self.way != INPUT_SPARSE:
            out = np.where(x @ self.u @ self.v + self.bias + self.shift > 0, out, 0)
        return np.maximum(out, 0) if self.relu else out


def draw(sizes: list[int], ways: list[int], rank: int, last_relu: bool, seed: int) -> list[Layer]:
    generator = np.random.default_rng(seed)

    def whole(*shape: int) -> np.ndarray:
        return generator.integers(-2, 3, shape).astype(np.float32)

    layers = []
    for k, ((inputs, units), way) in enumerate(zip(pairwise(sizes), ways, strict=True)):
        relu = last_relu or k < len(ways) - 1
        factors = whole(inputs, rank), whole(rank, units), whole(units)
        layers.append(Layer(way, whole(inputs, units), whole(units), relu, *factors))
    return layers


def table(layers: list[Layer], block: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The kernels' table, and the arrays whose addresses are in it."""
    held = []

    def address(values: np.ndarray, filled_with: float = 0.0) -> int:
        padded = np.full((values.shape[0], -(-values.shape[1] // LANES) * LANES), filled_with, np.float32)
        padded[:, : values.shape[1]] = values
        held.append(padded)
        return padded.ctypes.data

    rows = np.zeros(len(layers), LAYER)
    for row, layer in zip(rows, layers, strict=True):
        row["way"], row["relu"], row["block"] = layer.way, layer.relu, block
        row["inputs"], row["units"] = layer.weight.shape
        row["rows"] = address(layer.weight if layer.way == INPUT_SPARSE else layer.weight.T)
        row["stride"] = held[-1].shape[1]
        row["bias"] = address(layer.bias[None])
        row["u"], row["v"], row["rank"] = address(layer.u), address(layer.v), layer.u.shape[1]
        row["gate_bias"] = address((layer.bias + layer.shift)[None], -np.inf)
        row["gate_stride"] = held[-1].shape[1]
    return rows.view(np.int64), held


def run(layers: list[Layer], x: np.ndarray, project: bool = False, **options: Any) -> tuple[np.ndarray, bool]:
    rows, held = table(layers, options.get("block", TILE))
    projected = np.zeros((0, 0), np.float32)
    if project and layers[0].way != INPUT_SPARSE:
        projected = x @ held[2]
    out = np.full((len(x), layers[-1].weight.shape[1]), 99, np.float32)
    finite = skipping.run(x, projected, NUMBERS, rows, options.get("together", skipping.SAMPLES), out)
    return out, finite


def inputs(batch: int, features: int, density: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array([-2, -1, 1, 2], np.float32), (batch, features))
    return np.where(generator.random(x.shape) < density, x, np.float32(0))


@settings(max_examples=150)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 15, 16, 17, 33, 64, 130, 300]), min_size=2, max_size=4),
    rank=st.sampled_from([0, 1, 5, 16, 20]),
    last_relu=st.booleans(),
    batch=st.sampled_from([0, 1, 2, 65]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    block=st.sampled_from([TILE, 3 * TILE]),
    together=st.sampled_from([1, 3, skipping.SAMPLES]),
    project=st.booleans(),
    seed=st.integers(0, 9999),
    data=st.data(),
)
def test_every_way_gives_the_reference(
    sizes, rank, last_relu, batch, density, block, together, project, seed, data
):
    hidden = data.draw(st.lists(st.sampled_from([INPUT_SPARSE, GATED, TWO_SIDED]), min_size=3, max_size=3))
    ways = hidden[: len(sizes) - 1]
    if not last_relu:
        ways[-1] = INPUT_SPARSE  # only units that end in a ReLU are gated
    layers = draw(sizes, ways, rank, last_relu, seed)
    x = inputs(batch, sizes[0], density, seed)
    out, finite = run(layers, x, project, block=block, together=together)
    assert finite
    for layer in layers:
        x = layer(x)
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("last_relu", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_on_without_gates(bad, last_relu):
    layers = draw([20, 33, 5], [INPUT_SPARSE] * 2, 0, last_relu, seed=1)
    x = inputs(4, 20, 0.5, seed=1)
    x[2, 3] = bad
    out, finite = run(layers, x)
    assert not finite
    with np.errstate(invalid="ignore"):  # inf - inf, inf * 0
        hidden = layers[0](x)
        expected = layers[1](hidden)
    np.testing.assert_array_equal(out[[0, 1, 3]], expected[[0, 1, 3]])
    # A zero of the hidden layer is left out, where dense would make inf * 0 of it: only NaN is asked for.
    np.testing.assert_array_equal(np.isfinite(out[2]), np.isfinite(expected[2]))


@pytest.mark.parametrize("way", [GATED, TWO_SIDED])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_said_and_stays_in_its_row(bad, way):
    layers = draw([20, 33, 5], [way, INPUT_SPARSE], 4, False, seed=1)
    x = inputs(4, 20, 0.5, seed=1)
    x[2, 3] = bad
    out, finite = run(layers, x)
    assert not finite
    others = x[[0, 1, 3]]
    np.testing.assert_array_equal(out[[0, 1, 3]], layers[1](layers[0](others)))


@pytest.mark.parametrize("shift", [-np.inf, np.inf])
@pytest.mark.parametrize("way", [GATED, TWO_SIDED])
def test_gates_that_are_always_open_or_shut(way, shift):
    layers = draw([50, 40], [way], 4, True, seed=0)
    layers[0].shift[:] = shift
    x = inputs(20, 50, 0.5, 0)
    expected = layers[0]._replace(way=INPUT_SPARSE)(x) if shift > 0 else np.zeros((20, 40))
    np.testing.assert_array_equal(run(layers, x)[0], expected)
