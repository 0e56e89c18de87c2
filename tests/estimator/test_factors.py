import pytest
import torch

from ccsweep.estimator.factors import Factors, sign_disagreement, subspace_angle

X, BIAS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(3)


def factors(*rows: list[float]) -> Factors:
    v = torch.tensor(rows)
    return Factors(torch.eye(4)[:, : len(rows)], v, torch.zeros(3))


def test_the_angle_between_the_directions_kept() -> None:
    a = factors([1.0, 0.0, 0.0])
    assert subspace_angle(a, a) == pytest.approx(0.0, abs=1e-3)
    assert subspace_angle(a, factors([0.0, 1.0, 0.0])) == pytest.approx(90.0)
    assert subspace_angle(a, factors([1.0, 1.0, 0.0])) == pytest.approx(45.0)
    assert subspace_angle(a, factors([5.0, 5.0, 0.0])) == pytest.approx(45.0)  # lengths do not matter
    both = factors([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert subspace_angle(both, factors([0.0, 1.0, 0.0], [1.0, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-3)
    assert subspace_angle(a, both) == pytest.approx(0.0, abs=1e-3)


def test_the_share_of_gates_that_differ() -> None:
    a = factors([1.0, 1.0, 1.0])
    flipped = a._replace(v=-a.v)
    assert sign_disagreement(a, a, X, BIAS) == 0.0
    assert sign_disagreement(a, flipped, X, BIAS) == 1.0
    one = a._replace(v=torch.tensor([[-1.0, 1.0, 1.0]]))
    assert sign_disagreement(a, one, X, BIAS) == pytest.approx(1 / 3)


def test_the_shift_is_inside_the_gate() -> None:
    a = factors([1.0, 1.0, 1.0])
    assert not a._replace(shift=torch.full((3,), -1e6)).gate(X, BIAS).any()
    assert a._replace(shift=torch.full((3,), torch.inf)).gate(X, BIAS).all()


def test_a_score_of_zero_is_no_guess_that_the_unit_is_positive() -> None:
    a = factors([0.0, 1.0, 1.0])
    assert not a.gate(X, BIAS)[:, 0].any()


def test_before_the_first_refresh_nothing_is_kept() -> None:
    a = factors([1.0, 0.0, 0.0])
    assert subspace_angle(a._replace(v=a.v[:0]), a) == 90.0
    assert subspace_angle(a, a._replace(v=a.v[:0])) == 90.0


def test_rounding_above_one_is_no_angle() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        a = factors(*torch.randn(3, 3, generator=generator).tolist())
        assert subspace_angle(a, a._replace(v=3 * a.v)) < 1e-4
