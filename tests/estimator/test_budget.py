import numpy as np
import pytest

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.budget import _false_offs, ranks_within
from tests.estimator.conftest import make


def false_offs(layers, ranks) -> float:
    total = 0.0
    for layer, rank in zip(layers, ranks, strict=True):
        gate = ESTIMATORS["whitened"].factors(layer, rank).gate(layer.inputs, layer.bias)
        total += float((~gate & (layer.preactivation > 0)).sum())
    return total


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 1.0])
def test_the_budget_is_kept_and_used(share: float) -> None:
    layers = [make(40, 60, samples=300), make(60, 30, samples=300, seed=1)]
    dense = sum(layer.weight.numel() for layer in layers)
    ranks = ranks_within(layers, ESTIMATORS["whitened"], share, dense)
    cost = sum(rank * sum(layer.weight.shape) for rank, layer in zip(ranks, layers, strict=True))
    assert cost <= share * dense
    full = all(rank == min(layer.weight.shape) for rank, layer in zip(ranks, layers, strict=True))
    assert full or cost > share * dense - 100 or false_offs(layers, ranks) == 0


def test_ranks_go_where_they_save_most() -> None:
    """One layer of rank 3 needs no more; all that is left belongs to the other one."""
    thin, thick = make(40, 40, samples=300), make(40, 40, samples=300, seed=1)
    u, v, _ = ESTIMATORS["svd"].factors(thin, 3)
    thin.weight = u @ v
    spread = ranks_within([thin, thick], ESTIMATORS["whitened"], 0.3, 3200)
    assert spread[0] <= 4 < spread[1]
    even = [sum(spread) // 2] * 2
    assert false_offs([thin, thick], spread) < false_offs([thin, thick], even)


def test_a_budget_too_small_for_rank_one() -> None:
    layers = [make(40, 60), make(60, 30)]
    with pytest.raises(UserError) as caught:
        ranks_within(layers, ESTIMATORS["svd"], 0.01, 4200)
    assert str(caught.value) == (
        "ranks.budget=0.01: does not pay for rank 1 in every layer; expected 0.0452 or more"
    )


SVD = ESTIMATORS["svd"]


def spend(
    monkeypatch: pytest.MonkeyPatch, multiplications: int, *layers: tuple[int, dict[int, float]]
) -> list[int]:
    """Ranks for square layers of so many units, that miss what a table says from each rank on."""
    tables = {f"{units}x{units}": missed for units, missed in layers}

    def from_table(layer, estimator, grid):
        return [next(m for r, m in reversed(tables[str(layer)].items()) if r <= rank) for rank in grid]

    monkeypatch.setattr("ccsweep.estimator.budget._false_offs", from_table)
    found = [make(units, units) for units, _ in layers]
    return ranks_within(found, SVD, multiplications / 1024, 1024)


SLOW = {rank: 11.0 - rank for rank in range(1, 11)}  # one saved by each rank


def test_steps_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 everywhere costs 20 + 6 + 24, the third layer's rank 2 is the best buy, at 24 more."""
    late = {1: 90.0, 4: 30.0, 8: 10.0}  # three ranks that save 60, then four that save 20
    layers = (10, late), (3, SLOW), (12, {1: 200.0, 2: 0.0})
    for left, ranks in (
        (0, [1, 1, 1]),
        (24, [1, 1, 2]),
        (24 + 40, [3, 1, 2]),  # on the way to rank 4
        (24 + 50, [3, 2, 2]),  # what is left is enough for another layer
        (24 + 60, [4, 1, 2]),
        (24 + 60 + 80, [8, 1, 2]),
        (24 + 60 + 80 + 6, [8, 2, 2]),
        (974, [8, 3, 2]),  # more ranks save nothing
    ):
        assert spend(monkeypatch, 50 + left, *layers) == ranks


def test_what_a_step_saves_counts_by_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks of one save 3 of 80 multiplications, two of the other 2 of 40."""
    dear, cheap = {1: 3.0, 3: 0.0}, {1: 2.0, 3: 0.0}
    assert spend(monkeypatch, 60 + 40, (20, dear), (10, cheap)) == [1, 3]
    assert spend(monkeypatch, 60 + 119, (20, dear), (10, cheap)) == [2, 3]


def test_each_rank_of_a_layer_that_saves_less_and_less_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 4 saves 10 for 20 multiplications, rank 5 would save 5; the other layer saves 9.9 for 22."""
    layers = (
        (10, {1: 100.0, 2: 60.0, 3: 40.0, 4: 30.0, 5: 25.0}),
        (11, {r: 99.0 - 9.9 * r for r in range(1, 9)}),
    )
    assert spend(monkeypatch, 42 + 40 + 22, *layers) == [4, 1]
    assert spend(monkeypatch, 42 + 60 + 22, *layers) == [4, 2]


def test_what_cannot_be_reached_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (10, {1: 900.0, 6: 0.0}), (11, SLOW)
    assert spend(monkeypatch, 42 + 80, *layers) == [1, 4]
    assert spend(monkeypatch, 42 + 100, *layers) == [6, 1]


def test_false_offs_are_counted_per_sample() -> None:
    layer = make(12, 9, samples=1500)
    layer.weight[:, 0], layer.bias[0] = 0.0, 0.0  # never positive
    layer.weight *= 0.2
    x, w, b = (t.double().numpy() for t in (layer.inputs[:1000], layer.weight, layer.bias))
    u, s, v = np.linalg.svd(w)
    expected = [((x @ w + b > 0) & (x @ (u[:, :r] * s[:r] @ v[:r]) + b <= 0)).sum() / 1000 for r in (1, 3)]
    assert _false_offs(layer, SVD, [1, 3]) == pytest.approx(expected, abs=0.005)
