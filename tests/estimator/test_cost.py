import pytest

from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.cost import (
    DENSE,
    GATED,
    INPUT_SPARSE,
    TWO_SIDED,
    LayerCost,
    limit,
    products,
    speedup_limit,
    svd_operations,
    theoretical_speedup,
    work,
)

SVHN = [1024, 1500, 700, 400, 200]


def svhn(ranks: list[int], density: float, method: str = "full") -> list[LayerCost]:
    return [
        LayerCost(d, h, r, density, ESTIMATORS["svd"].operations(d, h, r, method))
        for d, h, r in zip(SVHN, SVHN[1:], ranks, strict=False)
    ]


@pytest.mark.parametrize(("density", "expected"), [(0.05, 5.77), (0.10, 4.48), (0.25, 2.68)])
def test_the_svhn_network_at_75_50_40_30(density: float, expected: float) -> None:
    """The figures of shared/reference/kernels.md, which leave the output layer and the SVD out."""
    assert theoretical_speedup(svhn([75, 50, 40, 30], density)) == pytest.approx(expected, rel=0.005)


def test_one_layer_is_one_over_density_plus_rank_cost() -> None:
    d, h, r = 1024, 1500, 50
    bound = 1 / (0.1 + r * (d + h) / (d * h))
    assert theoretical_speedup([LayerCost(d, h, r, 0.1)]) == pytest.approx(bound, rel=0.002)


def test_operations_by_hand() -> None:
    # d, h, r, density, and what a refresh costs; dense: N (2d - 1) h + N h.
    layers = [LayerCost(3, 4, 2, 0.5, 1000), LayerCost(4, 2), LayerCost(2, 5, 1, 1.0)]
    # Estimates: 5 * 2 + 3 * 4 + 4 = 26, and 3 * 1 + 1 * 5 + 5 = 13.
    dense, conditional = 24 + 16 + 20, (26 + 0.5 * 24) + 16 + (13 + 20)
    assert (dense, conditional) == (60, 87)
    assert theoretical_speedup(layers) == pytest.approx(dense / conditional)
    assert theoretical_speedup(layers, refreshes=0.1) == pytest.approx(60 / (87 + 100))
    assert theoretical_speedup(layers, batch=10, refreshes=0.1) == pytest.approx(600 / (870 + 100))


def test_the_control_gains_nothing() -> None:
    assert theoretical_speedup([LayerCost(64, 32)], refreshes=0.5) == 1.0


def test_the_svd_costs_what_it_costs() -> None:
    layers = svhn([75, 50, 40, 30], 0.1)
    free = theoretical_speedup(layers, batch=250)
    paid = theoretical_speedup(layers, batch=250, refreshes=1 / 200)
    assert paid < free
    assert theoretical_speedup(layers, batch=250, refreshes=1.0) < 1.0


def test_a_warm_refresh_is_cheapest_and_a_full_one_dearest() -> None:
    costs = [
        theoretical_speedup(svhn([75, 50, 40, 30], 0.1, method), batch=250, refreshes=1 / 200)
        for method in ("full", "randomised", "warm")
    ]
    assert costs == sorted(costs)
    # One iteration at rank 75 of the 1024x1500 layer: two products with W, one QR.
    assert ESTIMATORS["svd"].operations(1024, 1500, 75, "warm") == 4 * 1024 * 1500 * 75 + 4 * 1024 * 75**2


def test_svd_operations_do_not_depend_on_which_side_is_longer() -> None:
    # Nearly square: 14 m n^2 + 8 n^3 is the cheaper of the two.
    assert svd_operations(100, 80) == svd_operations(80, 100) == 14 * 100 * 80**2 + 8 * 80**3
    assert svd_operations(700, 400) == svd_operations(400, 700) == 6 * 700 * 400**2 + 20 * 400**3


@pytest.mark.parametrize(
    ("layers", "inputs", "limit"),
    [
        ([LayerCost(100, 50)], [1.0], 1.0),
        ([LayerCost(100, 50)], [0.2], 5.0),
        ([LayerCost(100, 50, None, 0.1)], [1.0], 1.0),  # no gate, so every unit is computed
        ([LayerCost(100, 50, 5, 0.1)], [1.0], 1 / (0.1 + 5 * 150 / 5000)),
        ([LayerCost(100, 50, 5, 0.1)], [0.5], 1 / (0.05 + 5 * 100 / 5000)),
        ([LayerCost(100, 50, 50, 1.0)], [0.2], 5.0),  # the estimator costs more than it saves
        ([LayerCost(100, 50), LayerCost(50, 10)], [1.0, 0.0], 5500 / 5000),
    ],
)
def test_the_limit_takes_the_cheapest_way_of_each_layer(layers, inputs, limit):
    assert speedup_limit(layers, inputs) == pytest.approx(limit)


# 1000x500, rank 50: a fifth of the inputs are not zero, a tenth of the units are computed.
# The estimator: 50 (0.2 * 1000 + 500) / (1000 * 500) = 0.07 of the dense work.
@pytest.mark.parametrize(
    ("way", "share", "left"),
    [(DENSE, 1.0, 1.0), (INPUT_SPARSE, 0.2, 0.2), (GATED, 0.1, 0.17), (TWO_SIDED, 0.02, 0.09)],
)
def test_what_a_way_leaves_to_do(way, share, left):
    layer = LayerCost(1000, 500, 50, 0.1)
    assert products(way, 0.2, 0.1) == pytest.approx(share)
    assert work(way, layer, 0.2) == pytest.approx(left)
    assert limit(way, layer, 0.2) == pytest.approx(1 / left)
    assert work(way, layer._replace(rank=None), 0.2) == pytest.approx(share)


def test_nothing_left_to_compute_is_a_finite_limit():
    assert limit(INPUT_SPARSE, LayerCost(1000, 500), 0.0) == 500_000
    assert limit(TWO_SIDED, LayerCost(20, 5), 0.0) == 100
    assert speedup_limit([LayerCost(20, 5)], [0.0]) == 1.0


def test_the_limit_of_a_network_needs_a_density_for_each_layer():
    with pytest.raises(ValueError, match="shorter"):
        speedup_limit([LayerCost(4, 4), LayerCost(4, 2)], [1.0])
