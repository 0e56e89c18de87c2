"""Layers that torch runs in bfloat16, or ONNX Runtime, beside layers of the engine's own."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch

from ccsweep.engine.compiled import Compiled, Library, Skipping
from ccsweep.engine.layers import chain
from ccsweep.engine.layout import Layout
from ccsweep.engine.peers import UnavailableError
from ccsweep.engine.ways import BFLOAT16, LIBRARIES, MASKED, ONNX, ONNX_INT8, in_int8, kind, library, runs
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE
from tests.engine.conftest import draw

pytest.importorskip("onnxruntime")

WAYS = [
    (MASKED + BFLOAT16, DENSE + BFLOAT16, DENSE),
    (GATED, DENSE + BFLOAT16, INPUT_SPARSE),
    (MASKED + ONNX, MASKED + ONNX, DENSE + ONNX),
    (DENSE + ONNX, INPUT_SPARSE, DENSE),
    (DENSE + ONNX_INT8, DENSE + ONNX_INT8, DENSE + ONNX_INT8),
    (MASKED + ONNX_INT8, INPUT_SPARSE, DENSE + ONNX),
    ("gated int8", DENSE + ONNX_INT8, DENSE + BFLOAT16),
]


@pytest.fixture
def layers():
    return draw([20, 30, 24, 4], rank=3, seed=3)


@pytest.fixture
def calibration():
    return torch.randint(-2, 3, (300, 20), generator=torch.Generator().manual_seed(0)).float()


def test_names():
    assert [(kind(DENSE + name), library(MASKED + name)) for name in LIBRARIES] == [
        (DENSE, name) for name in LIBRARIES
    ]
    assert not any(in_int8(DENSE + name) for name in LIBRARIES)
    assert library("dense int8") == library(DENSE) == ""
    assert runs(["gated int8", INPUT_SPARSE, DENSE, DENSE, DENSE + ONNX, DENSE + ONNX_INT8]) == [
        (0, ("gated int8", INPUT_SPARSE)),
        (2, (DENSE, DENSE)),
        (4, (DENSE + ONNX,)),
        (5, (DENSE + ONNX_INT8,)),
    ]
    assert runs([MASKED + ONNX, DENSE + ONNX]) == [(0, (MASKED + ONNX, DENSE + ONNX))]


def expected(layers, ways, x):
    gates = [kind(way) in (GATED, MASKED) for way in ways]
    kept = [layer if gate else layer._replace(gate=None) for layer, gate in zip(layers, gates, strict=True)]
    return chain(kept, x.numpy())[-1]


@pytest.mark.parametrize("ways", WAYS)
def test_each_library_gives_the_layers_but_for_its_rounding(layers, calibration, ways):
    compiled = Compiled(Layout(layers, calibration), ways)
    found, exact = compiled(calibration).numpy(), expected(layers, ways, calibration)
    coarse = any(library(way) in (BFLOAT16, ONNX_INT8) or in_int8(way) for way in ways)
    errors = np.abs(found - exact).max(1) / np.abs(exact).max()
    # Rounding turns some gates round whose score is next to 0.
    assert np.median(errors) < 0.05 if coarse else errors.max() < 1e-6
    out = np.empty_like(exact)
    np.testing.assert_array_equal(compiled.run(calibration.numpy(), out), found)


def test_layers_of_one_library_are_one_call(layers, calibration):
    compiled = Compiled(Layout(layers, calibration), (INPUT_SPARSE, DENSE + ONNX, DENSE + ONNX))
    assert [type(stage) for stage in compiled._stages] == [Skipping, Library]


def test_a_sample_of_int8_hangs_on_no_other(layers, calibration):
    compiled = Compiled(Layout(layers, calibration), WAYS[4])
    alone = torch.cat([compiled(calibration[k : k + 1]) for k in range(40)])
    assert torch.equal(alone, compiled(torch.cat([calibration[:40], 100 * calibration[:9]]))[:40])


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_give_what_dense_gives(layers, calibration, ways, bad):
    layout = Layout(layers, calibration)
    compiled, dense = Compiled(layout, ways), Compiled(layout, (DENSE,) * 3)
    x = calibration[:9].clone()
    good = compiled(x)
    x[4, 7] = bad
    torch.testing.assert_close(compiled(x)[4], dense(x)[4], equal_nan=True)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    torch.testing.assert_close(compiled(x)[others], good[others])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
@pytest.mark.parametrize("ways", WAYS)
def test_copies_need_no_calibration(layers, calibration, ways, copied):
    compiled = Compiled(Layout(layers, calibration), ways)
    expected = compiled(calibration)
    assert torch.equal(copied(compiled)(calibration), expected)


def test_a_layout_for_some_ways_keeps_what_they_need(layers, calibration):
    layout = Layout(layers, calibration)
    others = Compiled(layout, WAYS[3])
    compiled = Compiled(layout, WAYS[5])
    kept = layout.only(WAYS[5])
    assert [layer.gate is not None for layer in kept.layers] == [True, False, False]
    assert torch.equal(Compiled(kept, WAYS[5])(calibration), compiled(calibration))
    models = [layout.onnx(0, WAYS[5][:1]), layout.onnx(2, WAYS[5][2:])]
    assert kept.bytes < layout.bytes
    held = Compiled(kept, WAYS[5])
    assert held.bytes == kept.bytes + sum(map(len, models))  # as a session holds them, too
    assert others.bytes > layout.bytes


def test_memory_in_bfloat16(layers):
    compiled = Compiled(Layout(layers), (DENSE + BFLOAT16, INPUT_SPARSE, DENSE + BFLOAT16))
    assert compiled.bytes - compiled.layout.bytes == 2 * (21 * 30 + 25 * 4)


def test_what_is_not_installed_is_named(layers, calibration, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"^not installed: pip install onnxruntime onnx$"):
        Compiled(Layout(layers, calibration), (DENSE + ONNX,) * 3)
