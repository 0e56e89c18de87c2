"""How sums become the outputs of a block of units, against NumPy."""

import numpy as np
import pytest

from ccsweep.kernels.dense import finisher
from ccsweep.kernels.tiles import SIDE
from tests.kernels.test_simd import called

FINISH = {masked: called(finisher(masked)) for masked in (False, True)}
SAMPLES, WIDE = 5, 40


def finished(masked: bool, relu: bool, **given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (samples, 40), of which 32 are written, and the largest so far (samples, 16)."""
    outputs, tops = np.full((SAMPLES, WIDE), 99, np.float32), np.full((SAMPLES, 16), 0.5, np.float32)
    names = ("sums", "offsets", "factors", "totals", "scales", "bias")
    gate = ("scores", "steps", "v_scales", "v_bias")
    FINISH[masked](
        *(SAMPLES - 1, *(given[name].ctypes.data for name in names), int(relu)),
        *(outputs.ctypes.data, 4 * WIDE, tops.ctypes.data, *(given[name].ctypes.data for name in gate)),
    )
    return outputs, tops


@pytest.fixture
def given():
    generator = np.random.default_rng(0)
    whole = {"sums": (SAMPLES, SIDE), "scores": (SAMPLES, SIDE), "totals": SIDE}
    real = {"factors": SAMPLES, "steps": SAMPLES, "scales": SIDE, "v_scales": SIDE}
    made = {name: generator.integers(-9, 10, shape).astype(np.int32) for name, shape in whole.items()}
    # Powers of two: products are exact, however they are fused.
    made |= {name: 2.0 ** generator.integers(-2, 3, shape).astype(np.float32) for name, shape in real.items()}
    made |= {name: generator.integers(-9, 10, SIDE).astype(np.float32) for name in ("bias", "v_bias")}
    return made | {"offsets": np.array([0, 128, 0, 128, 0])}


def expected(masked: bool, relu: bool, given: dict[str, np.ndarray]) -> np.ndarray:
    sums = given["sums"] - given["offsets"][:, None] * given["totals"]
    made = sums * (given["factors"][:, None] * given["scales"]) + given["bias"]
    score = given["scores"] * (given["steps"][:, None] * given["v_scales"]) + given["v_bias"]
    off = (made <= 0) & relu | (score <= 0) & masked
    return np.where(off, 0, made).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_sums_become_outputs(masked, relu, given):
    outputs, tops = finished(masked, relu, **given)
    made = expected(masked, relu, given)[:-1]
    np.testing.assert_array_equal(outputs[:-1, :SIDE], made)
    np.testing.assert_array_equal(outputs[:, SIDE:], 99)
    np.testing.assert_array_equal(outputs[-1], 99)
    largest = np.abs(made).reshape(SAMPLES - 1, -1, 16).max(1)
    np.testing.assert_array_equal(tops[:-1], np.maximum(largest, 0.5))
    assert (tops[-1] == 0.5).all()


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_not_known_to_be_negative_goes_on(masked, given):
    given["bias"][3], given["v_bias"][:] = np.nan, np.nan
    outputs, tops = finished(masked, True, **given)
    np.testing.assert_array_equal(outputs[:-1, 3], np.nan)
    np.testing.assert_array_equal(tops[:-1, 3], np.nan)
    np.testing.assert_array_equal(outputs[:-1, 4:SIDE], expected(False, True, given)[:-1, 4:])


def test_without_a_relu_negative_infinity_stays(given):
    given["bias"][3] = -np.inf
    assert (finished(False, False, **given)[0][:-1, 3] == -np.inf).all()
