"""The kernels of a training step against NumPy, on small whole numbers: their sums are exact in any order.

Training steps as a whole are compared with autograd in tests/training/test_skipping.py.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccsweep.kernels.lists import turn
from ccsweep.kernels.simd import LANES
from ccsweep.kernels.training import forward, update
from ccsweep.kernels.training.sharing import part, tiles
from tests.kernels.reference import kept

KEY, BATCH = np.uint64(0x1234_5678_9ABC_DEF0), 7
FIRST, LAST = 1, 6  # the samples that a kernel is asked for
NUMBERS = np.arange(1000, dtype=np.int32)
ONE = np.float32(1)
HALF = np.uint32(2**31 - 1), np.float32(2)  # dropout of a half: values times 2
Lists = tuple[np.ndarray, np.ndarray, np.ndarray]


def whole(*shape: int, seed: int = 0, density: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.integers(-2, 3, shape).astype(np.float32)
    return np.where(generator.random(shape) < density, values, 0)


def padded(values: np.ndarray) -> np.ndarray:
    made = np.zeros((len(values), -(-values.shape[1] // LANES) * LANES), np.float32)
    made[:, : values.shape[1]] = values
    return made


def lists_of(x: np.ndarray) -> Lists:
    shape = len(x), x.shape[1] + 2 * LANES
    made = np.full(shape, -1, np.int32), np.full(shape, -1, np.float32), np.full(len(x), -1)
    for s, row in enumerate(x):
        listed = np.flatnonzero(row)
        made[0][s, : len(listed)], made[1][s, : len(listed)], made[2][s] = listed, row[listed], len(listed)
    return made


def rows_of(lists: Lists, width: int) -> np.ndarray:
    """Back again; indices must ascend."""
    x = np.zeros((len(lists[0]), width), np.float32)
    for row, index, value, count in zip(x, *lists, strict=True):
        assert (np.diff(index[:count]) > 0).all()
        assert (value[:count] != 0).all()
        row[index[: max(count, 0)]] = value[: max(count, 0)]
    return x


def part_of(x: np.ndarray) -> np.ndarray:
    """What is not asked for stays empty."""
    return np.where((np.arange(len(x)) >= FIRST)[:, None] & (np.arange(len(x)) < LAST)[:, None], x, 0)


@pytest.mark.parametrize("inputs", [1, 16, 50])
def test_inputs_are_taken(inputs):
    x, lists, losses = whole(BATCH, inputs), lists_of(np.zeros((BATCH, inputs))), np.full(BATCH, 9.0)
    forward.take(x, NUMBERS, (KEY, 0, *HALF), lists, losses, FIRST, LAST)
    mask = kept(int(KEY), 0, BATCH, inputs, 0.5)
    np.testing.assert_array_equal(rows_of(lists, inputs), part_of(2 * x * mask))
    assert losses.tolist() == [9, *[0] * 5, 9]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_makes_the_loss_nan(bad):
    x, lists, losses = whole(BATCH, 50), lists_of(np.zeros((BATCH, 50))), np.zeros(BATCH)
    x[3, 49] = bad
    forward.take(x, NUMBERS, (KEY, 0, np.uint32(2**32 - 1), ONE), lists, losses, 0, BATCH)
    assert np.isnan(losses).tolist() == [s == 3 for s in range(BATCH)]


NO_GATE = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, np.float32)


@pytest.mark.parametrize(
    ("rank", "by_unit"), [(None, False), *[(r, way) for r in (0, 3, 20) for way in (False, True)]]
)
@pytest.mark.parametrize(
    ("inputs", "units", "low", "high"),
    [
        (1, 1, 0, 16),
        (16, 16, 0, 16),
        (50, 17, 0, 32),
        (50, 17, 16, 32),
        (40, 300, 0, 304),
        (40, 300, 160, 288),
    ],
)
def test_forward(inputs, units, low, high, rank, by_unit):
    x, weight, bias = whole(BATCH, inputs, density=0.5), whole(inputs, units, seed=1), whole(1, units, seed=2)
    new, dropout = lists_of(np.zeros((BATCH, units))), (KEY, 2, *HALF)
    out = np.maximum(x @ weight + bias, 0) * kept(int(KEY), 2, BATCH, units, 0.5) * 2
    gate = NO_GATE
    if rank is not None:
        u, v, shift = whole(inputs, rank, seed=3), whole(rank, units, seed=4), whole(1, units, seed=5)
        out *= x @ u @ v + bias + shift > 0
        u = padded(u) if rank else np.zeros((inputs, LANES), np.float32)
        by_column = padded(v.T) if rank else np.zeros((units, LANES), np.float32)
        gate = u, padded(v) if by_unit else by_column, padded(shift)[0]
    columns, samples = (low, high), (0, BATCH) if by_unit else (FIRST, LAST)
    if by_unit:
        rows, weights = padded(x), padded(weight.T)
        starts = np.empty(400, np.int64)
        room = np.empty(BATCH * 320, np.int32), np.empty(BATCH * 320, np.float32)
        given = rows, weights, padded(bias)[0], gate, dropout, new, starts, room
        forward.forward_by_unit(lists_of(x), NUMBERS, *given, *columns, *samples)
    else:
        weights = np.ascontiguousarray(padded(weight)[:, low:high]), padded(bias)[0], units, 128
        forward.forward(lists_of(x), NUMBERS, *weights, gate, dropout, new, *columns, *samples)
        out = part_of(out)
    out[:, :low], out[:, high:] = 0, 0
    np.testing.assert_array_equal(rows_of(new, units), out)


@pytest.mark.parametrize("shares", [1, 3])
def test_lists_that_shares_made_are_joined(shares):
    x = whole(BATCH, 50, density=0.4)
    owner = np.arange(50) * shares // 50
    made = [lists_of(np.where(owner == k, x, 0)) for k in range(shares)]
    new = lists_of(np.zeros((BATCH, 50)))
    forward.merge(tuple(map(np.stack, zip(*made, strict=True))), new, FIRST, LAST)
    np.testing.assert_array_equal(rows_of(new, 50), part_of(x))


def test_a_level_is_closed():
    x, losses, delta = whole(BATCH, 50), np.full(BATCH, 9.0), np.full((BATCH, 64), 5, np.float32)
    forward.close(lists_of(x), np.float32(0.5), losses, delta, FIRST, LAST)
    np.testing.assert_array_equal(losses, 9 + part_of(0.5 * x).sum(1))
    assert [set(row.tolist()) for row in delta] == [{5}, *[{0}] * 5, {5}]


def test_lists_are_written_out_as_rows():
    x, rows = whole(BATCH, 50, density=0.4), np.full((BATCH, 64), 8, np.float32)
    forward.spread(lists_of(x), rows, FIRST, LAST)
    expected = np.full((BATCH, 64), 8, np.float32)
    expected[FIRST:LAST] = padded(x)[FIRST:LAST]
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("gated", [False, True])
def test_nan_goes_on(gated):
    """And what fills up the vectors, where it gets to as well, does not."""
    x, weight, bias = (
        np.ones((BATCH, 20), np.float32),
        np.zeros((20, 17), np.float32),
        np.zeros((1, 17), np.float32),
    )
    weight[3, 16] = np.nan
    if not gated:
        x[2, 5] = np.nan
    new, dropout = lists_of(np.zeros((BATCH, 17))), (KEY, 1, np.uint32(2**32 - 1), ONE)
    if gated:
        gate = (
            np.zeros((20, LANES), np.float32),
            np.zeros((0, 32), np.float32),
            np.full(32, np.inf, np.float32),
        )
        room = np.empty(18, np.int64), (np.empty(BATCH * 17, np.int32), np.empty(BATCH * 17, np.float32))
        given = padded(x), padded(weight.T), padded(bias)[0], gate, dropout, new, *room
        forward.forward_by_unit(lists_of(x), NUMBERS, *given, 0, 32, 0, BATCH)
    else:
        given = padded(weight), padded(bias)[0], 17, 128, NO_GATE, dropout, new
        forward.forward(lists_of(x), NUMBERS, *given, 0, 32, 0, BATCH)
    expected = [[16]] * BATCH if gated else [[16], [16], list(range(17)), *[[16]] * 4]
    assert [index[:c].tolist() for index, c in zip(new[0], new[2], strict=True)] == expected
    losses = np.zeros(BATCH)
    forward.close(new, ONE, losses, np.zeros((BATCH, 32), np.float32), 0, BATCH)
    assert np.isnan(losses).all()


@pytest.mark.parametrize("classes", [1, 10, 17])
def test_the_loss_and_its_gradient(classes):
    x, weight, bias = whole(BATCH, 20, density=0.5), whole(20, classes, seed=1), whole(1, classes, seed=2)
    labels, losses = np.arange(BATCH) % classes, np.full(BATCH, 3.0)
    wrong, delta = np.zeros(BATCH, bool), padded(np.full((BATCH, classes), 5, np.float32))
    share = np.float32(0.25)
    rest = labels, share, delta, losses, wrong, FIRST, LAST
    forward.finish(lists_of(x), padded(weight), padded(bias)[0], classes, *rest)
    z = (x @ weight + bias).astype(np.float64)
    softmax = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    done = slice(FIRST, LAST)
    np.testing.assert_allclose(losses[done], 3 - np.log(softmax)[range(BATCH), labels][done], rtol=1e-6)
    expected = (softmax - np.eye(classes)[labels]) * share
    np.testing.assert_allclose(delta[done, :classes], expected[done], rtol=2e-5, atol=1e-12)
    assert (delta[done, classes:] == 0).all()
    assert wrong[done].tolist() == (z.argmax(1) != labels)[done].tolist()
    assert losses[[0, -1]].tolist() == [3, 3]
    assert (delta[[0, -1], :classes] == 5).all()


def test_a_sure_answer_keeps_its_digits():
    x, weight = np.ones((1, 1), np.float32), padded(np.array([[20, 0]], np.float32))
    delta = np.zeros((1, LANES), np.float32)
    rest = np.zeros(1, np.int64), ONE, delta, np.zeros(1), np.zeros(1, bool), 0, 1
    forward.finish(lists_of(x), weight, np.zeros(LANES, np.float32), 2, *rest)
    np.testing.assert_allclose(delta[0, :2], [-np.exp(-20.0), np.exp(-20.0)], rtol=1e-6)


class Stepped:
    """What a step should come to; powers of two for the rates, so that it is exact."""

    descent = np.float32(0.5), np.float32(0.25), np.float32(0.125)
    penalty, scale = np.float32(4), np.float32(2)

    def __init__(self, inputs: int, units: int) -> None:
        self.x, self.weight = whole(BATCH, inputs, density=0.4), whole(units, inputs, seed=1)
        self.delta = whole(BATCH, units, seed=2, density=0.5)
        self.momentum, self.bias, self.bias_momentum = (
            whole(*shape, seed=k) for k, shape in enumerate([(units, inputs), (1, units), (1, units)], 3)
        )
        rate, momentum, l2 = self.descent
        self.momentum_after = momentum * self.momentum + self.delta.T @ self.x + l2 * self.weight
        self.weight_after = self.weight - rate * self.momentum_after
        self.bias_momentum_after = momentum * self.bias_momentum + self.delta.sum(0, keepdims=True)
        self.bias_after = self.bias - rate * self.bias_momentum_after
        self.below = np.where(self.x != 0, (self.delta @ self.weight + self.penalty) * self.scale, 0)

    def room(self) -> tuple[np.ndarray, Any]:
        most = BATCH * max(self.weight.shape)
        starts = np.empty(max(self.weight.shape) + 1, np.int64)
        return starts, (np.empty(most, np.int32), np.empty(most, np.float32))

    def state(self, by_unit: bool) -> tuple[Any, Any]:
        turned = (self.weight, self.momentum) if by_unit else (self.weight.T, self.momentum.T)
        rows, momenta = map(padded, turned)
        return (rows, momenta), (padded(self.bias)[0], padded(self.bias_momentum)[0])

    def limit(self, max_norm: float) -> None:
        norms = np.sqrt(np.square(self.weight_after.astype(np.float64)).sum(1, keepdims=True))
        assert max_norm == np.inf or self.weight.size == 1 or (norms > max_norm).any()
        scales = np.where(norms > max_norm, max_norm / np.maximum(norms, 1), 1)
        self.weight_after = self.weight_after * scales.astype(np.float32)

    def assert_stepped(self, state: tuple[Any, Any], by_unit: bool) -> None:
        (rows, momenta), (bias, bias_momenta) = state
        for found, expected in ((rows, self.weight_after), (momenta, self.momentum_after)):
            np.testing.assert_allclose(found, padded(expected if by_unit else expected.T), rtol=4e-7)
        np.testing.assert_array_equal(bias, padded(self.bias_after)[0])
        np.testing.assert_array_equal(bias_momenta, padded(self.bias_momentum_after)[0])


SHAPES = pytest.mark.parametrize(("inputs", "units"), [(1, 1), (16, 16), (50, 17), (40, 300)])
PARTS = pytest.mark.parametrize("parts", [1, 3])
LIMITS = pytest.mark.parametrize("max_norm", [np.inf, 4.0])


def columns_of(units: int, parts: int) -> list[tuple[int, int, int, int]]:
    """Of each part the tiles, from the first to the last, and the columns."""
    edges = tiles(padded(np.zeros((1, units))).shape[1])
    return [(f, g, edges[f], edges[g]) for f, g in (part(edges, p, parts) for p in range(parts)) if g > f]


def in_parts(state: Any, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of weights and momenta, as matrices of their own."""
    return tuple(np.ascontiguousarray(rows[:, low:high]) for rows in state)


