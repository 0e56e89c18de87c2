import pytest
import torch

from ccsweep.errors import UserError
from ccsweep.estimator.fit import EstimatorSettings, fit
from tests.estimator.conftest import make


def test_a_number_moves_every_threshold() -> None:
    layer = make(12, 9)
    (free,) = fit([layer], EstimatorSettings(ranks=(4,)), 108)
    (strict,) = fit([layer], EstimatorSettings(ranks=(4,), threshold=0.7), 108)
    torch.testing.assert_close(strict.shift, free.shift - 0.7)


def test_ranks_by_energy_and_by_budget() -> None:
    layers = [make(12, 9, samples=400), make(9, 7, samples=400, seed=1)]
    small, large = (fit(layers, EstimatorSettings("whitened", energy=share), 171) for share in (0.5, 0.999))
    assert all(len(a.v) < len(b.v) for a, b in zip(small, large, strict=True))
    budgeted = fit(layers, EstimatorSettings("whitened", budget=0.5), 171)
    assert sum(len(f.v) * (f.u.shape[0] + f.v.shape[1]) for f in budgeted) <= 0.5 * 171


def test_a_rank_larger_than_the_layer() -> None:
    with pytest.raises(UserError, match=r"^rank 10 for the 12x9 layer: expected 1 to 9$"):
        fit([make(12, 9)], EstimatorSettings(ranks=(10,)), 108)


@pytest.mark.parametrize("name", ["svd", "whitened", "learned"])
def test_thresholds_do_not_add_up_from_one_warm_refresh_to_the_next(name: str) -> None:
    layer, settings = (
        make(12, 9, samples=400),
        EstimatorSettings(name, ranks=(4,), threshold=50.0, refresh="warm"),
    )
    found = fit([layer], settings, 108)
    for _ in range(3):
        found = fit([layer], settings, 108, found)
    assert float(found[0].shift.mean()) == pytest.approx(-50, abs=5)
