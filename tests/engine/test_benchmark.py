from itertools import islice

import pytest
import torch

from ccsweep.engine import benchmark, tune
from ccsweep.engine.benchmark import (
    EAGER,
    ENGINE,
    EXACT,
    Comparison,
    Timed,
    Timing,
    compare,
    compare_networks,
    differing,
    figures,
    gain,
    is_known,
    split,
)
from ccsweep.engine.clock import Interval
from ccsweep.engine.peers import UnavailableError
from ccsweep.engine.plan import Plan


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


def test_a_comparison(network):
    inputs = torch.randn(300, 40)

    def none(layers, calibration, x, threads):
        assert x.shape == (32, 40)
        raise UnavailableError("not on this machine")

    others = {"none": none, "exact skip": benchmark.PEERS["exact skip"]}
    found = compare(network, inputs, inputs, 32, threads=1, seconds=0.0, with_peers=others)
    assert list(found.timings) == [EAGER, "exact skip", ENGINE]
    for timing in found.timings.values():
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.calls >= 7
    assert found.unavailable == {"none": "not on this machine"}
    assert found.speedup(EAGER) == 1
    assert found.speedup() == found.timings[EAGER].median / found.timings[ENGINE].median
    assert found.differing <= 0.01
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


def test_differing_predictions_are_counted(network):
    inputs = torch.randn(50, 40)
    others = (network(inputs).argmax(1) + (torch.arange(50) < 5)) % 5
    assert differing(network, lambda x: torch.nn.functional.one_hot(others, 5), inputs) == 0.1
    assert differing(network, network, inputs) == 0


