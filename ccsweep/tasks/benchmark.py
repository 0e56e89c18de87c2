"""``task=benchmark``: a trained run's network timed on the engine, beside its peers."""

import json
from typing import Any

import torch

from ccsweep.config.schema import Config
from ccsweep.data.progress import Bar
from ccsweep.engine.benchmark import compare, figures, instructions
from ccsweep.engine.clock import alone
from ccsweep.report import speedups, write
from ccsweep.report.run import describe
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.earlier import taken_up
from ccsweep.tasks.result import log_network, measured
from ccsweep.tasks.run import network_name
from ccsweep.tracking.ui import command

BATCH_SIZES = (1, 8, 32, 256, 1024)
"""Timed with one thread and with all."""
SECONDS = 3.0
"""For each of them."""
CHANGED = 0.001
"""Share of the network's answers that a plan may change."""


def benchmark(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Time the network of ``run`` on the test images, and count what all candidates answer.

    Args:
        config: this command's, read on top of the settings of ``run``: other ranks or another estimator.
        folder: of this run.
        overrides: what the command says.

    Returns:
        The report.

    Raises:
        UserError: no such run, or an override that a trained run cannot take.
    """
    with taken_up(config, folder, overrides) as (run, job, dataset):
        network = job.module.network.cpu().eval()
        # Of images that it was trained on a network is surer: a plan is to be judged on others.
        calibration, images, labels = dataset.validation.images, dataset.test.images, dataset.test.labels
        counts = sorted({1, torch.get_num_threads()})
        cases = [(size, threads) for threads in counts for size in BATCH_SIZES]
        compared = []
        with alone(), Bar("timing", len(cases), "cases") as progress:
            for size, threads in cases:
                compared.append(
                    compare(
                        network,
                        calibration,
                        images,
                        size,
                        threads,
                        SECONDS,
                        labels=labels,
                        max_disagreement=CHANGED,
                    )
                )
                progress.update()
        found = figures(compared)
        run.log_metrics(found, step=0)
        log_network(run, job, dataset, [each.plan for each in measured(compared)], found)
        hardware = json.loads(folder.environment.read_text())["hardware"]
        report = {
            **describe(job.config, dataset),
            **found,
            "cpu": hardware["cpu"],
            "instructions": instructions(),
            "images": len(images),
            "comparisons": [each.as_json() for each in compared],
            "run_id": run.id,
            "folder": str(folder.path),
            "open_with": command(run.uri),
        }
        run.log_artifact(write(report, folder.benchmark))
        title = f"Measured speed-up: {network_name(job.config, dataset)}"
        run.log_artifact(speedups.draw(folder.path / "benchmark.png", title, measured(compared)))
        speedups.show(report, compared)
        return report