@SHAPES
@PARTS
@LIMITS
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("block", [128, 512])
def test_a_step_by_input(inputs, units, parts, wanted, block, max_norm):
    case = Stepped(inputs, units)
    case.limit(max_norm)
    (state, biases), (starts, room) = case.state(by_unit=False), case.room()
    edges = tiles(state[0].shape[1])
    turn(lists_of(case.x), 0, BATCH, starts[: inputs + 1], *room, 0, inputs)
    turned = starts[: inputs + 1], *room
    dots = np.full((len(edges) - 1) * starts[inputs] if wanted else 0, 9, np.float32)
    rest = turned, case.descent, np.float32(max_norm), dots, block, edges
    for f, g, low, high in columns_of(units, parts):
        weights = in_parts(state, low, high)
        update.by_input(padded(case.delta), BATCH, weights, biases, *rest, f, g)
        for whole_rows, rows in zip(state, weights, strict=True):
            whole_rows[:, low:high] = rows
    case.assert_stepped((state, biases), by_unit=False)
    if wanted:
        below = np.zeros((BATCH, inputs), np.float32)
        for low, high in ((0, inputs // 2), (inputs // 2, inputs)):
            update.pass_down(turned, dots, len(edges) - 1, below, case.penalty, case.scale, low, high)
        np.testing.assert_array_equal(below, case.below)


@SHAPES
@PARTS
@LIMITS
def test_a_step_across(inputs, units, parts, max_norm):
    case = Stepped(inputs, units)
    case.limit(max_norm)
    (state, biases), room = case.state(by_unit=False), case.room()
    given = lists_of(case.delta), padded(case.delta), BATCH, padded(case.x)
    for _, _, low, high in columns_of(units, parts):
        weights = in_parts(state, low, high)
        rest = units, biases, case.descent, np.float32(max_norm), *room, low, high
        update.across(*given, weights, *rest)
        for whole_rows, rows in zip(state, weights, strict=True):
            whole_rows[:, low:high] = rows
    case.assert_stepped((state, biases), by_unit=False)


@SHAPES
@PARTS
@LIMITS
def test_a_step_by_unit(inputs, units, parts, max_norm):
    case = Stepped(inputs, units)
    case.limit(max_norm)
    (state, biases), room = case.state(by_unit=True), case.room()
    given = lists_of(case.delta), padded(case.delta), BATCH, padded(case.x), state, biases, case.descent
    for _, _, low, high in columns_of(units, parts):
        update.by_unit(*given, np.float32(max_norm), *room, low, high)
    case.assert_stepped((state, biases), by_unit=True)


@SHAPES
@pytest.mark.parametrize("block", [128, 16])
def test_gradients_by_sample(inputs, units, block):
    case = Stepped(inputs, units)
    below = padded(np.full((BATCH, inputs), 9, np.float32))
    given = lists_of(case.delta), padded(case.delta), padded(case.weight), lists_of(case.x), below
    update.gradients_by_sample(*given, case.penalty, case.scale, block, FIRST, LAST)
    expected = padded(np.full((BATCH, inputs), 9, np.float32))
    expected[FIRST:LAST] = padded(case.below)[FIRST:LAST]
    np.testing.assert_array_equal(below, expected)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (50, 17), (40, 300)])
