import torch

from ccsweep.estimator import ESTIMATORS
from tests.estimator.conftest import make

RANDOM = ESTIMATORS["random"]


def test_directions_are_drawn_from_the_same_numbers_always() -> None:
    """A checkpoint's gates do not change with the process that looks at them."""
    layer = make(12, 9)
    drawn = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    q = torch.linalg.qr(drawn)[0]
    for method in ("full", "warm", "randomised"):
        u, v, shift = RANDOM.factors(layer, 4, method)
        torch.testing.assert_close(u @ v, layer.weight @ q @ q.T)
        assert not shift.any()


def test_ranks_by_energy_are_those_of_the_svd() -> None:
    layer = make(12, 9)
    assert torch.equal(RANDOM.spectrum(layer).values, ESTIMATORS["svd"].spectrum(layer).values)


def test_operations_by_hand() -> None:
    """4 h r^2 for the QR of (h, r), 2 d h r for the product with W."""
    assert RANDOM.operations(100, 80, 3, "full") == 2880 + 48000
