"""Plans: what is chosen, what it says of itself."""

import copy
import re
import sys

import pytest
import torch

from ccsweep import engine
from ccsweep.engine import tune
from ccsweep.engine.candidates import nearer
from ccsweep.engine.ways import GATES, LIBRARIES, MASKED, library, uses_gate
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED, WAYS
from ccsweep.network import ConditionalMLP


@pytest.fixture(autouse=True)
def _short_races(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


@pytest.fixture(scope="session")
def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 40, generator=generator)
    return x * (x > 0)


@pytest.mark.parametrize(
    ("asked", "possible"),
    [
        ("dense", [{DENSE}] * 3),
        ("exact", [{INPUT_SPARSE}] * 3),
        ("gated", [{GATED, TWO_SIDED}] * 2 + [{DENSE, INPUT_SPARSE}]),
        ([TWO_SIDED, DENSE, INPUT_SPARSE], [{TWO_SIDED}, {DENSE}, {INPUT_SPARSE}]),
    ],
)
def test_an_engine_is_forced(network, inputs, asked, possible):
    compiled = engine.compile(network, inputs, batch_size=16, engine=asked)
    assert all(way in ways for way, ways in zip(compiled.ways, possible, strict=True))
    assert compiled.plan.ways == compiled.ways
    assert compiled.plan.engine == (asked if isinstance(asked, str) else "ways")


@pytest.mark.parametrize("batch_size", [1, 16, 300])
def test_all_gates_in_use_give_the_network(network, inputs, batch_size):
    compiled = engine.compile(network, inputs, batch_size, engine="gated")
    torch.testing.assert_close(compiled(inputs), network(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert compiled.plan.disagreement == 0


def test_auto_keeps_the_answers(network, inputs):
    compiled = engine.compile(network, inputs, batch_size=16, max_disagreement=0.0)
    torch.testing.assert_close(compiled(inputs).argmax(1), network(inputs).argmax(1))
    assert compiled.plan.disagreement == 0


def test_a_tie_goes_to_dense(network, inputs, monkeypatch):
    """Whatever is timed, dense is no slower."""
    monkeypatch.setattr(tune, "race", lambda runs, seconds: {name: [100.0] for name in runs})
    plan = engine.compile(network, inputs, batch_size=16, threads=1, max_disagreement=1.0).plan
    assert plan.ways == (DENSE,) * 3
    assert plan.notes == ("no other way was faster than dense by 2 % or more",)
    assert plan.speedup == 1


def test_gates_that_matter_stay(network, inputs, monkeypatch):
    """All units are gated off: without gates it is another network, and no better for being as fast."""
    monkeypatch.setattr(tune, "race", lambda runs, seconds: {name: [100.0] for name in runs})
    network = copy.deepcopy(network)
    network.hidden[0].shift.fill_(-torch.inf)
    plan = engine.compile(network, inputs, batch_size=16, threads=1).plan
    assert plan.ways[0] in GATES
    assert plan.disagreement == 0
    (note,) = plan.notes
    pattern = r"dense is not used: without its gates it changes \d+\.\d\d% of predictions"
    assert re.fullmatch(pattern, note)


def test_memory_is_reported(network, inputs):
    plan = engine.compile(network, inputs, batch_size=16, engine="exact").plan
    assert plan.dense_bytes == 4 * (41 * 24 + 25 * 16 + 17 * 5)
    # One row for each unit and one for each input, both of whole vectors: 32, 16 and 16 floats wide.
    units, by_input, biases = 24 * 48 + 16 * 32 + 5 * 16, 40 * 32 + 24 * 16 + 16 * 16, 32 + 16 + 16
    assert plan.bytes == 4 * (units + by_input + biases)


@pytest.mark.slow
def test_memory_of_wide_layers_stays_below_the_promise():
    from ccsweep.config.schema import RanksConfig

    network = ConditionalMLP([784, 1000, 600, 10], RanksConfig([50, 35]))
    network.initialise(weight_std=0.05, bias=0.0)
    network.refresh()
    inputs = torch.rand(20, 784)
    int8 = [["gated int8"] * 2, ["masked int8"] * 2, ["dense int8"] * 2, ["input-sparse int8"] * 2]
    for asked in ("dense", "exact", "gated", *([*ways, "dense int8"] for ways in int8)):
        plan = engine.compile(network, inputs, engine=asked).plan
        assert plan.bytes < (2.2 if isinstance(asked, str) else 1.6) * plan.dense_bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"engine": "fast"},
            "engine=fast is unknown: use one of auto, dense, exact, gated, or a way per layer",
        ),
        ({"engine": [DENSE]}, "engine gives 1 ways: expected one for each of 3 layers"),
        (
            {"engine": [DENSE, DENSE, GATED]},
            "engine has gated for layer 3: expected one of dense, input-sparse, dense int8, input-sparse int8, "
            "dense bfloat16, dense onnxruntime, dense onnxruntime int8",
        ),
        ({"batch_size": 0}, "batch_size=0, threads=1: expected 1 or more"),
        (
            {"calibration_inputs": torch.zeros(0, 40)},
            "calibration_inputs hold no samples: expected real inputs of the network",
        ),
        (
            {"calibration_inputs": torch.full((3, 40), torch.nan)},
            "calibration_inputs hold NaN or infinity: expected real inputs of the network",
        ),
    ],
)
def test_wrong_arguments(network, inputs, change, message):
    arguments = {"calibration_inputs": inputs, "threads": 1} | change
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        engine.compile(network, **arguments)


