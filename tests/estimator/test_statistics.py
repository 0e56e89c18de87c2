import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccsweep.estimator.statistics import count, statistics


def test_by_hand() -> None:
    preactivation = torch.tensor([[1.0, -1.0, 2.0, -2.0, 3.0, 0.0]])
    gate = torch.tensor([[True, True, False, False, True, False]])
    shares = statistics(count(preactivation, gate), gated=True)
    assert shares.density == 3 / 6
    assert shares.true_density == 3 / 6
    assert shares.false_off == 1 / 3  # the 2.0
    assert shares.false_on == 1 / 3  # the first -1.0; a zero is not positive
    assert shares.sign_agreement == 4 / 6


def test_without_an_estimator_all_is_computed_and_nothing_is_guessed() -> None:
    shares = statistics(count(torch.tensor([[1.0, -1.0, -2.0]]), None), gated=False)
    assert shares == (1.0, 1 / 3, 0.0, 1.0, None)


bits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@given(bits, st.integers(1, 59))
def test_counts_add_up_over_batches(pairs: list[tuple[bool, bool]], cut: int) -> None:
    positive, gate = (torch.tensor(column) for column in zip(*pairs, strict=True))
    z = positive.float() * 2 - 1
    cut = min(cut, len(z) - 1)
    parts = count(z[:cut, None], gate[:cut, None]) + count(z[cut:, None], gate[cut:, None])
    assert torch.equal(parts, count(z[:, None], gate[:, None]))
    shares = statistics(parts, gated=True)
    assert shares.sign_agreement == pytest.approx((gate == positive).float().mean().item())
    # density follows from the two errors
    computed = shares.true_density * (1 - shares.false_off) + (1 - shares.true_density) * shares.false_on
    assert shares.density == pytest.approx(computed)


def test_where_nothing_is_positive_nothing_is_missed() -> None:
    shares = statistics(count(-torch.ones(1, 2), torch.tensor([[True, False]])), gated=True)
    assert shares == (0.5, 0.0, 0.0, 0.5, 0.5)
