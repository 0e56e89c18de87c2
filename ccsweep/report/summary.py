"""report.json: everything a run found, in one flat file that a sweep or a script can read."""

import json
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.config.schema import Config
from ccsweep.files import write_text

if TYPE_CHECKING:  # torch, which a sweeper needs not in order to begin
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Examined, Trained


def summarise(
    config: Config,
    dataset: "Dataset",
    validated: "Examined",
    trained: "Trained | None",
    tested: "Examined | None",
) -> dict[str, Any]:
    """Collect the figures of one run; errors in percent, shares between 0 and 1.

    The figures are those of :mod:`ccsweep.figures`. ``layers`` and the theoretical speed-ups are of the split
    named by ``split``. ``test_error_deviation`` is the standard deviation that sampling the test images alone
    gives, ``sqrt(p (1 - p) / n)``; it says nothing of other seeds.
    """
    found = validated if tested is None else tested
    report = describe(config, dataset) | {"validation_error": validated.error}
    if tested is not None:
        share, samples = tested.error / 100, len(dataset.test.labels)
        deviation = 100 * sqrt(share * (1 - share) / samples)
        report |= {"test_error": tested.error, "test_error_deviation": deviation}
    report |= _overall(validated) | {
        "split": "validation" if tested is None else "test",
        "samples": {split: len(getattr(dataset, split).labels) for split in ("train", "validation", "test")},
        "layers": [
            {"inputs": layer.inputs, "units": layer.units, "rank": layer.rank} | layer.statistics._asdict()
            for layer in found.layers
        ],
        "theoretical_speedup": found.theoretical_speedup,
        "theoretical_speedup_inference": found.inference_speedup,
    }
    if trained is not None:
        report |= {"best_epoch": trained.best_epoch, "epochs": trained.epochs}
    return report


def _overall(examined: "Examined") -> dict[str, float]:
    """Share of all hidden units computed, and of all positive ones gated off."""
    layers = [(layer.units, layer.statistics) for layer in examined.layers]
    positive = sum(units * found.true_density for units, found in layers)
    missed = sum(units * found.true_density * found.false_off for units, found in layers)
    computed = sum(units * found.density for units, found in layers)
    return {
        "density": computed / sum(units for units, _ in layers),
        "false_off": missed / positive if positive else 0.0,
    }


def describe(config: Config, dataset: "Dataset") -> dict[str, Any]:
    """What a report is about: data, network and estimator."""
    return {
        "task": config.task,
        "data": dataset.label,
        "data_digest": dataset.digest,
        "stand_in_for": dataset.stand_in_for,
        "notes": list(dataset.notes),
        "layer_sizes": config.layer_sizes,
        "ranks": config.rank_notation,
        "estimator": None if config.rank_notation == "control" else config.estimator.name,
        "threshold": config.estimator.threshold,
        "energy_loss": config.estimator.energy_loss,
        "target_density": config.estimator.density,
        "seed": config.training.seed,
    }


def write(report: dict[str, Any], path: Path) -> Path:
    """Write a report; returns ``path``."""
    write_text(path, json.dumps(report, indent=2) + "\n")
    return path
