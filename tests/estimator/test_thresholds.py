import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.errors import UserError
from ccsweep.estimator.thresholds import density_threshold, energy_thresholds

shares = st.floats(0.001, 0.999)


def drawn(samples: int, units: int, seed: int, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    preactivation = torch.randn(samples, units, generator=generator)
    scores = preactivation + torch.randn(samples, units, generator=generator)
    return (scores.round() if ties else scores), preactivation


def lost(scores: torch.Tensor, preactivation: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    energy = preactivation.relu().square().double()
    return (energy * (scores <= threshold)).sum(0)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 999), shares, st.booleans())
def test_no_unit_loses_more_than_its_share_and_none_could_lose_more(
    samples: int, units: int, seed: int, share: float, ties: bool
) -> None:
    scores, preactivation = drawn(samples, units, seed, ties)
    threshold = energy_thresholds(scores, preactivation, share)
    total = preactivation.relu().square().double().sum(0)
    assert (lost(scores, preactivation, threshold) <= share * total + 1e-12).all()
    # The next larger threshold that changes anything is the next score above it.
    above = scores.masked_fill(scores <= threshold, torch.inf).min(0).values
    more = lost(scores, preactivation, above)
    assert ((more > share * total - 1e-12) | (above == torch.inf)).all()


def test_a_unit_that_is_never_positive_is_never_computed() -> None:
    scores = torch.tensor([[1.0], [3.0], [2.0]])
    threshold = energy_thresholds(scores, -torch.ones(3, 1), 0.01)
    assert 3.0 < threshold < 3.01


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 999), st.floats(0.001, 1.0), st.booleans())
def test_the_density_is_met(samples: int, units: int, seed: int, density: float, ties: bool) -> None:
    scores, _ = drawn(samples, units, seed, ties)
    threshold = density_threshold(scores, density)
    assert threshold.shape == (units,)
    wanted, computed = max(1, round(density * scores.numel())), int((scores > threshold).sum())
    assert computed > 0
    if not ties:
        assert computed == wanted
    for other in scores.unique():  # no other threshold comes nearer
        possible = int((scores >= other).sum())
        assert abs(computed - wanted) <= abs(possible - wanted)


@settings(max_examples=30)
@given(st.integers(2, 300), st.integers(0, 999), shares)
def test_no_rounding_moves_a_sample_to_the_other_side(samples: int, seed: int, share: float) -> None:
    """Also where every sample is there twice, so that both sides hold one that is just as close."""
    scores, preactivation = (torch.cat([drawn_, drawn_]) for drawn_ in drawn(samples, 3, seed, ties=False))
    scores = scores.round(decimals=4)  # no two of them nearer to each other than rounding may move them
    for threshold in (energy_thresholds(scores, preactivation, share), density_threshold(scores, share)):
        gate = scores > threshold
        for wobble in (1 + 1e-6, 1 - 1e-6):
            assert torch.equal(gate, scores * wobble > threshold)


def test_wide_layers_are_done_in_blocks_that_add_up() -> None:
    scores, preactivation = drawn(50, 600, 0, ties=False)
    whole = energy_thresholds(scores, preactivation, 0.1)
    parts = [
        energy_thresholds(scores[:, i : i + 1], preactivation[:, i : i + 1], 0.1) for i in (0, 255, 256, 599)
    ]
    assert torch.equal(torch.cat(parts), whole[[0, 255, 256, 599]])


@pytest.mark.parametrize("loss", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_an_energy_loss_is_a_share(loss: float) -> None:
    with pytest.raises(UserError, match=r"^estimator.energy_loss=.*: expected a share above 0 and below 1$"):
        energy_thresholds(torch.ones(3, 2), torch.ones(3, 2), loss)


@pytest.mark.parametrize("density", [0.0, 1.1, float("nan")])
def test_a_density_is_a_share(density: float) -> None:
    with pytest.raises(UserError, match=r"^estimator.density=.*: expected a share above 0 and at most 1$"):
        density_threshold(torch.ones(3, 2), density)


def test_margins_beyond_the_lowest_and_the_highest_score_are_each_units_own() -> None:
    """A thousandth of their distance, and a hundred-thousandth of the larger: 0.00203 of one to three."""
    one = torch.tensor([[1.0], [3.0], [2.0]])
    scores = torch.cat([one, 1000 * one], dim=1)
    above = energy_thresholds(scores, -torch.ones(3, 2), 0.01)
    torch.testing.assert_close(above, torch.tensor([3.00203, 3002.03]), rtol=1e-6, atol=0)
    below = energy_thresholds(scores, torch.ones(3, 2), 0.01)
    torch.testing.assert_close(below, torch.tensor([1 - 0.00203, 1000 - 2.03]), rtol=1e-6, atol=0)
    everything = density_threshold(one, 1.0)
    torch.testing.assert_close(everything, torch.tensor([1 - 0.00203]), rtol=1e-6, atol=0)


def test_of_two_numbers_as_near_the_larger_is_computed() -> None:
    threshold = density_threshold(torch.tensor([[2.0], [1.0], [1.0], [0.0]]), 0.5)
    assert threshold.tolist() == [0.5]


def test_thresholds_need_samples() -> None:
    none, message = (
        torch.ones(0, 2),
        "^estimator.calibration: thresholds need calibration samples; found none$",
    )
    with pytest.raises(UserError, match=message):
        energy_thresholds(none, none, 0.1)
    with pytest.raises(UserError, match=message):
        density_threshold(none, 0.1)
