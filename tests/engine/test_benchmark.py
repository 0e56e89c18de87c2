from itertools import islice

import pytest
import torch

from ccsweep.engine import benchmark, tune
from ccsweep.engine.benchmark import (
    EAGER,
    ENGINE,
    EXACT,
    Answers,
    Comparison,
    Timed,
    Timing,
    compare,
    compare_networks,
    figures,
    gain,
    is_known,
    split,
)
from ccsweep.engine.clock import Interval
from ccsweep.engine.peers import UnavailableError
from ccsweep.engine.plan import Plan
from ccsweep.estimator.cost import INPUT_SPARSE
from tests.engine.conftest import draw


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


def test_a_comparison(network):
    inputs = torch.randn(300, 40)

    def none(layers, calibration, batches, threads):
        assert {batch.shape for batch in batches} == {(32, 40)}
        raise UnavailableError("not on this machine")

    others = {"none": none, "exact skip": benchmark.PEERS["exact skip"]}
    found = compare(network, inputs, inputs, 32, 1, 0.0, others, max_disagreement=0.0)
    assert list(found.timings) == [EAGER, f"{EAGER}, gated", "exact skip", ENGINE]
    for timing in found.timings.values():
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.calls >= 7
    assert found.unavailable == {"none": "not on this machine"}
    assert found.speedup(EAGER) == 1
    assert found.speedup() == found.timings[EAGER].median / found.timings[ENGINE].median
    assert found.answers[ENGINE].changed == 0
    assert figures([found])["measured_speedup_batch32"] == round(found.gain.value, 4)
    assert found.gain.low <= found.gain.value <= found.gain.high
    stored = found.as_json()
    assert stored["speedup"][ENGINE] == found.speedup()
    assert stored["plan"]["batch_size"] == 32


@pytest.mark.parametrize(("samples", "size", "batches"), [(10, 1, 10), (10, 3, 10), (10, 25, 8), (10, 10, 8)])
def test_batches_are_full_and_of_real_inputs(samples, size, batches):
    inputs = torch.arange(samples)[:, None].repeat(1, 4).float()
    found = split(inputs, size)
    assert [batch.shape for batch in found] == [(size, 4)] * batches
    assert all(batch.is_contiguous() for batch in found)
    counts = torch.cat(found)[:, 0].int().bincount()
    assert counts.max() - counts.min() <= 1
    assert torch.cat(found)[:, 0].tolist() != list(range(len(torch.cat(found))))