def test_an_examination(inputs, units, gated):
    x, weight, bias = whole(BATCH, inputs, density=0.5), whole(inputs, units, seed=1), whole(1, units, seed=2)
    u, v, shift = whole(inputs, 3, seed=3), whole(3, units, seed=4), whole(1, units, seed=5)
    nothing = np.zeros((0, 0), np.float32)
    gate = (padded(u), padded(v), padded(shift)[0]) if gated else (nothing, nothing, nothing[:, 0:0].ravel())
    new, counts = lists_of(np.zeros((BATCH, units))), np.full((BATCH, 3), 4)
    weights = padded(weight), padded(bias)[0], gate, units, 128
    forward.examine(lists_of(x), NUMBERS, *weights, new, counts, FIRST, LAST)
    z = x @ weight + bias
    on = x @ u @ v + bias + shift > 0 if gated else np.ones_like(z, bool)
    np.testing.assert_array_equal(rows_of(new, units), part_of(np.maximum(z, 0) * on))
    expected = np.stack([on.sum(1), (z > 0).sum(1), ((z > 0) & ~on).sum(1)], 1)
    assert counts[FIRST:LAST].tolist() == expected[FIRST:LAST].tolist()
    assert (counts[[0, -1]] == 4).all()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="this is an x86-64 CPU")
def test_a_cpu_without_the_instructions():
    """The tests above, compiled for one that has none of them."""
    program = (
        "import sys, pytest; from ccsweep.kernels import simd\n"
        "assert (simd.FUSES, simd.COMPRESSES) == (False, False)\n"
        "sys.exit(pytest.main(['-q', '-n', '0', '-k', 'not a_cpu_without', sys.argv[1]]))"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, __file__],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
