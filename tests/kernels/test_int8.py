"""The int8 kernels against NumPy: where every scale is 1, what comes out is the int32 sum, bit for bit."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ccsweep.engine.layers import Layer
from ccsweep.engine.layout import Layout
from ccsweep.estimator.factors import Factors
from ccsweep.kernels import skipping, tiles
from ccsweep.kernels.int8 import split
from tests.kernels.reference import quantised

NUMBERS = np.arange(2000, dtype=np.int32)
GATES = ("gated int8", "two-sided int8", "masked int8", "gated mixed", "two-sided mixed")
UNGATED = ("input-sparse int8", "dense int8")
SIZES = [1, 3, 15, 16, 17, 63, 64, 65, 130, 300]


def whole(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Whole numbers whose largest in each row is 127: as bytes they are themselves."""
    made = generator.integers(-127, 128, shape).astype(np.float32)
    if shape[1]:
        made[np.arange(shape[0]), generator.integers(0, shape[1], shape[0])] = 127
    return made


def draw(inputs: int, units: int, rank: int, relu: bool, generator: np.random.Generator) -> Layer:
    gate = None
    if relu:
        shift = generator.normal(0, 10, units).astype(np.float32)
        u, v = whole((rank, inputs), generator).T, whole((units, rank), generator).T
        gate = Factors(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (u, v, shift)))
    bias = generator.integers(-999, 1000, units).astype(np.float32)
    return Layer(whole((units, inputs), generator), bias, relu, gate)


def sample(inputs: int, kind: str, density: float, generator: np.random.Generator) -> np.ndarray:
    """Whole numbers that are their own bytes: the largest is 255, or 127 on each side."""
    most, least = (127, -127) if kind == "signed" else (255, 0)
    x = generator.integers(least, most + 1, inputs) * (generator.random(inputs) < density)
    if kind in ("one", "zero"):
        x[:] = 0
    if kind == "equal":
        x[:] = 255
    if kind in ("any", "one"):
        x[generator.integers(inputs)] = 255
    if kind == "signed":
        x[generator.integers(inputs)] = -127
    return x.astype(np.float32)


def expected(layer: Layer, way: str, x: np.ndarray) -> np.ndarray:
    """Of one sample: whole numbers, and a gate whose estimate may go through bytes as the kernels' does."""
    out = layer.weight.astype(np.int64) @ x.astype(np.int64) + layer.bias.astype(np.int64)
    if layer.relu:
        out = np.maximum(out, 0)
    if way in GATES:
        u, v, shift = (part.numpy() for part in layer.gate)
        t = (x.astype(np.int64) @ u.astype(np.int64)).astype(np.float64)
        if way.endswith("int8"):
            whole, step = quantised(t.astype(np.float32), 128)
            exact = t / (step or 1)
            assume((np.abs(exact - np.floor(exact) - 0.5) > 1e-4).all())  # a tie may go either way
            t = (whole - 128) * np.float64(step)
        scores = t @ v + (layer.bias + shift)
        # Nearer to zero, rounding may decide.
        assume((np.abs(scores) > 1e-2 + 1e-5 * (np.abs(t) @ np.abs(v))).all())
        out = np.where(scores > 0, out, 0)
    return out


def run(layers: list[Layer], ways: list[str], x: np.ndarray, **options: int) -> tuple[np.ndarray, bool]:
    layout = Layout(layers)
    out = np.full((len(x), layers[-1].units), 99, np.float32)
    nothing = np.zeros((0, 0), np.float32)
    together = options.get("together", skipping.SAMPLES)
    return out, skipping.run(x, nothing, NUMBERS, layout.table(0, ways), together, out)


class Before(NamedTuple):
    """What comes before the layer, and what it multiplies by: the layer gets lists, or rows."""

    way: str
    times: int


BEFORE = (None, Before("input-sparse", 1), Before("dense int8", 127))


@settings(max_examples=150)
@given(
    inputs=st.sampled_from(SIZES),
    units=st.sampled_from(SIZES),
    rank=st.sampled_from([0, 1, 4, 5, 35, 70]),
    kinds=st.lists(st.sampled_from(["any", "zero", "one", "equal", "signed"]), max_size=40),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    together=st.sampled_from([1, 3, skipping.SAMPLES]),
    relu=st.booleans(),
    before=st.sampled_from(BEFORE),
    seed=st.integers(0, 9999),
    data=st.data(),
)
def test_every_way_gives_the_reference(
    inputs, units, rank, kinds, density, together, relu, before, seed, data
):
    generator = np.random.default_rng(seed)
    way = data.draw(st.sampled_from(UNGATED + GATES if relu else UNGATED))
    layer = draw(inputs, units, rank, relu, generator)
    if before is not None:
        kinds = [kind.replace("signed", "any") for kind in kinds]
    x = np.array([sample(inputs, kind, density, generator) for kind in kinds], np.float32)
    x = x.reshape(len(kinds), inputs)
    layers, ways, times = [layer], [way], 1
    if before is not None:
        times = before.times
        identity = np.eye(inputs, dtype=np.float32) * times
        layers.insert(0, Layer(identity, np.zeros(inputs, np.float32), True))
        ways.insert(0, before.way)
        layers[1] = layer._replace(
            bias=layer.bias * (times == 1),  # a step that is not 1 may be off by its last bit
            gate=layer.gate and layer.gate._replace(shift=layer.gate.shift * times),
        )
        layer = layer._replace(bias=layers[1].bias)
    found, finite = run(layers, ways, x, together=together)
    assert finite
    for row, one in zip(found, x, strict=True):
        np.testing.assert_allclose(row / times, expected(layer, way, one), rtol=0 if times == 1 else 3e-7)


