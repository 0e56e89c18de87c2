import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.estimator.factors import energy_rank, svd

sizes = st.integers(1, 24)


def weights(inputs: int, units: int, seed: int) -> torch.Tensor:
    return torch.randn(inputs, units, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 999))
def test_full_rank_gives_the_weights_back(inputs: int, units: int, seed: int) -> None:
    weight = weights(inputs, units, seed)
    u, v = svd(weight, rank=min(inputs, units))
    torch.testing.assert_close(u @ v, weight, rtol=0, atol=1e-4)


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 999), st.data())
def test_the_error_is_the_energy_left_out(inputs: int, units: int, seed: int, data) -> None:
    """Eckart and Young: no rank-r factors do better than the singular values left out."""
    weight = weights(inputs, units, seed).double()
    rank = data.draw(st.integers(1, min(inputs, units)))
    u, v = svd(weight, rank=rank)
    left_out = torch.linalg.svdvals(weight)[rank:].square().sum()
    torch.testing.assert_close((weight - u @ v).square().sum(), left_out, rtol=1e-3, atol=1e-4)


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 999), st.floats(0.01, 1.0))
def test_energy_rank_is_enough_and_no_more(inputs: int, units: int, seed: int, share: float) -> None:
    values = torch.linalg.svdvals(weights(inputs, units, seed)).double()
    rank = energy_rank(values, share)
    energy = values.square()
    assert energy[:rank].sum() >= share * energy.sum() * (1 - 1e-9)
    assert rank == 1 or energy[: rank - 1].sum() < share * energy.sum()


def test_energy_chooses_the_rank() -> None:
    u, v = svd(torch.diag(torch.tensor([3.0, 2.0, 1.0])), energy=9 / 14)
    assert (u.shape, v.shape) == ((3, 1), (1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_of_the_weights_is_kept(dtype: torch.dtype) -> None:
    u, v = svd(weights(6, 5, 0).to(dtype), rank=3)
    assert u.dtype == v.dtype == dtype
