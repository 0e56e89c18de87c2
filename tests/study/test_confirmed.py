"""Statistics of a confirmed front: values by hand, and how often what they promise holds."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from ccsweep.study.confirmed import Spread, front_probabilities, mcnemar, spread


def test_a_spread_is_students() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert (found.mean, found.sd) == (2.0, 1.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-5)
    assert spread([2.0, 2.0]) == Spread(2.0, 0.0, 2.0, 2.0)


def test_mcnemar_counts_the_images_that_one_of_the_two_gets_right() -> None:
    first = np.array([True] * 12 + [False] * 4 + [True] * 50)
    second = np.array([False] * 12 + [True] * 4 + [True] * 50)
    found = mcnemar([(first, second)] * 3)
    assert (found.only_first, found.only_second) == (12, 4)
    assert found.p == pytest.approx(2 * stats.binomtest(12, 16).pvalue)
    same = mcnemar([(first, first)])
    assert (same.only_first, same.only_second, same.p) == (0, 0, 1.0)


def test_a_point_that_is_beaten_in_both_is_not_on_the_front() -> None:
    errors = {"good": [1.0, 1.1, 0.9], "fast": [2.0, 2.1, 1.9], "poor": [3.0, 3.1, 2.9]}
    gains = {"good": [[2.0] * 6] * 3, "fast": [[4.0] * 6] * 3, "poor": [[3.0] * 6] * 3}
    assert front_probabilities(errors, gains) == {"good": 1.0, "fast": 1.0, "poor": 0.0}


def test_equal_points_share_the_front_by_chance() -> None:
    rng = np.random.default_rng(3)
    errors = {name: list(rng.normal(2, 0.1, 5)) for name in ("a", "b")}
    gains = {name: [list(rng.normal(3, 0.1, 9)) for _ in range(5)] for name in ("a", "b")}
    for share in front_probabilities(errors, gains).values():
        assert 0.05 < share <= 1


TRUE_ERROR = np.array([1.0, 1.15, 1.3, 1.6, 1.65, 2.4])
TRUE_GAIN = np.array([1.0, 2.0, 1.95, 3.0, 2.7, 4.0])
ON_FRONT = np.array([True, True, False, True, False, True])
"""Of the six true points; the third is beaten by little."""


def simulated(rng: np.random.Generator, seeds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A confirmation of the six points: errors vary by seed, in part together; speeds by seed and by round."""
    shared = rng.normal(0, 0.05, seeds)
    errors = {str(i): list(e + shared + rng.normal(0, 0.05, seeds)) for i, e in enumerate(TRUE_ERROR)}
    gains = {
        str(i): [list(g * (1 + rng.normal(0, 0.02)) * (1 + rng.normal(0, 0.03, 9))) for _ in range(seeds)]
        for i, g in enumerate(TRUE_GAIN)
    }
    return errors, gains


@pytest.mark.parametrize("repetitions", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_and_probabilities_hold_where_the_truth_is_known(seeds: int, repetitions: int) -> None:
    rng = np.random.default_rng(seeds)
    errors_held, speeds_held, differences_held, sure_right = [], [], [], []
    for _ in range(repetitions):
        errors, gains = simulated(rng, seeds)
        for i, name in enumerate(errors):
            found = spread(errors[name])
            errors_held.append(found.low <= TRUE_ERROR[i] <= found.high)
            speed = spread([float(np.median(rounds)) for rounds in gains[name]])
            speeds_held.append(speed.low <= TRUE_GAIN[i] <= speed.high)
            paired = spread([a - b for a, b in zip(errors[name], errors["0"], strict=True)])
            differences_held.append(paired.low - 1e-12 <= TRUE_ERROR[i] - 1 <= paired.high + 1e-12)
        for i, share in enumerate(front_probabilities(errors, gains).values()):
            if share >= 0.95 or share <= 0.05:
                sure_right.append(ON_FRONT[i] == (share > 0.5))
    print(*(f"{np.mean(held):.3f}" for held in (errors_held, speeds_held, differences_held, sure_right)))
    assert 0.9 <= np.mean(errors_held) <= 0.99
    assert 0.9 <= np.mean(speeds_held) <= 0.99
    assert 0.9 <= np.mean(differences_held[:]) <= 0.995
    assert 0.95 <= np.mean(sure_right) <= 1
