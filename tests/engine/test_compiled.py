"""Every way, any shape, any thread count gives what the layers give when every product is computed."""

import copy
import itertools
import multiprocessing
import pickle
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.engine.compiled import Compiled, Skipping, accepted, ready, run_dense, torch_threads, warm_up
from ccsweep.engine.layers import Layer, layers_of
from ccsweep.engine.layout import Dense, Layout
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED, WAYS
from ccsweep.estimator.factors import Factors
from ccsweep.kernels import skipping
from ccsweep.kernels.table import LAYER
from tests.engine.conftest import draw

IN_INT8 = [
    ("masked int8", "gated int8", "dense int8"),
    ("two-sided int8", "input-sparse int8", "input-sparse int8"),
    ("dense int8", TWO_SIDED, DENSE),
    (DENSE, "input-sparse int8", INPUT_SPARSE),
    (INPUT_SPARSE, "masked int8", INPUT_SPARSE),
    ("gated mixed", "two-sided mixed", "dense int8"),
]
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
@pytest.mark.parametrize("ways", [*itertools.product(WAYS, WAYS, WAYS[:2]), *IN_INT8])
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


@pytest.mark.parametrize("ways", IN_INT8)
@pytest.mark.parametrize("threads", [1, 2])
def test_int8_rounds_and_nothing_else(ways, threads):
    """Positive inputs, gates that are open or shut: half a step for each input and weight, and no more."""
    layers = draw([37, 50, 40, 3], rank=4, seed=1)
    always = torch.where(torch.arange(50) % 3 > 0, torch.inf, -torch.inf)
    layers = [
        layer._replace(gate=layer.gate and layer.gate._replace(shift=always[: layer.units]))
        for layer in layers
    ]
    x = np.abs(inputs(40, 37, 0.5, 1)) + np.float32(0.1)
    found = Compiled(Layout(layers), ways, threads)(torch.from_numpy(x)).numpy()
    kinds = tuple(way.split()[0].replace("masked", GATED) for way in ways)
    expected = reference(layers, kinds, x)
    error = np.abs(found - expected)
    assert error.max() < 0.02 * np.abs(expected).max()
    assert error.max() > 0


@pytest.mark.parametrize("way", [INPUT_SPARSE, TWO_SIDED, "input-sparse int8", "two-sided int8"])
def test_layers_in_blocks(way, monkeypatch):
    layers = draw([300, 700, 5], rank=8, seed=2)
    x = inputs(70, 300, 0.2, 2)
    whole = Compiled(Layout(layers), (way, INPUT_SPARSE))(torch.from_numpy(x))
    monkeypatch.setattr("ccsweep.kernels.memory.BLOCK_BYTES", 4096)
    found = Compiled(Layout(layers), (way, INPUT_SPARSE))(torch.from_numpy(x))
    assert torch.equal(found, whole)
    if not way.endswith("int8"):
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


def blind() -> list[Layer]:
    """2-2-1; whatever is large and positive shuts the gate of a layer, which then hides it."""
    gate = Factors(torch.full((2, 1), -1.0), torch.ones(1, 2), torch.full((2,), 5.0))
    weight, bias = np.array([[1, 1], [2, 1]], np.float32), np.zeros(2, np.float32)
    hidden = Layer(weight, bias, True, gate)
    return [hidden, hidden, Layer(np.ones((1, 2), np.float32), np.ones(1, np.float32), False)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS, WAYS[:2])))
def test_no_gate_hides_what_is_not_finite(ways, threads):
    """Infinity is scored as negative: were its row not taken out of the gated ones, 1 would come out."""
    compiled = Compiled(Layout(blind()), ways, threads)
    x = np.array([[1, 1], [np.inf, 1], [0, 1], [np.nan, 1], [9, 9]], np.float32)
    expected = reference(blind(), ways, x[[0, 2, 4]])
    found = compiled(torch.from_numpy(x))
    np.testing.assert_array_equal(found[[0, 2, 4]], expected)
    assert found[1].item() == torch.inf
    assert found[3].isnan().all()
    assert compiled(torch.from_numpy(x[1:2])).item() == torch.inf
    gated = {GATED, TWO_SIDED} & set(ways[:2])
    assert (expected[2] == reference(blind(), (DENSE,) * 3, x[[4]])[0]).all() == (not gated)


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS, WAYS[:2])))
def test_a_row_is_computed_dense_even_where_infinity_ends_in_the_first_layer(ways):
    first, _, last = blind()
    shut = first._replace(
        bias=np.full(2, 2, np.float32), gate=first.gate._replace(shift=torch.full((2,), -9.0))
    )
    found = Compiled(Layout([first, shut, last]), ways)(torch.tensor([[-torch.inf, 1.0], [0.0, 0.0]]))
    gated = ways[1] in (GATED, TWO_SIDED)
    assert found.flatten().tolist() == [5, 1 if gated else 5]


