"""A task's work with the clock: measured speed-ups, and the model that goes out with the plans found."""

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccsweep.data.dataset import Dataset
from ccsweep.data.progress import Bar
from ccsweep.engine import served
from ccsweep.engine.benchmark import Comparison, compare, figures
from ccsweep.engine.clock import alone
from ccsweep.figures import MEASURED
from ccsweep.report import speedups
from ccsweep.report.run import describe, write
from ccsweep.tracking import Run
from ccsweep.tracking.ui import command
from ccsweep.training.fit import Job

log = logging.getLogger(__name__)

MEASURED_SECONDS, PLAN_SECONDS = 0.2, 0.05
"""For each of the batch sizes ``MEASURED``; and for each race while the engine chooses its plan."""
PASS = 3e9
"""Multiplications of one pass over the images that a run is timed with: a wide network gets fewer images."""
BATCH_SIZES = (1, 32, 256, 1024)
"""Of a benchmark, with one thread and with all."""
SECONDS = 3.0
"""For each of them."""
EXAMPLES = 2
"""Inputs kept with a model."""


def measure(run: Run, job: Job, dataset: Dataset, with_model: bool = True) -> dict[str, float]:
    """Time the job's network, log what it gained over torch, and log the network as a model.

    Args:
        run: where it goes.
        job: whose network is trained.
        dataset: it was trained on; the clock runs on validation images.
        with_model: False where the network was logged by the run that trained it.

    Returns:
        Measured speed-ups, under the names they have in report.json.
    """
    network, calibration = job.module.network.cpu().eval(), job.calibration.cpu()
    weights = sum(layer.weight.numel() for layer in network.linears())
    most = max(2 * max(MEASURED), int(PASS / weights))
    calibration, images = calibration[:most], dataset.validation.images[:most]
    with alone():
        compared = [
            compare(network, calibration, images, size, 1, MEASURED_SECONDS, {}, PLAN_SECONDS)
            for size in MEASURED
        ]
    found = figures(compared)
    run.log_metrics(found, step=0)
    if with_model:
        _log_model(run, job, dataset, compared)
    return found


def benchmark(run: Run, job: Job, dataset: Dataset, name: str) -> dict[str, Any]:
    """Time the job's network beside its peers on the test images; their labels are not looked at.

    Args:
        run: where it goes.
        job: whose network is trained.
        dataset: it was trained on.
        name: of the network, over the picture.

    Returns:
        The report.
    """
    network, calibration = job.module.network.cpu().eval(), job.calibration.cpu()
    images = dataset.test.images
    counts = sorted({1, torch.get_num_threads()})
    cases = [(size, threads) for threads in counts for size in BATCH_SIZES]
    compared = []
    with alone(), Bar("timing", len(cases), "cases") as progress:
        for size, threads in cases:
            compared.append(compare(network, calibration, images, size, threads, SECONDS))
            progress.update()
    found = figures(compared)
    run.log_metrics(found, step=0)
    _log_model(run, job, dataset, compared)
    hardware = json.loads((job.folder / "environment.json").read_text())["hardware"]
    report = {
        **describe(job.config, dataset),
        **found,
        "cpu": hardware["cpu"],
        "images": len(images),
        "comparisons": [each.as_json() for each in compared],
        "run_id": run.id,
        "folder": str(job.folder),
        "open_with": command(run.uri),
    }
    run.log_artifact(write(report, job.folder / "benchmark.json"))
    drawn = _measured(compared)
    run.log_artifact(speedups.draw(job.folder / "benchmark.png", f"Measured speed-up: {name}", drawn))
    speedups.show(report, compared)
    return report


def _log_model(run: Run, job: Job, dataset: Dataset, compared: Sequence[Comparison]) -> None:
    """Log the network as a model that runs on the engine as planned, and register it where asked for."""
    ways = {each.plan.batch_size: served.faithful(each.plan) for each in _measured(compared)}
    example = dataset.validation.images[:EXAMPLES].numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.pt"
        served.save(file, job.module.network, ways)
        model = run.log_model(
            "network",
            loader=served.__name__,
            data=file,
            example=example,
            answers=served.load(file).predict(example),
        )
    if (register := job.config.tracking.register) is not None:
        version = run.register(model, register)
        log.info("registered as models:/%s/%d", register, version)


def _measured(compared: Sequence[Comparison]) -> list[Comparison]:
    return [each for each in compared if each.plan.threads == 1 and each.plan.batch_size in MEASURED]
