"""Every way, any shape, any thread count gives what the layers give when every product is computed."""

import copy
import itertools
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.engine.compiled import Compiled
from ccsweep.engine.layers import Layer, layers_of
from ccsweep.engine.layout import Layout
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED, WAYS
from tests.engine.conftest import draw

SIZES = st.sampled_from([1, 2, 15, 16, 17, 33, 130, 300])


def reference(layers: list[Layer], ways: tuple[str, ...], x: np.ndarray) -> np.ndarray:
    """Every product computed in float64, then the gates of those layers whose way has one."""
    x = x.astype(np.float64)
    for layer, way in zip(layers, ways, strict=True):
        out = x @ layer.weight.T + layer.bias
        if layer.relu:
            out = np.maximum(out, 0)
        if way in (GATED, TWO_SIDED):
            u, v, shift = (part.double().numpy() for part in layer.gate)
            out = np.where(x @ u @ v + layer.bias + shift > 0, out, 0)
        x = out
    return x


def inputs(batch: int, features: int, density: float, seed: int) -> np.ndarray:
    """Small whole numbers, this share of them not 0; as the weights are too, sums and gates are exact."""
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array([-2, -1, 1, 2], np.float32), (batch, features))
    return np.where(generator.random((batch, features)) < density, x, np.float32(0))


def assert_same(found: torch.Tensor, expected: np.ndarray) -> None:
    scale = np.abs(expected).max(initial=1e-3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4 * scale)


@settings(max_examples=120)
@given(
    sizes=st.lists(SIZES, min_size=2, max_size=4),
    rank=st.sampled_from([0, 1, 5, 16, 20]),
    batch=st.sampled_from([0, 1, 2, 16, 65, 130]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 9999),
    data=st.data(),
)
def test_every_way_gives_the_reference(sizes, rank, batch, density, threads, seed, data):
    layers = draw(sizes, rank, seed)
    ways = tuple(data.draw(st.sampled_from(WAYS if layer.gate else WAYS[:2])) for layer in layers)
    x = inputs(batch, sizes[0], density, seed)
    found = Compiled(Layout(layers), ways, threads)(torch.from_numpy(x))
    assert found.shape == (batch, sizes[-1])
    assert_same(found, reference(layers, ways, x))


@pytest.mark.parametrize("shift", [-np.inf, np.inf])
@pytest.mark.parametrize("way", [GATED, TWO_SIDED])
def test_gates_that_are_always_open_or_shut(way, shift):
    layers = draw([50, 40, 3], rank=4, seed=0)
    always = layers[0]._replace(gate=layers[0].gate._replace(shift=torch.full((40,), shift)))
    x = inputs(20, 50, 0.5, 0)
    found = Compiled(Layout([always, layers[1]]), (way, INPUT_SPARSE))(torch.from_numpy(x))
    hidden = layers[0](x, gated=False) * (shift > 0)
    assert_same(found, layers[1](hidden))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS, WAYS[:2])))
def test_rows_that_are_not_finite_give_what_dense_gives(ways, threads, bad):
    layers = draw([37, 50, 40, 3], rank=4, seed=1)
    x = inputs(40, 37, 0.5, 1)
    clean = Compiled(Layout(layers), ways, threads)(torch.from_numpy(x))
    x[[3, 39], [5, 36]] = bad
    found = Compiled(Layout(layers), ways, threads)(torch.from_numpy(x))
    dense = Compiled(Layout(layers), (DENSE,) * 3)(torch.from_numpy(x))
    rows = [3, 39]
    torch.testing.assert_close(found[rows], dense[rows], equal_nan=True, rtol=1e-4, atol=1e-4)
    others = [row for row in range(40) if row not in rows]
    torch.testing.assert_close(found[others], clean[others], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [INPUT_SPARSE, TWO_SIDED])
def test_layers_in_blocks(way, monkeypatch):
    monkeypatch.setattr("ccsweep.engine.layout.BLOCK_BYTES", 4096)
    layers = draw([300, 700, 5], rank=8, seed=2)
    x = inputs(70, 300, 0.2, 2)
    found = Compiled(Layout(layers), (way, INPUT_SPARSE))(torch.from_numpy(x))
    assert_same(found, reference(layers, (way, INPUT_SPARSE), x))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.double(),
        lambda x: x.bfloat16(),
        lambda x: x.T.contiguous().T,
        lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
        lambda x: x.clone().requires_grad_(),
    ],
)
def test_other_types_and_strides_are_converted(change):
    layers = draw([20, 30, 4], rank=3, seed=3)
    compiled = Compiled(Layout(layers), (TWO_SIDED, INPUT_SPARSE))
    x = torch.from_numpy(inputs(9, 20, 1.0, 3))
    found = compiled(change(x))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, compiled(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 21), "the engine got (3, 21): expected a tensor of shape (batch, 20)"),
        (torch.zeros(20), "the engine got (20,): expected a tensor of shape (batch, 20)"),
        (np.zeros((1, 20)), "the engine got ndarray: expected a tensor of shape (batch, 20)"),
        (
            torch.zeros(3, 20, dtype=torch.int64),
            "the engine got torch.int64: expected floating point, use x.float()",
        ),
        (
            torch.zeros(3, 20, device="meta"),
            "the engine got a tensor on meta: it runs on the CPU, use x.cpu()",
        ),
    ],
)
def test_what_is_refused(x, message):
    compiled = Compiled(Layout(draw([20, 30, 4], rank=3, seed=3)), (TWO_SIDED, INPUT_SPARSE))
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        compiled(x)


def test_compiled_networks_do_not_follow_training(network):
    compiled = Compiled(Layout(layers_of(network)), (GATED, TWO_SIDED, INPUT_SPARSE))
    x = torch.randn(5, 40)
    before = compiled(x)
    weight = network.hidden[0].weight.detach()
    kept = weight.clone()
    weight.zero_()
    torch.testing.assert_close(compiled(x), before, rtol=0, atol=0)
    weight.copy_(kept)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_stand_alone(copied):
    compiled = Compiled(Layout(draw([60, 200, 30, 5], 8, seed=5)), (GATED, DENSE, INPUT_SPARSE), threads=2)
    x = torch.from_numpy(inputs(33, 60, 0.3, 5))
    expected = compiled(x)
    other = copied(compiled)
    assert other.layout is not compiled.layout
    del compiled
    torch.testing.assert_close(other(x), expected, rtol=0, atol=0)


def test_many_callers_at_once():
    compiled = Compiled(Layout(draw([60, 200, 5], rank=8, seed=4)), (TWO_SIDED, INPUT_SPARSE), threads=2)
    batches = [torch.from_numpy(inputs(33, 60, 0.3, seed)) for seed in range(24)]
    expected = [compiled(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, same in zip(pool.map(compiled, batches), expected, strict=True):
            torch.testing.assert_close(found, same, rtol=0, atol=0)