class Kernel:
    """Notes what the kernel is called with, and fills in how many samples came together."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.threads: set[int] = set()

    def run(self, x, projected, numbers, table, together, out):
        self.calls.append((x, projected, numbers, table, together))
        self.threads.add(threading.get_ident())
        out[:] = len(x)
        return len(self.calls) != 2


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr("ccsweep.engine.compiled.skipping.run", kernel.run)
    return kernel


def test_what_the_kernel_gets(kernel):
    layers = draw([20, 300, 4], rank=3, seed=0)
    stage = Skipping(Layout(layers), 0, [GATED, INPUT_SPARSE], together=7)
    x = torch.from_numpy(inputs(16, 20, 1.0, 0))
    for batch, known in ((1, False), (2, False), (15, False), (16, True)):
        out, _ = stage(x[:batch])
        assert out.shape == (batch, 4)
        assert (out == batch).all()
        given, projected, numbers, table, together = kernel.calls[-1]
        assert np.array_equal(given, x[:batch].numpy())
        assert together == 7
        assert len(table.view(LAYER)) == 2
        # As many numbers as the widest layer has units in whole tiles, and a list goes on.
        assert np.array_equal(numbers, np.arange(300 + 256, dtype=np.int32))
        assert numbers.dtype == np.int32
        if known:
            u = layers[0].gate.u.numpy()
            np.testing.assert_array_equal(projected, np.pad(x[:batch].numpy() @ u, [(0, 0), (0, 13)]))
        else:
            assert projected.shape == (0, 0)


@pytest.mark.parametrize("way", [TWO_SIDED, INPUT_SPARSE])
def test_few_inputs_are_projected_by_the_kernel(kernel, way):
    Skipping(Layout(draw([20, 30, 4], rank=3, seed=0)), 0, [way])(torch.ones(64, 20))
    ((_, projected, _, _, together),) = kernel.calls
    assert kernel.threads == {threading.get_ident()}  # handing it to another would cost more
    assert projected.shape == (0, 0)
    assert together == skipping.SAMPLES


def test_threads_share_the_rows(kernel):
    stage = Skipping(Layout(draw([20, 30, 4], rank=3, seed=0)), 0, [GATED, INPUT_SPARSE], threads=2)
    out, finite = stage(torch.ones(17, 20))
    assert sorted(len(call[0]) for call in kernel.calls) == [8, 9]
    assert [len(call[1]) for call in kernel.calls] == [len(call[0]) for call in kernel.calls]
    assert sorted(out[:, 0].tolist()) == [8] * 8 + [9] * 9
    assert not finite  # one of the shares was not
    kernel.calls.clear()
    assert stage(torch.ones(0, 20))[0].shape == (0, 4)
    assert [len(call[0]) for call in kernel.calls] == [0]
    stage(torch.ones(1, 20))
    assert [len(call[0]) for call in kernel.calls] == [0, 1]
    assert threading.get_ident() in kernel.threads  # who calls works too


def test_few_rows_are_not_shared(kernel):
    stage = Skipping(Layout(draw([20, 30, 4], rank=3, seed=0)), 0, [TWO_SIDED], threads=2, shared_from=9)
    for batch in (8, 9):
        stage(torch.ones(batch, 20))
    assert sorted(len(call[0]) for call in kernel.calls) == [4, 5, 8]


def test_a_stage_begins_at_any_layer():
    layers = draw([20, 30, 25, 4], rank=3, seed=0)
    x = inputs(5, 30, 0.5, 0)
    stage = Skipping(Layout(layers), 1, [TWO_SIDED, INPUT_SPARSE])
    out, finite = stage(torch.from_numpy(x))
    assert finite
    assert_same(out, reference(layers[1:], (TWO_SIDED, INPUT_SPARSE), x))


def test_layers_of_one_kind_are_one_call():
    layers = draw([4, 5, 6, 7, 3, 2], rank=2, seed=0)
    compiled = Compiled(Layout(layers), (GATED, INPUT_SPARSE, DENSE, DENSE, INPUT_SPARSE))
    kinds = [len(stage) if isinstance(stage, list) else tuple(stage._ways) for stage in compiled._stages]
    assert kinds == [(GATED, INPUT_SPARSE), 2, (INPUT_SPARSE,)]
    assert compiled.inputs == 4
    assert compiled.ways == (GATED, INPUT_SPARSE, DENSE, DENSE, INPUT_SPARSE)
    x = inputs(9, 4, 1.0, 0)
    assert_same(compiled(torch.from_numpy(x)), reference(layers, compiled.ways, x))


def test_copies_keep_what_they_were_made_with():
    compiled = Compiled(Layout(draw([6, 5, 2], 2, seed=5)), [GATED, DENSE], 2, shared_from=7)
    assert compiled.plan is None
    compiled.plan = "a plan"
    other = pickle.loads(pickle.dumps(compiled))
    assert (other.plan, other.ways, other.threads, other.shared_from) == ("a plan", (GATED, DENSE), 2, 7)
    assert other._stages[0]._shared_from == 7
    stage = pickle.loads(pickle.dumps(Skipping(compiled.layout, 0, [GATED], 2, 5, together=9)))
    assert (stage._first, stage._ways, stage._threads, stage._shared_from) == (0, [GATED], 2, 5)
    assert stage._together == 9


def test_dense_layers_by_hand():
    weight = torch.tensor([[1.0, -1.0], [2.0, 0.5]])
    layers = [Dense(weight.T, torch.tensor([0.0, 1.0]), True), Dense(torch.ones(2, 1), torch.zeros(1), False)]
    x = torch.tensor([[1.0, 2.0]])
    assert run_dense(layers[:1], x).tolist() == [[0.0, 4.0]]
    assert run_dense(layers, x).tolist() == [[4.0]]
    assert run_dense([layers[0]._replace(relu=False)], x).tolist() == [[-1.0, 4.0]]
    assert run_dense([], x) is x
    assert x.tolist() == [[1.0, 2.0]]


def test_what_needs_no_conversion_is_taken_as_it_is():
    x = torch.ones(3, 4)
    assert accepted(x, 4) is x
    assert accepted(x.T.contiguous().T, 4).is_contiguous()
    rows = ready(x, 4)
    assert rows.ctypes.data == x.data_ptr()
    others = [x.double(), x.bfloat16(), x.T.contiguous().T, x[0], x[:, :3], x.clone().requires_grad_()]
    others += [x.to("meta"), x.numpy(), None]
    assert not [other for other in others if ready(other, 4) is not None]


@pytest.mark.parametrize(
    "ways", [(TWO_SIDED, INPUT_SPARSE), (DENSE, INPUT_SPARSE), ("masked int8", "dense int8")]
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [0, 1, 2, 30])
def test_arrays_are_filled(ways, threads, batch):
    compiled = Compiled(Layout(draw([20, 30, 4], rank=3, seed=3)), ways, threads)
    x, out = inputs(batch, 20, 1.0, 3), np.full((batch, 4), 99, np.float32)
    assert compiled.run(x, out) is out
    np.testing.assert_array_equal(out, compiled(torch.from_numpy(x)).numpy())
    x[batch // 2 :, 3] = np.nan
    np.testing.assert_array_equal(compiled.run(x, out), compiled(torch.from_numpy(x)).numpy())


NO_ARRAY = "run got arrays of shapes {} and {}: expected (batch, 20) and (batch, 4) in one piece; np.ascontiguousarray makes one"


@pytest.mark.parametrize(
    ("x", "out", "message"),
    [
        (np.zeros((2, 21), np.float32), np.zeros((2, 4), np.float32), NO_ARRAY.format((2, 21), (2, 4))),
        (np.zeros((2, 20), np.float32), np.zeros((3, 4), np.float32), NO_ARRAY.format((2, 20), (3, 4))),
        (np.zeros(20, np.float32), np.zeros((1, 4), np.float32), NO_ARRAY.format((20,), (1, 4))),
        (np.zeros((20, 2), np.float32).T, np.zeros((2, 4), np.float32), NO_ARRAY.format((2, 20), (2, 4))),
        (np.zeros((2, 20), np.float32), np.zeros((4, 2), np.float32).T, NO_ARRAY.format((2, 20), (2, 4))),
        (
            *(np.zeros((2, 20)), np.zeros((2, 4), np.float32)),
            "run got float64 and float32: expected float32, use x.astype(np.float32)",
        ),
    ],
)
def test_arrays_that_are_refused(x, out, message):
    compiled = Compiled(Layout(draw([20, 30, 4], rank=3, seed=3)), (TWO_SIDED, INPUT_SPARSE))
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        compiled.run(x, out)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_torch_gets_its_threads_back(error, monkeypatch):
    before, asked = torch.get_num_threads(), []
    set_them = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda n: asked.append(n) or set_them(n))
    with pytest.raises(error) if error else nullcontext(), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        if error:
            raise error
    assert torch.get_num_threads() == before
    with torch_threads(before):
        assert torch.get_num_threads() == before
    assert asked == [before + 1, before]  # it is a call into torch, and costs one


def test_dense_layers_get_the_engines_threads(monkeypatch):
    compiled = Compiled(Layout(draw([20, 30, 4], rank=3, seed=3)), (DENSE, INPUT_SPARSE), threads=3)
    asked = []

    def noted(layers, x):
        asked.append(torch.get_num_threads())
        return run_dense(layers, x)

    monkeypatch.setattr("ccsweep.engine.compiled.run_dense", noted)
    compiled(torch.ones(2, 20))
    assert asked == [3]


def test_warming_up_runs_the_kernel_on_nothing_and_says_when_it_compiles(kernel, monkeypatch):
    said = []
    monkeypatch.setattr(
        "ccsweep.engine.compiled.announced", lambda run: said.append(run == kernel.run) or nullcontext()
    )
    warm_up()
    ((x, projected, numbers, table, together),) = kernel.calls
    assert said == [True]
    assert (x.shape, x.dtype, projected.shape) == ((0, 1), np.float32, (0, 1))
    assert (numbers.dtype, table.dtype, together) == (np.int32, np.int64, 1)
    assert table.view(LAYER).size == 1


def test_only_rows_that_are_not_finite_are_computed_again(monkeypatch):
    compiled = Compiled(Layout(draw([20, 30, 25, 4], rank=3, seed=3)), (DENSE, GATED, DENSE))
    ran = []

    def noted(layers, x):
        ran.append((len(layers), len(x)))
        return run_dense(layers, x)

    monkeypatch.setattr("ccsweep.engine.compiled.run_dense", noted)
    x = torch.ones(5, 20)
    compiled(x)
    assert ran == [(1, 5), (1, 5)]
    ran.clear()
    x[2, 3] = torch.nan
    compiled(x)
    assert ran == [(1, 5), (1, 5), (3, 5), (1, 4), (1, 4)]
    ran.clear()
    Compiled(compiled.layout, (DENSE, INPUT_SPARSE, DENSE))(x)  # without gates nothing is taken out
    assert ran == [(1, 5), (1, 5)]


def in_a_fork(function):
    """What the function gives in a forked process, or None where it gives nothing in 20 seconds."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(function()), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python's, of forking with threads: that is the case
        process.start()
    try:
        return ours.recv() if ours.poll(20) else None
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("ways", [(INPUT_SPARSE, INPUT_SPARSE), (DENSE, DENSE), (GATED, DENSE)])
def test_a_forked_process_answers(ways):
    """It inherits pools whose threads are not there: the engine's own, and OpenMP's, which torch uses."""
    layout = Layout(draw([64, 300, 5], 3, seed=0))
    compiled = Compiled(layout, ways, threads=2)
    x = torch.randint(-2, 3, (2000, 64)).float()
    expected = compiled(x)
    got = in_a_fork(lambda: (compiled(x).numpy(), torch.get_num_threads()))
    assert got is not None
    np.testing.assert_array_equal(got[0], expected.numpy())
    assert got[1] == torch.get_num_threads()
