"""report.json: everything a run found, in one flat file that a sweep or a script can read."""

import json
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.atomic import write_text
from ccsweep.schema import Config

if TYPE_CHECKING:  # torch, which a sweeper needs not in order to begin
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Tested, Trained


def summarise(
    config: Config,
    dataset: "Dataset",
    validation_error: float,
    trained: "Trained | None",
    tested: "Tested",
) -> dict[str, Any]:
    """Collect the figures of one run; errors in percent, shares between 0 and 1.

    Choose by ``validation_error``. ``test_error_deviation`` is the standard deviation that sampling
    the test images alone gives, ``sqrt(p (1 - p) / n)``; it says nothing of other seeds.
    """
    share, samples = tested.error / 100, len(dataset.test.labels)
    report = describe(config, dataset) | {
        "validation_error": validation_error,
        "test_error": tested.error,
        "test_error_deviation": 100 * sqrt(share * (1 - share) / samples),
        "samples": {
            "train": len(dataset.train.labels),
            "validation": len(dataset.validation.labels),
            "test": samples,
        },
        "layers": [
            {"inputs": layer.inputs, "units": layer.units, "rank": layer.rank} | layer.statistics._asdict()
            for layer in tested.layers
        ],
        "theoretical_speedup": tested.theoretical_speedup,
        "theoretical_speedup_inference": tested.inference_speedup,
    }
    if trained is not None:
        report |= {"best_epoch": trained.best_epoch, "epochs": trained.epochs}
    return report


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
