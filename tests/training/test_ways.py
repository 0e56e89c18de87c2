"""Which way a step goes is decided by the clock, on steps that train."""

import pytest

from ccsweep.errors import UserError
from ccsweep.training import ways
from ccsweep.training.ways import DENSE, SKIPPING, TRIES, Ways, open_ways


class Clock:
    """Time that passes as a step takes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds
        monkeypatch.setattr(ways.time, "perf_counter", lambda: self.now)

    def epoch(self, of: Ways, epoch: int, steps: int = 20) -> list[str]:
        of.begin_epoch(epoch)
        gone = []
        for _ in range(steps):
            gone.append(of.next())
            with of.clock(gone[-1]):
                self.now += self.seconds[gone[-1]]
        return gone


def test_both_ways_are_tried_and_the_quicker_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, both = Clock(monkeypatch, dense=0.020, skipping=0.005), Ways(DENSE, SKIPPING)
    gone = clock.epoch(both, 0)
    assert gone == [DENSE] * TRIES + [SKIPPING] * (20 - TRIES)
    assert both.figures() == {
        "train/skipping": (20 - TRIES) / 20,
        "train/step_ms/dense": pytest.approx(20),
        "train/step_ms/skipping": pytest.approx(5),
    }
    assert clock.epoch(both, 3) == [SKIPPING] * 20
    assert both.figures()["train/skipping"] == 1


def test_it_is_compared_again_at_epochs_1_2_4_8_as_activations_get_sparse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, both = Clock(monkeypatch, dense=0.010, skipping=0.020), Ways(DENSE, SKIPPING)
    assert clock.epoch(both, 0)[-1] == DENSE
    compared = []
    for epoch in range(1, 18):
        clock.seconds[SKIPPING] = 0.004 if epoch >= 4 else 0.020
        if len(set(clock.epoch(both, epoch))) > 1:
            compared.append(epoch)
        assert both.chosen == (SKIPPING if epoch >= 4 else DENSE)
    assert compared == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("dense", "skipping", "chosen"),
    [
        (10.0, 11.0, [SKIPPING, SKIPPING]),
        (10.0, 11.1, [DENSE, DENSE]),
        (11.1, 10.0, [SKIPPING, SKIPPING]),
    ],
)
def test_a_way_is_left_for_a_clearly_quicker_one(
    dense: float, skipping: float, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, both, found = Clock(monkeypatch, dense=dense, skipping=skipping), Ways(DENSE, SKIPPING), []
    for epoch in (0, 1):
        clock.epoch(both, epoch)
        found.append(both.chosen)
    assert found == chosen
    clock.seconds = {DENSE: 10.0, SKIPPING: 10.0}
    clock.epoch(both, 2)
    assert both.chosen == chosen[-1]


def test_what_else_the_machine_does_counts_for_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, both = Clock(monkeypatch, dense=10.0, skipping=9.0), Ways(DENSE, SKIPPING)
    both.begin_epoch(0)
    for number in range(2 * TRIES):
        with both.clock(both.next()):
            clock.now += 9.0 if number == TRIES + 2 else 50.0 if number > TRIES else 10.0
    assert both.chosen == SKIPPING


def test_a_resumed_run_compares_in_its_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, both = Clock(monkeypatch, dense=0.010, skipping=0.001), Ways(DENSE, SKIPPING)
    assert set(clock.epoch(both, 7)) == {DENSE, SKIPPING}


def test_a_comparison_that_an_epoch_cuts_short_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, both = Clock(monkeypatch, dense=0.010, skipping=0.001), Ways(DENSE, SKIPPING)
    assert clock.epoch(both, 0, steps=3) == [DENSE] * 3
    assert both.chosen is None
    assert clock.epoch(both, 3, steps=20)[-1] == SKIPPING


@pytest.mark.parametrize("way", [DENSE, SKIPPING])
def test_a_single_way_is_not_timed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, one = Clock(monkeypatch, dense=0.010, skipping=0.001), Ways(way)
    assert clock.epoch(one, 0) == [way] * 20
    assert one.figures() == {"train/skipping": float(way == SKIPPING)}


@pytest.mark.parametrize(
    ("wanted", "device", "precision", "found"),
    [
        ("auto", "cpu", "float32", (DENSE, SKIPPING)),
        ("skipping", "cpu", "float32", (SKIPPING,)),
        ("dense", "cpu", "float32", (DENSE,)),
        ("auto", "cuda", "float32", (DENSE,)),
        ("auto", "cpu", "bfloat16", (DENSE,)),
        ("dense", "cuda", "bfloat16", (DENSE,)),
    ],
)
def test_kernels_that_skip_are_the_cpus(
    wanted: str, device: str, precision: str, found: tuple[str, ...]
) -> None:
    assert open_ways(wanted, device, precision) == found


@pytest.mark.parametrize(("device", "precision"), [("cuda", "float32"), ("cpu", "bfloat16")])
def test_skipping_is_refused_elsewhere(device: str, precision: str) -> None:
    with pytest.raises(UserError) as caught:
        open_ways("skipping", device, precision)
    assert str(caught.value) == (
        f"training.step=skipping: found training.device={device} training.precision={precision}; "
        "expected cpu and float32, or training.step=auto"
    )