def test_a_timing_is_its_quartiles():
    assert benchmark._timing([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 2.0, 4.0, 5)
    assert benchmark._timing([1.0, 2.0]) == Timing(1.5, 1.25, 1.75, 2)


GAIN, LEAD = Interval(3.14159, 2.9, 3.5), Interval(1.23456, 1.2, 1.3)


def comparison(network, batch: int, threads: int, **timings: float) -> Comparison:
    plan = Plan(batch, threads, "auto", (), 1.0, 1.0, 0.0, 1, 1)
    return Comparison(
        plan, {name: Timing(took, took, took, 9) for name, took in timings.items()}, {}, 0.0, GAIN, LEAD
    )


def test_speedups_are_over_torch_eager(network):
    compared = comparison(network, 8, 1, **{EAGER: 60.0, "other": 120.0, ENGINE: 7.0})
    assert (compared.speedup(EAGER), compared.speedup("other")) == (1, 0.5)
    assert compared.speedup() == compared.speedup(ENGINE) == 60 / 7
    assert compared.as_json()["speedup"] == {EAGER: 1, "other": 0.5, ENGINE: 60 / 7}
    others = (
        comparison(network, 8, 2, **{EAGER: 1.0, ENGINE: 1.0}),
        comparison(network, 64, 1, **{EAGER: 3.0, ENGINE: 1.0}),
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


def test_the_best_peer_is_none_of_ours(network):
    times = {EAGER: 60.0, "other": 20.0, EXACT: 5.0, ENGINE: 4.0}
    compared = comparison(network, 8, 1, **times)
    assert compared.best_peer == compared.as_json()["best_peer"] == "other"
    assert compared.speedup(over=compared.best_peer) == 5
    assert comparison(network, 8, 1, **{EAGER: 60.0, ENGINE: 4.0}).best_peer == EAGER
    assert gain([{"other": [6.0], ENGINE: [2.0]}] * 6, over="other") == Interval(3.0, 3.0, 3.0)


def test_answers_are_counted_against_the_network_and_the_labels(network):
    inputs = torch.randn(100, 40)
    own = network(inputs).argmax(1)
    labels = torch.where(torch.arange(100) < 10, own, (own + 1) % 5)

    def otherwise(layers, calibration, x, threads):
        """As the network answers, but for those inputs that are large in one place; as ONNX Runtime gives it."""

        def run(x):
            answers = (network(x).argmax(1) + (x[:, 0] > 1)) % 5
            return [torch.nn.functional.one_hot(answers, 5).numpy()]

        return run

    found = compare(network, inputs, inputs, 10, 1, 0.0, {"otherwise": otherwise}, labels=labels)
    assert list(found.answers) == [EAGER, "otherwise", ENGINE]
    large = inputs[:, 0] > 1
    assert found.answers["otherwise"].changed == pytest.approx(large.double().mean().item())
    wrong = torch.where(large, (own + 1) % 5, own) != labels
    assert found.answers["otherwise"].error == pytest.approx(100 * wrong.double().mean().item())
    assert found.answers[ENGINE].changed == found.differing
    assert found.as_json()["answers"]["otherwise"]["changed"] == found.answers["otherwise"].changed
    assert compare(network, inputs, inputs, 10, 1, 0.0, {}).answers == {}


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


def test_all_candidates_get_the_same_threads_and_batches(network, monkeypatch):
    asked, seen = {}, []
    inputs = torch.randn(40, 40)

    def turns(candidates, seconds, enough):
        asked.update(seconds=seconds, names=list(candidates), threads=torch.get_num_threads())
        for run in candidates.values():
            run()
        return [{name: [1.0] for name in candidates}]

    def peer(layers, calibration, x, threads):
        asked.update(layers=len(layers), peer_threads=threads, example=x)
        return seen.append

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
    assert asked["names"] == [EAGER, "peer", ENGINE]
    assert (asked["seconds"], asked["threads"], asked["peer_threads"], asked["layers"]) == (7.5, 3, 3, 3)
    assert asked["plan_seconds"] in (0.25, 0.5)  # two races of the whole are as one
    assert (found.plan.batch_size, found.plan.threads) == (4, 3)
    batches = split(inputs, 4)
    assert torch.equal(asked["example"], batches[0])
    assert any(torch.equal(seen[0], batch) for batch in batches)
    assert found.unavailable == {}
    assert [timing.median for timing in found.timings.values()] == [1.0] * 3


def test_what_a_benchmark_times_by_default(monkeypatch):
    asked = []
    makers = (
        "compiled_by_torch",
        "onnxruntime",
        "bfloat16",
        "int8_of_torch",
        "onnxruntime_int8",
        "exact_skip",
    )
    for name in makers:
        monkeypatch.setattr(benchmark.peers, name, lambda *given, name=name: asked.append((name, given)))
    for make in benchmark.PEERS.values():
        make("layers", "calibration", "x", 2)
    assert list(benchmark.PEERS) == [
        *("torch.compile", "ONNX Runtime float32", "torch bfloat16", "torch int8"),
        *("ONNX Runtime int8", "ONNX Runtime int8 static", "exact skip"),
    ]
    assert asked == [
        ("compiled_by_torch", ("layers", "x")),
        ("onnxruntime", ("layers", 2)),
        ("bfloat16", ("layers",)),
        ("int8_of_torch", ("layers",)),
        ("onnxruntime_int8", ("layers", 2)),
        ("onnxruntime_int8", ("layers", 2, "calibration")),
        ("exact_skip", ("layers", 2)),
    ]
    assert benchmark.QUICK.items() <= benchmark.PEERS.items()


def test_many_inputs_are_compared_a_part_at_a_time(network, monkeypatch):
    sizes = []
    monkeypatch.setattr(benchmark, "BATCH", 20)

    def engine(x):
        sizes.append(len(x))
        return network(x)

    assert differing(network, engine, torch.randn(50, 40)) == 0
    assert sizes == [20, 20, 10]


def test_batches_are_the_same_each_time_in_an_order_of_their_own():
    inputs = torch.arange(30)[:, None].float()
    first, again = split(inputs, 4), split(inputs, 4)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert len(first) == 15  # twice all inputs, as once would not make eight batches
    halves = torch.cat(first)[:30, 0], torch.cat(first)[30:, 0]
    assert [sorted(half.tolist()) for half in halves] == [list(range(30))] * 2
    assert halves[0].tolist() != halves[1].tolist()
