import pytest
import torch

from ccsweep.errors import UserError
from ccsweep.estimator.fit import Estimator, fit
from tests.estimator.conftest import make


def test_a_number_moves_every_threshold() -> None:
    layer = make(12, 9)
    (free,) = fit([layer], Estimator(ranks=(4,)), 108)
    (strict,) = fit([layer], Estimator(ranks=(4,), threshold=0.7), 108)
    torch.testing.assert_close(strict.shift, free.shift - 0.7)


@pytest.mark.parametrize("name", ["svd", "whitened-centred"])
def test_an_energy_loss_is_kept_on_the_calibration_inputs(name: str) -> None:
    layer = make(12, 9, samples=400)
    (factors,) = fit([layer], Estimator(name, ranks=(2,), energy_loss=0.05), 108)
    energy = layer.preactivation.relu().square()
    missed = energy * ~factors.gate(layer.inputs, layer.bias)
    # The sample that sets a threshold may fall on either side of it by rounding: one more of 400.
    assert (missed.sum(0) <= 0.05 * energy.sum(0) + energy.max(0).values).all()


def test_a_density_is_met_on_the_calibration_inputs() -> None:
    layers = [make(12, 9, samples=400), make(9, 7, samples=400, seed=1)]
    for layer, factors in zip(
        layers, fit(layers, Estimator("whitened", ranks=(4, 3), density=0.2), 171), strict=True
    ):
        assert float(factors.gate(layer.inputs, layer.bias).float().mean()) == pytest.approx(0.2, abs=0.002)


def test_ranks_by_energy_and_by_budget() -> None:
    layers = [make(12, 9, samples=400), make(9, 7, samples=400, seed=1)]
    small, large = (fit(layers, Estimator("whitened", energy=share), 171) for share in (0.5, 0.999))
    assert all(len(a.v) < len(b.v) for a, b in zip(small, large, strict=True))
    budgeted = fit(layers, Estimator("whitened", budget=0.5), 171)
    assert sum(len(f.v) * (f.u.shape[0] + f.v.shape[1]) for f in budgeted) <= 0.5 * 171


def test_a_rank_larger_than_the_layer() -> None:
    with pytest.raises(UserError, match=r"^rank 10 for the 12x9 layer: expected 1 to 9$"):
        fit([make(12, 9)], Estimator(ranks=(10,)), 108)


@pytest.mark.parametrize("name", ["svd", "whitened", "learned"])
def test_thresholds_do_not_add_up_from_one_warm_refresh_to_the_next(name: str) -> None:
    layer, settings = make(12, 9, samples=400), Estimator(name, ranks=(4,), threshold=50.0, refresh="warm")
    found = fit([layer], settings, 108)
    for _ in range(3):
        found = fit([layer], settings, 108, found)
    assert float(found[0].shift.mean()) == pytest.approx(-50, abs=5)
