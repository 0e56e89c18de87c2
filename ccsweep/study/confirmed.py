"""What fresh seeds and a quiet clock make of a front: means, intervals, how sure each point is of its place.

Pure functions over errors and speed-ups; who trains, tests and times is :mod:`ccsweep.tasks.confirm`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
DRAWS = 4000
"""Of the bootstrap: a probability of one half is then known to 1.6 percentage points."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds."""

    mean: float
    sd: float
    """Over seeds, with n - 1."""
    low: float
    """Ends of the 95 % interval of the mean, by Student's t."""
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and interval of two values or more."""
    from scipy.stats import t

    mean, sd = fmean(values), stdev(values)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * sd / len(values) ** 0.5
    return Spread(mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class McNemar:
    """Two networks' answers to the same test images (McNemar 1947), over pairs of the same seed."""

    only_first: float
    """Images that only the first answers rightly, mean over seeds."""
    only_second: float
    p: float
    """Of no difference: twice the median of the seeds' exact values, which holds whatever links them."""


def mcnemar(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> McNemar:
    """Compare what two networks answer rightly, (images,) each, with one pair a seed."""
    from scipy.stats import binomtest

    firsts = [int((first & ~second).sum()) for first, second in pairs]
    seconds = [int((second & ~first).sum()) for first, second in pairs]
    values = [
        float(binomtest(a, a + b).pvalue) if a + b else 1.0 for a, b in zip(firsts, seconds, strict=True)
    ]
    return McNemar(fmean(firsts), fmean(seconds), min(1.0, 2 * median(values)))


def front_probabilities(
    errors: Mapping[str, Sequence[float]], gains: Mapping[str, Sequence[Sequence[float]]], seed: int = 0
) -> dict[str, float]:
    """How probably each point is on the front of true mean error and true mean speed-up.

    A bootstrap. A draw takes seeds with replacement, the same for all points, as they were trained with the
    same; and of each network so taken the median over rounds of its timing, rounds taken with replacement,
    too. The means over n seeds spread by ``sqrt((n - 1) / n)`` too little (Davison & Hinkley 1997, section
    2.3), so they are spread by as much more.

    Args:
        errors: of each point, one a seed.
        gains: of each point and seed, speed-ups by round.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names = list(errors)
    seeds = len(errors[names[0]])
    taken = rng.integers(seeds, size=(DRAWS, seeds))
    wider = (seeds / (seeds - 1)) ** 0.5
    losses = np.empty((DRAWS, len(names), 2))
    for i, name in enumerate(names):
        error = np.asarray(errors[name])
        losses[:, i, 0] = error.mean() + wider * (error[taken].mean(axis=1) - error.mean())
        by_seed = []
        for rounds in map(np.asarray, gains[name]):
            again = rounds[rng.integers(len(rounds), size=(DRAWS, len(rounds)))]
            by_seed.append(np.median(again, axis=1))
        speed = np.stack(by_seed, axis=1)  # (draws, seeds)
        middle = speed.mean()
        losses[:, i, 1] = -(middle + wider * (np.take_along_axis(speed, taken, 1).mean(axis=1) - middle))
    here, there = losses[:, :, None], losses[:, None, :]
    better: NDArray[np.bool_] = np.all(there <= here, axis=3) & np.any(there < here, axis=3)
    beaten: NDArray[np.bool_] = np.any(better, axis=2)
    return {name: round(float(1 - beaten[:, i].mean()), 4) for i, name in enumerate(names)}