@pytest.mark.parametrize("way", UNGATED + GATES)
def test_a_scale_for_each_sample_and_each_unit(way):
    """Small samples stay apart from large ones in their batch; the error is that of half a step."""
    generator = np.random.default_rng(0)
    layer = draw(100, 70, 8, True, generator)
    layer = layer._replace(
        weight=layer.weight * generator.uniform(1e-3, 1e3, (70, 1)).astype(np.float32),
        bias=np.zeros(70, np.float32),
        gate=layer.gate._replace(shift=torch.full((70,), torch.inf)),
    )
    x = generator.normal(0, 1, (9, 100)).astype(np.float32)
    x *= 10.0 ** np.arange(-20, 16, 4)[:, None].astype(np.float32)
    found, _ = run([layer], [way], x)
    exact = np.maximum(x.astype(np.float64) @ layer.weight.T.astype(np.float64), 0)
    steps = np.abs(x).max(1)[:, None] / 127 * np.abs(layer.weight).max(1)
    assert (np.abs(found - exact) <= steps * 127 * 100**0.5).all()
    assert (np.abs(found - exact) <= 0.02 * np.abs(exact).max(0) + 1e-30).mean() > 0.1
    assert not np.array_equal(found, exact)


@pytest.mark.parametrize("way", UNGATED + GATES)
@pytest.mark.parametrize("tiny", [1e-31, 1e-38, 1e-45])
def test_what_is_too_small_for_a_scale_counts_as_zero(way, tiny):
    layer = draw(20, 10, 3, True, np.random.default_rng(0))
    layer = layer._replace(gate=layer.gate._replace(shift=torch.full((10,), torch.inf)))
    found, finite = run([layer], [way], np.full((3, 20), tiny, np.float32))
    assert finite
    np.testing.assert_array_equal(found, np.tile(np.maximum(layer.bias, 0), (3, 1)))


@pytest.mark.parametrize("way", UNGATED + GATES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_said_and_stays_in_its_row(way, bad):
    generator = np.random.default_rng(0)
    layer = draw(40, 30, 3, True, generator)
    x = generator.normal(0, 1, (40, 40)).astype(np.float32)
    clean, _ = run([layer], [way], x)
    x[[2, 39], [5, 17]] = bad
    found, finite = run([layer], [way], x)
    assert not finite
    others = [s for s in range(40) if s not in (2, 39)]
    np.testing.assert_array_equal(found[others], clean[others])


@pytest.mark.parametrize("way", UNGATED)
def test_what_overflows_on_the_way_comes_out_as_that(way):
    """As a sum of float32 would: no byte hides it."""
    huge = Layer(np.full((20, 20), 3e38, np.float32), np.zeros(20, np.float32), True)
    last = Layer(np.ones((3, 20), np.float32), np.zeros(3, np.float32), False)
    found, finite = run([huge, last], ["input-sparse", way], np.ones((2, 20), np.float32))
    assert finite  # the inputs were
    assert not np.isfinite(found).any()


def test_a_list_with_negatives_comes_apart():
    index, value = np.zeros(40, np.int32), np.zeros(40, np.float32)
    index[:7], value[:7] = [1, 3, 4, 6, 7, 8, 9], [1, -2, 3, -4, -5, -6, -7]
    assert split(index, value, 7) == (8, 12)
    assert index[:12].tolist() == [3, 6, 7, 8, 9, 0, 0, 0, 1, 4, 0, 0]
    assert value[:12].tolist() == [2, 4, 5, 6, 7, 0, 0, 0, 1, 3, 0, 0]
    assert split(index, value, 0) == (0, 0)


def test_without_tiles_a_dense_layer_gives_the_same(monkeypatch):
    if not tiles.allowed():
        pytest.skip("this CPU has no tiles, or the system refuses them")
    generator = np.random.default_rng(0)
    layers = [draw(100, 70, 40, True, generator), draw(70, 9, 1, False, generator)]
    x = generator.normal(0, 1, (37, 100)).astype(np.float32)
    for ways in (["dense int8", "dense int8"], ["masked int8", "dense int8"]):
        tiled = run(layers, ways, x)
        monkeypatch.setattr("ccsweep.engine.layout.allowed", lambda: False)
        plain = run(layers, ways, x)
        monkeypatch.undo()
        np.testing.assert_array_equal(tiled[0], plain[0])


@pytest.mark.parametrize("ways", [UNGATED, GATES[:3], GATES[3:]])
@pytest.mark.parametrize("signed", [False, True])
def test_what_a_way_leaves_out_changes_no_bit(ways, signed):
    """So a plan may take any of them: bytes are rounded alike, and their sums are exact."""
    generator = np.random.default_rng(1)
    layers = [draw(100, 70, 40, True, generator), draw(70, 9, 1, False, generator)]
    layers[0] = layers[0]._replace(weight=generator.normal(0, 1, (70, 100)).astype(np.float32))
    x = generator.normal(0, 1, (37, 100)).astype(np.float32)
    x[:, ::3] = 0
    x = x if signed else np.abs(x)
    x[5, ::3] = -0.0
    found = [run(layers, [way, last], x)[0] for way in ways for last in UNGATED]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_one_sample_gives_what_it_gives_in_a_batch():
    generator = np.random.default_rng(0)
    layers = [draw(100, 170, 40, True, generator), draw(170, 9, 1, False, generator)]
    x = generator.normal(0, 1, (37, 100)).astype(np.float32)
    for way in UNGATED + GATES:
        together, _ = run(layers, [way, "input-sparse int8"], x)
        for one, row in zip(x, together, strict=True):
            np.testing.assert_array_equal(run(layers, [way, "input-sparse int8"], one[None])[0][0], row)