def test_a_network_that_diverged_is_refused(network, inputs):
    network = copy.deepcopy(network)
    torch.nn.init.constant_(network.output.bias, torch.nan)
    message = "the output layer (16x5) holds NaN or infinity: nothing to compile"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        engine.compile(network, inputs)


class Clock:
    """Stands in for the race: layers alone take what ``alone`` says, whole plans what ``whole`` does."""

    def __init__(
        self, monkeypatch, alone: list[dict[str, float]], whole: dict[tuple[str, ...], float]
    ) -> None:
        self.alone, self.whole, self.races = alone, whole, []
        monkeypatch.setattr(tune, "race", self.race)

    def race(self, runs, seconds):
        layers = sum(isinstance(next(iter(names)), str) for names, _ in self.races)
        self.races.append((set(runs), seconds))
        for run in runs.values():
            run()
        if isinstance(next(iter(runs)), str):
            return {way: [self.alone[layers % len(self.alone)].get(way, SLOW)] * 3 for way in runs}
        return {ways: [1.0, self.whole.get(ways, 500.0), 1e9] for ways in runs}


OWN = {"int8": False, "libraries": False}
SLOW = 1000.0
FIRST = {DENSE: 10.0, INPUT_SPARSE: 30.0, GATED: 20.0, TWO_SIDED: 25.0}
SECOND = {DENSE: 40.0, INPUT_SPARSE: 30.0, GATED: 60.0, TWO_SIDED: 50.0}
LAST = {DENSE: 5.0, INPUT_SPARSE: 6.0}
ALL_DENSE = (DENSE,) * 3
# At batch 100 a layer is timed on one batch, so the times are as they stand. With all gates the layers take
# more than half as long again, 75 and 76 us: such a plan is not timed as a whole.
WHOLE_PLANS = {
    (DENSE, INPUT_SPARSE, DENSE),  # the fastest of each, 45 us
    (GATED, INPUT_SPARSE, INPUT_SPARSE),  # in one compiled call
    (INPUT_SPARSE,) * 3,
    ALL_DENSE,
}


@pytest.fixture
def clock(monkeypatch):
    return lambda whole: Clock(monkeypatch, [FIRST, SECOND, LAST], whole)


def test_whole_plans_are_put_together_from_layers(network, inputs, clock):
    timed = clock({})
    plan = engine.compile(network, inputs, 100, 1, max_disagreement=1.0, seconds=0.5, **OWN).plan
    ways, gated = set(WAYS), {DENSE, INPUT_SPARSE}
    assert timed.races == [(ways, 0.5), (ways, 0.5), (gated, 0.5), (WHOLE_PLANS, 1.0)]
    assert [layer.microseconds for layer in plan.layers] == [FIRST, SECOND, LAST]


