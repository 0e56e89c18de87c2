"""A training job small enough for many tests: 12 features, 3 classes, 120 training images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.schema import ArchitectureConfig, Config, RanksConfig
from ccsweep.data.dataset import Dataset, Split
from ccsweep.training.fit import Job


class Figures:
    """Keeps what a tracked run would be sent."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))


@pytest.fixture(scope="session")
def small_config() -> Callable[..., Config]:
    """Makes a config with every kind of regularisation, and ``ranks``, keys of estimator or of training changed."""
    base = check(composed([]))
    training = replace(
        base.training,
        **{"epochs": 3, "batch_size": 25, "learning_rate": 0.1, "learning_rate_decay": 0.9, "momentum": 0.5},
        **{
            "momentum_growth": 1.1,
            "momentum_max": 0.58,
            "max_norm": 0.9,
            "l1": 0.01,
            "l2": 0.02,
            "bias": 0.1,
        },
        **{"dropout_input": 0.1, "dropout_hidden": 0.2, "weight_std": 0.3, "seed": 3, "device": "cpu"},
    )

    def make(ranks: RanksConfig | None = None, **changed: Any) -> Config:
        of_training = {key: changed.pop(key) for key in list(changed) if hasattr(training, key)}
        return replace(
            base,
            data=replace(base.data, features=12, classes=3),
            architecture=ArchitectureConfig([10, 8]),
            ranks=ranks or RanksConfig([4, 3]),
            estimator=replace(base.estimator, **{"name": "svd", "calibration": 50} | changed),
            training=replace(training, **of_training),
        )

    return make


@pytest.fixture(scope="session")
def small_data() -> Dataset:
    """Three clouds that overlap, cut off at zero."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 12, generator=generator)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = centres[labels] + torch.randn(count, 12, generator=generator)
        return Split(images.clamp(min=0), labels)  # half of the inputs are zero, as in pictures

    return Dataset("digits", "clouds", (3, 4), 3, split(120), split(60), split(45), "digest")


@pytest.fixture
def small_job(tmp_path: Path, small_data: Dataset, small_config: Callable[..., Config]) -> Callable[..., Job]:
    """Makes a job from what is different in its config."""
    return lambda **changed: Job(small_config(**changed), small_data, tmp_path)