def test_all_batches_come_before_one_comes_again():
    batches = split(torch.arange(20)[:, None].float(), 1)
    seen = [int(batch) for batch in islice(benchmark._cycled(batches), 60)]
    rounds = [seen[:20], seen[20:40], seen[40:]]
    assert all(sorted(each) == list(range(20)) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert seen == [int(batch) for batch in islice(benchmark._cycled(batches), 60)]  # in each benchmark


def test_a_timing_is_its_quartiles():
    assert benchmark._timing([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 2.0, 4.0, 5)
    assert benchmark._timing([1.0, 2.0]) == Timing(1.5, 1.25, 1.75, 2)


GAIN, LEAD = Interval(3.14159, 2.9, 3.5), Interval(1.23456, 1.2, 1.3)


def comparison(
    batch: int, threads: int, changed: dict[str, float] | None = None, **timings: float
) -> Comparison:
    changed = changed or {}
    plan = Plan(batch, threads, "auto", (), 1.0, 1.0, 0.0, 1, 1)
    answers = {name: Answers(changed.get(name, 0.0), None) for name in timings}
    timed = {name: Timing(took, took, took, 9) for name, took in timings.items()}
    return Comparison(plan, timed, {}, answers, GAIN, LEAD)


def test_speedups_are_over_torch_eager():
    compared = comparison(8, 1, **{EAGER: 60.0, "other": 120.0, ENGINE: 7.0})
    assert (compared.speedup(EAGER), compared.speedup("other")) == (1, 0.5)
    assert compared.speedup() == compared.speedup(ENGINE) == 60 / 7
    assert compared.as_json()["speedup"] == {EAGER: 1, "other": 0.5, ENGINE: 60 / 7}
    others = (
        comparison(8, 2, **{EAGER: 1.0, ENGINE: 1.0}),
        comparison(64, 1, **{EAGER: 3.0, ENGINE: 1.0}),
    )
    assert figures([compared, *others]) == {
        "measured_speedup_batch8": 3.1416,
        "measured_speedup_batch8_low": 2.9,
        "measured_speedup_batch8_high": 3.5,
        "engine_over_best_peer_batch8": 1.2346,
        "engine_over_best_peer_batch8_low": 1.2,
        "engine_over_best_peer_batch8_high": 1.3,
        "measured_speedup_batch64": 3.1416,
        "measured_speedup_batch64_low": 2.9,
        "measured_speedup_batch64_high": 3.5,
        "engine_over_best_peer_batch64": 1.2346,
        "engine_over_best_peer_batch64_low": 1.2,
        "engine_over_best_peer_batch64_high": 1.3,
    }


def test_the_best_peer_is_none_of_ours():
    times = {EAGER: 60.0, "other": 20.0, EXACT: 5.0, ENGINE: 4.0}
    compared = comparison(8, 1, **times)
    assert compared.best_peer == compared.as_json()["best_peer"] == "other"
    assert compared.speedup(over=compared.best_peer) == 5
    assert comparison(8, 1, **{EAGER: 60.0, ENGINE: 4.0}).best_peer == EAGER
    assert gain([{"other": [6.0], ENGINE: [2.0]}] * 6, over="other") == Interval(3.0, 3.0, 3.0)


def test_a_peer_that_answers_otherwise_is_none():
    """Without its gates a network may be another one, and quick at that."""
    times = {EAGER: 60.0, f"{EAGER}, gated": 70.0, "other": 5.0, "other, gated": 20.0, ENGINE: 4.0}
    changed = {EAGER: 0.5, "other": 0.0101, "other, gated": 0.01}
    assert comparison(8, 1, changed, **times).best_peer == "other, gated"
    assert comparison(8, 1, changed | {"other": 0.01}, **times).best_peer == "other"
    assert comparison(8, 1, dict.fromkeys(times, 1.0), **times).best_peer == EAGER  # over which all else is


def test_answers_are_counted_against_the_network_and_the_labels(network):
    inputs = torch.randn(100, 40)
    own = network(inputs).argmax(1)
    labels = torch.where(torch.arange(100) < 10, own, (own + 1) % 5)

    def otherwise(layers, calibration, batches, threads):
        """As the network answers, but for those inputs that are large in one place; as ONNX Runtime gives it."""

        def run(x):
            answers = (network(x).argmax(1) + (x[:, 0] > 1)) % 5
            return [torch.nn.functional.one_hot(answers, 5).numpy()]

        return run

    found = compare(network, inputs, inputs, 10, 1, 0.0, {"otherwise": otherwise}, labels=labels)
    assert list(found.answers) == list(found.timings)
    large = inputs[:, 0] > 1
    assert found.answers["otherwise"].changed == pytest.approx(large.double().mean().item())
    wrong = torch.where(large, (own + 1) % 5, own) != labels
    assert found.answers["otherwise"].error == pytest.approx(100 * wrong.double().mean().item())
    assert found.answers["otherwise, gated"] == found.answers["otherwise"]
    assert found.answers[f"{EAGER}, gated"].changed == 0
    assert found.as_json()["answers"]["otherwise"]["changed"] == found.answers["otherwise"].changed


def test_answers_are_counted_on_so_many_calls(network, monkeypatch):
    monkeypatch.setattr(benchmark, "CALLS", 3)
    inputs = torch.randn(20, 40)
    labels = network(inputs).argmax(1)
    found = compare(network, inputs, inputs, 4, 1, 0.0, {}, labels=labels, max_disagreement=0.0)
    assert found.answers[f"{EAGER}, gated"] == Answers(0.0, 0.0)  # each image beside its own label
    seen = []
    monkeypatch.setattr(benchmark, "answered", lambda run, batches: seen.append(len(batches)) or labels[:12])
    monkeypatch.setattr(benchmark, "_counted", lambda *given: Answers(0.0, None))
    compare(network, inputs, inputs, 4, 1, 0.0, {}, labels=labels)
    assert seen == [3] * 4  # the network itself, torch without gates and with them, the engine


def test_a_few_inputs_tell_who_is_honest(network, monkeypatch):
    seen = []

    def peer(layers, calibration, batches, threads):
        return lambda x: seen.append(len(x)) or network(x)

    monkeypatch.setattr(benchmark, "turns", lambda runs, *given: [{name: [1.0] for name in runs}])
    found = compare(network, torch.randn(50, 40), torch.randn(600, 40), 100, 1, 0.0, {"peer": peer})
    assert found.answers["peer"] == Answers(0.0, None)
    assert seen == [100] * 3 * 2  # no fewer than 256 inputs, without gates and with them


def test_a_cpus_instructions_are_named(monkeypatch):
    assert set(benchmark.instructions()) <= {"FMA", "AVX-512", "VNNI in 256 bits", "VNNI in 512 bits", "AMX"}
    for name, has in (("FUSES", True), ("COMPRESSES", False), ("WIDTH", 256), ("allowed", lambda: False)):
        monkeypatch.setattr(benchmark, name, has)
    assert benchmark.instructions() == ["FMA", "VNNI in 256 bits"]


def test_a_gain_is_found_turn_by_turn_and_has_an_interval():
    turns = [{EAGER: [6.0 * k, 6.0 * k, 99.0], ENGINE: [2.0 * k]} for k in (1, 1, 1, 50, 1, 1)]
    assert gain(turns) == Interval(3.0, 3.0, 3.0)  # a busy moment hits both, and cancels
    turns[0][ENGINE] = [3.0]
    assert gain(turns) == Interval(3.0, 2.0, 3.0)
    assert is_known(turns[1:])
    assert not is_known(turns)


def test_networks_are_timed_beside_each_other(network):
    timed = Timed(network, torch.randn(100, 40), torch.randn(50, 40))
    found = compare_networks({"a": timed, 7: timed}, 16, rounds=6, seconds=0.01)
    assert list(found) == ["a", 7]
    for rounds in found.values():
        assert len(rounds) == 6
        assert all(0 < gain < 100 for gain in rounds)


def test_networks_are_all_timed_against_torch_without_gates(network, monkeypatch):
    """Else a gate that costs torch much would be a speed-up."""
    gates, eager = [], benchmark.peers.eager

    def seen(layers):
        gates.extend(layer.gate for layer in layers)
        return eager(layers)

    monkeypatch.setattr(benchmark.peers, "eager", seen)
    timed = Timed(network, torch.randn(64, 40), torch.randn(64, 40))
    compare_networks({"gated": timed}, 16, rounds=1, seconds=0.01)
    assert len(gates) > 1
    assert not any(gates)


def test_all_candidates_get_the_same_threads_and_batches(network, monkeypatch):
    asked, seen = {}, []
    inputs = torch.randn(40, 40)

    def turns(candidates, seconds, enough, pace):
        asked.update(seconds=seconds, names=list(candidates), threads=torch.get_num_threads())
        for run in candidates.values():
            run()
        return [{name: [1.0] for name in candidates}]

    def peer(layers, calibration, batches, threads):
        asked.update(layers=len(layers), peer_threads=threads, batches=batches)
        return lambda x: seen.append(x) or network(x)

    monkeypatch.setattr(benchmark, "turns", turns)
    monkeypatch.setattr(
        tune,
        "race",
        lambda candidates, seconds: (
            asked.update(plan_seconds=seconds) or {name: [1.0] for name in candidates}
        ),
    )
    before = torch.get_num_threads()
    found = compare(network, inputs[:30], inputs, 4, 3, 7.5, {"peer": peer}, plan_seconds=0.25)
    assert torch.get_num_threads() == before
    assert asked["names"] == [EAGER, f"{EAGER}, gated", "peer", "peer, gated", ENGINE]
    assert (asked["seconds"], asked["threads"], asked["peer_threads"], asked["layers"]) == (7.5, 3, 3, 3)
    assert asked["plan_seconds"] in (0.25, 0.5)  # two races of the whole are as one
    assert (found.plan.batch_size, found.plan.threads) == (4, 3)
    batches = split(inputs, 4)
    assert all(torch.equal(*pair) for pair in zip(asked["batches"], batches, strict=True))
    assert any(torch.equal(seen[0], batch) for batch in batches)
    assert found.unavailable == {}
    assert [timing.median for timing in found.timings.values()] == [1.0] * 5


def test_what_a_benchmark_times_by_default(monkeypatch):
    layers, batches, asked = draw([6, 5, 4], rank=2, seed=0), [torch.ones(1, 6)], {}
    for name in ("compiled_by_torch", "bfloat16", "int8_of_torch", "onnx", "int8", "onnxruntime"):
        monkeypatch.setattr(benchmark.peers, name, lambda *given, name=name: (name, *given))
    monkeypatch.setattr(benchmark, "Apart", lambda *given: ("apart", *given))
    for name, make in benchmark.PEERS.items():
        asked[name] = make(layers, "calibration", batches, 2)
    exact = asked.pop(EXACT)
    assert (exact.ways, exact.threads) == ((INPUT_SPARSE, INPUT_SPARSE), 2)
    assert asked == {
        "torch.compile": ("compiled_by_torch", layers, batches[0]),
        "ONNX Runtime float32": ("onnxruntime", ("onnx", layers), 2),
        "torch bfloat16": ("bfloat16", layers),
        "torch int8": ("int8_of_torch", layers),
        "ONNX Runtime int8": ("onnxruntime", ("int8", layers), 2),
        "ONNX Runtime int8 static": ("onnxruntime", ("int8", layers, "calibration"), 2),
        "OpenVINO float32": ("apart", ("onnx", layers), "f32", 2, batches),
        "OpenVINO bfloat16": ("apart", ("onnx", layers), "bf16", 2, batches),
        "OpenVINO int8": ("apart", ("int8", layers, "calibration"), "f32", 2, batches),
    }
    assert benchmark.QUICK.items() <= benchmark.PEERS.items()


def test_batches_are_the_same_each_time_in_an_order_of_their_own():
    inputs = torch.arange(30)[:, None].float()
    first, again = split(inputs, 4), split(inputs, 4)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert len(first) == 15  # twice all inputs, as once would not make eight batches
    halves = torch.cat(first)[:30, 0], torch.cat(first)[30:, 0]
    assert [sorted(half.tolist()) for half in halves] == [list(range(30))] * 2
    assert halves[0].tolist() != halves[1].tolist()
