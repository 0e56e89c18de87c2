"""Samplers by name, and who draws the same points."""

import itertools
from collections.abc import Iterable

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from ccsweep.study import samplers


def drawn(sampler: BaseSampler) -> list[float]:
    study = optuna.create_study(sampler=sampler)
    return [study.ask().suggest_float("x", 0, 1) for _ in range(3)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", TPESampler),
        ("nsgaii", NSGAIISampler),
        ("gp", GPSampler),
        ("random", RandomSampler),
        ("grid", RandomSampler),
    ],
)
def test_names(name: str, kind: type) -> None:
    sampler = samplers.make(name, 0, 0, 0)
    assert isinstance(sampler, kind)
    assert drawn(sampler) == drawn(samplers.make(name, 0, 0, 0))
    assert drawn(sampler) != drawn(samplers.make(name, 1, 0, 0))


def test_the_seed_is_made_of_all_three_numbers() -> None:
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 11, 1), (11, 1, 1), (1, 1, 11)]
    points = [drawn(samplers.make("random", *three)) for three in numbers]
    assert all(one != other for one, other in itertools.combinations(points, 2))
    own = 0xE6AB435C  # printf '1 11 1' | sha256sum
    assert points[4] == drawn(RandomSampler(seed=own))


def next_points(sampler: BaseSampler, numbers: Iterable[int] = range(40)) -> list[list[float]]:
    """What is drawn in a study of two objectives, with two parameters that only some trials have."""
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for i in numbers:
        x, y, z = i / 40, (i * 7 % 40) / 40, (i * 11 % 40) / 40
        params = {"x": x, "y": y, "z": z} if i % 2 else {"x": x}
        running = i % 5 == 4
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if running else TrialState.COMPLETE,
                values=None if running else [(x - 0.3) ** 2 + y, x + z * y],
                params=params,
                distributions=dict.fromkeys(params, FloatDistribution(0, 1)),
            )
        )
    trials = [study.ask() for _ in range(3)]
    return [[trial.suggest_float(name, 0, 1) for name in "xyz"] for trial in trials]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_tpe_draws_together_what_is_searched_together() -> None:
    seed = 0xE6AB435C
    found = next_points(samplers.make("tpe", 1, 11, 1))
    assert found == next_points(TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True))
    assert found != next_points(TPESampler(seed=seed))
    assert found != next_points(TPESampler(seed=seed, multivariate=True))
    assert found != next_points(TPESampler(seed=seed, multivariate=True, group=True, constant_liar=False))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_tpe_learns_from_the_newest_trials_and_the_front_of_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain() -> TPESampler:
        return TPESampler(seed=0xE6AB435C, multivariate=True, group=True, constant_liar=True)

    monkeypatch.setattr(samplers, "NEWEST", 24)
    monkeypatch.setattr(samplers, "STEP", 5)
    front = [3, 6, 7, 10, 12, 13]  # of 0 to 14: of 40, 16 may be old, and they grow old by fives
    found = next_points(samplers.make("tpe", 1, 11, 1))
    assert found == next_points(plain(), [*front, *range(15, 40)])
    assert found != next_points(plain())
    assert found != next_points(plain(), range(15, 40))