def test_the_fastest_whole_plan_wins_by_its_median(network, inputs, clock):
    best = (GATED, INPUT_SPARSE, INPUT_SPARSE)
    clock({best: 97.9, ALL_DENSE: 100.0, (INPUT_SPARSE,) * 3: 98.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=1.0, **OWN)
    plan = compiled.plan
    assert (plan.ways, plan.microseconds, plan.dense_microseconds) == (best, 97.9, 100.0)
    assert (plan.batch_size, plan.threads, plan.engine, plan.notes) == (100, 1, "auto", ())
    assert (compiled.ways, compiled.threads) == (best, 1)
    # Gates that are not in use are not kept in memory.
    assert [layer.gate is not None for layer in compiled.layout.layers] == [True, False, False]
    assert plan.bytes == compiled.layout.bytes
    changed = compiled(inputs).argmax(1) != network(inputs).argmax(1)
    assert plan.disagreement == pytest.approx(changed.double().mean().item())


def test_a_gain_below_two_per_cent_is_none(network, inputs, clock):
    clock({(INPUT_SPARSE,) * 3: 98.1, ALL_DENSE: 100.0})
    plan = engine.compile(network, inputs, 100, 1, max_disagreement=1.0, libraries=False).plan
    assert (plan.ways, plan.microseconds) == (ALL_DENSE, 100.0)
    assert plan.notes == ("no other way was faster than dense by 2 % or more",)


def test_plans_that_change_answers_are_not_chosen_however_fast(network, inputs, clock):
    """The first layer's gates are all shut: without them it is another network."""
    network = copy.deepcopy(network)
    network.hidden[0].shift.fill_(-torch.inf)
    timed = clock({ALL_DENSE: 1.0, (INPUT_SPARSE,) * 3: 2.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=0.0, **OWN)
    plans, _ = timed.races[-1]
    kept = {(GATED, TWO_SIDED, DENSE), (GATED, TWO_SIDED, INPUT_SPARSE), (GATED, INPUT_SPARSE, INPUT_SPARSE)}
    # What is slower alone than the first one kept may be faster as a whole: its answers are counted if it is.
    assert plans == kept | {(INPUT_SPARSE,) * 3, ALL_DENSE}
    assert compiled.ways[0] == GATED
    torch.testing.assert_close(compiled(inputs).argmax(1), network(inputs).argmax(1))
    without = tune.chain(tune.layers_of(network), inputs.numpy(), gated=False)[-1].argmax(1)
    share = (torch.from_numpy(without) != network(inputs).argmax(1)).double().mean().item()
    assert compiled.plan.notes == (
        f"dense is not used: without its gates it changes {share:.2%} of predictions",
    )
    # As many as it changes may change.
    assert engine.compile(network, inputs, 100, 1, max_disagreement=share, **OWN).ways == ALL_DENSE


def test_answers_are_counted_of_the_first_plan_by_its_layers_and_of_the_fastest(network, inputs, clock):
    best = (GATED, INPUT_SPARSE, INPUT_SPARSE)
    clock({best: 97.0, ALL_DENSE: 100.0})
    tuner = tune.Tuner(tune.Layout(tune.layers_of(network)), inputs, 100, 1, **OWN)
    ways, _ = tuner.plan("auto", 1.0)
    assert ways == best
    assert [*tuner._shares] == [(DENSE, INPUT_SPARSE, DENSE), best]


def test_finer_numbers_are_not_tried_where_it_is_gates_that_matter():
    alone = [{INPUT_SPARSE: 3.0, SPARSE_8: 1.0, GATED: 4.0, GATED_8: 2.0}] * 2
    counted = []

    def changed(ways):
        counted.append(ways)
        return 0.0 if all(map(uses_gate, ways)) else 0.5

    assert nearer(alone, 0.01, changed) == []
    assert {*counted} == {(SPARSE_8,) * 2, (INPUT_SPARSE,) * 2, (GATED_8,) * 2}


def test_what_is_forced_is_timed_beside_dense(network, inputs, clock):
    forced = [TWO_SIDED, DENSE, INPUT_SPARSE]
    timed = clock({tuple(forced): 7.0, ALL_DENSE: 3.0})
    plan = engine.compile(network, inputs, 100, 1, engine=forced, seconds=0.5).plan
    assert timed.races[-1] == ({tuple(forced), ALL_DENSE}, 0.5)
    assert (plan.engine, plan.ways, plan.microseconds, plan.dense_microseconds) == (
        "ways",
        tuple(forced),
        7.0,
        3.0,
    )
    assert plan.notes == ()
    assert engine.compile(network, inputs, 100, 1, engine="gated").ways == (GATED, TWO_SIDED, DENSE)
    assert engine.compile(network, inputs, 100, 1, engine="dense").plan.engine == "dense"


def test_threads_are_torchs_where_none_are_given(network, inputs, clock):
    clock({})
    assert engine.compile(network, inputs, 100).plan.threads == torch.get_num_threads()
    other = torch.get_num_threads() + 1
    assert engine.compile(network, inputs, 100, other).plan.threads == other
    assert engine.compile(network, inputs).plan.batch_size == 1


@pytest.mark.parametrize(("one", "three", "used"), [(50.0, 49.9, 3), (50.0, 50.0, 1), (40.0, 50.0, 1)])
def test_threads_that_gain_nothing_are_not_used(network, inputs, monkeypatch, one, three, used):
    def race(runs, seconds):
        took = {1: one, 3: three} if set(runs) == {1, 3} else dict.fromkeys(runs, 60.0)
        return {name: [took[name]] for name in runs}

    monkeypatch.setattr(tune, "race", race)
    compiled = engine.compile(network, inputs, 16, threads=3, engine="exact")
    assert (compiled.threads, compiled.plan.threads) == (used, 3)
    assert compiled.plan.microseconds == (one if used == 1 else 60.0)
    notes = ("one thread is as fast as 3 here, and is used",) if used == 1 else ()
    assert compiled.plan.notes == notes
    assert compiled.shared_from == tune.shared_from(16, 3, one, three)


def test_threads_share_from_where_the_other_parts_take_longer_than_sharing():
    # Of 100 us two threads save 50 and take 10 for it: as much as a fifth of the batch saves.
    assert tune.shared_from(100, 2, alone=100.0, together=60.0) == 20
    assert tune.shared_from(100, 2, alone=100.0, together=100.0) == 100  # nothing is won
    assert tune.shared_from(90, 3, alone=90.0, together=35.0) == 8  # 60 saved, 5 for it: 7.5 samples
    assert tune.shared_from(100, 2, alone=100.0, together=50.0) == 2  # for nothing: one row cannot be shared


SPARSE_8, DENSE_8, GATED_8, TWO_SIDED_8, MASKED_8 = (
    way + " int8" for way in (INPUT_SPARSE, DENSE, GATED, TWO_SIDED, "masked")
)


def test_int8_is_tried_for_each_layer_and_for_all(network, inputs, monkeypatch):
    alone = [
        {DENSE: 1.8, INPUT_SPARSE: 1.7, GATED: 1.65, TWO_SIDED: 1.6}
        | {SPARSE_8: 1.5, DENSE_8: 1.4, GATED_8: 1.2, TWO_SIDED_8: 1.3, MASKED_8: 1.1}
    ] * 2 + [{DENSE: 1.2, INPUT_SPARSE: 1.0, SPARSE_8: 1.1, DENSE_8: 1.3}]
    best = (GATED_8, SPARSE_8, SPARSE_8)
    timed = Clock(monkeypatch, alone, {best: 3.0, ALL_DENSE: 100.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=1.0, libraries=False)
    plans, _ = timed.races[-1]
    assert plans == {
        *(ALL_DENSE, (INPUT_SPARSE,) * 3, (TWO_SIDED, TWO_SIDED, INPUT_SPARSE)),
        *((TWO_SIDED, INPUT_SPARSE, INPUT_SPARSE), (MASKED_8, MASKED_8, INPUT_SPARSE)),
        *((DENSE_8, DENSE_8, INPUT_SPARSE), (MASKED_8, DENSE_8, INPUT_SPARSE)),
        *((GATED_8, DENSE_8, INPUT_SPARSE), (GATED_8, INPUT_SPARSE, INPUT_SPARSE)),
        *((first, way, way) for first in (MASKED_8, GATED_8) for way in (SPARSE_8, DENSE_8)),
        (MASKED_8, INPUT_SPARSE, INPUT_SPARSE),
    }
    assert compiled.ways == best
    assert compiled.plan.ways == best
    out = compiled(inputs)
    assert (out.argmax(1) != network(inputs).argmax(1)).double().mean() == compiled.plan.disagreement
    assert not torch.equal(out, network(inputs))


def test_a_layer_that_int8_is_too_coarse_for_stays_in_float32(inputs, monkeypatch):
    """The answers hang on the second layer: differences too small for bytes beside one large input."""
    torch.manual_seed(0)
    network = ConditionalMLP([40, 24, 16, 5]).eval()
    with torch.no_grad():
        network.hidden[1].weight[:, 0] = 0
        network.hidden[0].bias[0] = 3e4  # makes a step of the second layer's inputs 100 or more
    alone = [{DENSE: 9.0, INPUT_SPARSE: 8.0, SPARSE_8: 4.0, DENSE_8: 5.0}] * 3
    Clock(monkeypatch, alone, {(SPARSE_8, INPUT_SPARSE, SPARSE_8): 3.0, ALL_DENSE: 100.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=0.05)
    assert compiled.ways == (SPARSE_8, INPUT_SPARSE, SPARSE_8)
    assert compiled.plan.disagreement <= 0.05
    every = engine.compile(network, inputs, 100, 1, engine=[SPARSE_8] * 3)
    assert every.plan.disagreement > 0.1


def test_layers_whose_sums_might_not_fit_are_not_in_int8(monkeypatch, network, inputs):
    monkeypatch.setattr(tune, "MOST", 24)
    tuner = tune.Tuner(tune.Layout(tune.layers_of(network)), inputs, 1, 1)
    possible = [set(tuner.time_layer(k)) for k in range(3)]
    assert possible == [
        set(WAYS),
        {*WAYS, SPARSE_8, DENSE_8, *GATES},
        {DENSE, INPUT_SPARSE, SPARSE_8, DENSE_8},
    ]


@pytest.mark.parametrize(("batch", "together", "threads"), [(1, 1, 1), (5, 5, 2), (64, 64, 2), (100, 100, 2)])
def test_a_layer_alone_is_timed_on_64_samples_or_more(network, inputs, batch, together, threads, monkeypatch):
    made, ran = [], []
    times = 64 // batch or 1

    class Stage(tune.Skipping):
        def __init__(self, *given, together):
            made.append((*given[1:], together))
            super().__init__(*given, together=together)

        def __call__(self, x):
            ran.append(len(x))
            return super().__call__(x)

    monkeypatch.setattr(tune, "Skipping", Stage)
    monkeypatch.setattr(tune, "run_dense", lambda layers, x: ran.append((len(layers), len(x))))
    Clock(monkeypatch, [FIRST, SECOND, LAST], {})
    tuner = tune.Tuner(tune.Layout(tune.layers_of(network)), inputs, batch, threads=2, **OWN)
    found = tuner.time_layer(0)
    assert found == {way: took if way == DENSE else took / times for way, took in FIRST.items()}
    assert made == [(0, [way], threads, together) for way in (INPUT_SPARSE, GATED, TWO_SIDED)]
    assert ran == [(1, batch)] + [batch * times] * 3


def test_batches_hold_other_samples_as_long_as_there_are_any(network, inputs):
    tuner = tune.Tuner(tune.Layout(tune.layers_of(network)), inputs, 1, 1)
    few = torch.arange(7)[:, None].numpy()
    cases = {3: [[0, 1, 2], [3, 4, 5], [0, 1, 2]], 7: [list(range(7))] * 2, 9: [[*range(7), 0, 1]] * 2}
    for size, expected in cases.items():
        batches = tuner._batches(few, size)
        assert [next(batches)[:, 0].tolist() for _ in expected] == expected
    assert len(next(tuner._batches(few, 30))) == 30


def test_the_densities_of_a_plan(network, inputs, clock):
    clock({})
    plan = engine.compile(network, inputs, 100, 1, engine="gated").plan
    x, found = inputs, []
    for layer in network.hidden:
        gate = layer.gate(x)
        found.append(((x != 0).double().mean().item(), gate.double().mean().item(), layer.rank))
        x = layer(x)
    found.append(((x != 0).double().mean().item(), 1.0, None))
    assert [(p.input_density, p.unit_density, p.rank) for p in plan.layers] == [
        (pytest.approx(a), pytest.approx(b), rank) for a, b, rank in found
    ]
    assert [(p.inputs, p.units) for p in plan.layers] == [(40, 24), (24, 16), (16, 5)]


def test_so_many_calibration_inputs_are_enough():
    inputs = torch.ones(9000, 4)
    assert len(tune.calibration(inputs, 4)) == 8192
    assert tune.calibration(inputs[:9].double(), 4).dtype == torch.float32
    inputs[8192:] = torch.nan  # not among those
    tune.calibration(inputs, 4)
    inputs[8191, 3] = torch.inf
    with pytest.raises(
        UserError, match=r"^calibration_inputs hold NaN or infinity: expected real inputs of the network$"
    ):
        tune.calibration(inputs, 4)


BFLOAT16, ONNX, ONNX_INT8 = LIBRARIES


@pytest.mark.parametrize(("took", "chosen"), [(97.0, True), (98.1, False)])
def test_a_library_runs_the_network_where_it_is_faster_by_two_per_cent(
    network, inputs, monkeypatch, took, chosen
):
    pytest.importorskip("onnxruntime")
    by_library, own = (MASKED + ONNX_INT8,) * 2 + (DENSE + ONNX_INT8,), (INPUT_SPARSE,) * 3
    Clock(monkeypatch, [FIRST, SECOND, LAST], {by_library: took, own: 100.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=0.2)
    assert compiled.ways == compiled.plan.ways == (by_library if chosen else own)
    changed = (compiled(inputs).argmax(1) != network(inputs).argmax(1)).double().mean()
    assert changed == compiled.plan.disagreement


def test_libraries_run_all_layers_or_dense_ones_or_all_but_the_first(network, inputs, clock):
    pytest.importorskip("onnxruntime")
    timed = clock({})
    engine.compile(network, inputs, 100, 1, max_disagreement=1.0)
    found = {ways for ways in timed.races[-1][0] if any(map(library, ways))}
    # The first layer alone is fastest dense; of what is fastest the first layer and the last are dense.
    assert found == {
        ways
        for name in LIBRARIES
        for every in [(DENSE + name,) * 3]
        for ways in (
            every,
            (MASKED + name, MASKED + name, DENSE + name),
            (DENSE, *every[1:]),
            (DENSE + name, INPUT_SPARSE, DENSE + name),
        )
    }
    engine.compile(network, inputs, 100, 1, max_disagreement=1.0, int8=False)
    used = {library(way) for ways in timed.races[-1][0] for way in ways}
    assert used == {"", ONNX}


def test_a_library_that_changes_too_many_answers_is_not_used(network, inputs, monkeypatch):
    """The first layer's gates are all shut: a library that computes them may run it, one that does not may not."""
    network = copy.deepcopy(network)
    network.hidden[0].shift.fill_(-torch.inf)
    every, gated = (DENSE + BFLOAT16,) * 3, (MASKED + BFLOAT16,) * 2 + (DENSE + BFLOAT16,)
    Clock(monkeypatch, [FIRST, SECOND, LAST], {every: 1.0, gated: 2.0})
    compiled = engine.compile(network, inputs, 100, 1, max_disagreement=0.05)
    assert compiled.ways == gated
    assert [layer.gate is not None for layer in compiled.layout.layers] == [True, True, False]


def test_onnx_runtime_that_is_not_installed_is_missed(network, inputs, clock, monkeypatch):
    timed = clock({})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plan = engine.compile(network, inputs, 100, 1, max_disagreement=1.0).plan
    assert plan.notes[0] == (
        "ONNX Runtime was not tried: not installed: pip install onnxruntime onnx (110 MB)"
    )
    assert {library(way) for ways in timed.races[-1][0] for way in ways} == {"", BFLOAT16}
    message = "engine names onnxruntime, which is not installed: pip install onnxruntime onnx"
    with pytest.raises(UserError, match=f"^{message}$"):
        engine.compile(network, inputs, engine=[DENSE + ONNX] * 3)
