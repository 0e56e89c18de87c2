import pytest

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.budget import ranks_within
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
