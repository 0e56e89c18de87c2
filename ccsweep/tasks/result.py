"""What a network comes to that was trained or taken up: tested, timed, logged as a model and reported."""

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccsweep import report
from ccsweep.data.dataset import Dataset
from ccsweep.engine import served
from ccsweep.engine.benchmark import QUICK, Comparison, compare, figures
from ccsweep.engine.clock import alone
from ccsweep.errors import UserError
from ccsweep.figures import MEASURED
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.run import run_name
from ccsweep.tracking import Run
from ccsweep.tracking.ui import command
from ccsweep.training.fit import Examined, Job, Trained

log = logging.getLogger(__name__)

MEASURED_SECONDS, PLAN_SECONDS = 0.2, 0.05
"""For each of the batch sizes ``MEASURED``; and for each race while the engine chooses its plan."""
PASS = 3e9
"""Multiplications of one pass over the images that a run is timed with: a wide network gets fewer images."""
EXAMPLES = 2
"""Inputs kept with a model."""


def conclude(
    run: Run,
    job: Job,
    validated: Examined,
    trained: Trained | None,
    dataset: Dataset,
    began: float,
    resumed: bool,
) -> dict[str, Any]:
    """Test once if asked to, time the network, write report.json, log it and print the table.

    Args:
        run: where it goes.
        job: whose network is trained.
        validated: what validation found.
        trained: how training went; None where the network is another run's.
        dataset: it was trained on.
        began: when that was, by ``time.perf_counter``.
        resumed: whether training went on with a run that was stopped.

    Returns:
        The report.
    """
    folder = TrialFolder(job.folder)
    tested = job.test(run) if job.config.test else None
    found = (
        report.summarise(job.config, dataset, validated, trained, tested)
        | _measured_if_possible(run, job, dataset, with_model=trained is not None)
        | {
            "seconds": time.perf_counter() - began,
            "resumed": resumed,
            "run_id": run.id,
            "folder": str(folder.path),
            "open_with": command(run.uri),
        }
    )
    run.log_artifact(report.write(found, folder.report))
    if trained is not None:
        from ccsweep.report.pictures import draw_run

        title = run_name(job.config, dataset)
        run.log_artifact(draw_run(folder.figures, title, run.history("validation/"), job.spectra()))
    report.show(found)
    return found


def _measured_if_possible(run: Run, job: Job, dataset: Dataset, with_model: bool) -> dict[str, float]:
    """Measured speed-ups; a night's training is not thrown away because its timing failed."""
    try:
        return measure(run, job, dataset, with_model)
    except UserError:
        raise
    except Exception:
        log.exception("the speed-up could not be measured; all other results stand")
        return {}


def measure(run: Run, job: Job, dataset: Dataset, with_model: bool = True) -> dict[str, float]:
    """Time the job's network, log what it gained over torch and the fastest peer, and log it as a model.

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
            compare(network, calibration, images, size, 1, MEASURED_SECONDS, QUICK, PLAN_SECONDS)
            for size in MEASURED
        ]
    found = figures(compared)
    run.log_metrics(found, step=0)
    if with_model:
        log_network(run, job, dataset, compared)
    return found


def log_network(run: Run, job: Job, dataset: Dataset, compared: Sequence[Comparison]) -> None:
    """Log the network as a model that runs on the engine as planned, and register it where asked for."""
    ways = {each.plan.batch_size: served.faithful(each.plan) for each in measured(compared)}
    images = dataset.validation.images[:EXAMPLES]
    example = (images if dataset.scaling is None else dataset.scaling.undone(images)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.pt"
        served.save(file, job.module.network, ways, dataset.scaling)
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


def measured(compared: Sequence[Comparison]) -> list[Comparison]:
    """Those of the cases that every run is timed at: its batch sizes, with one thread."""
    return [each for each in compared if each.plan.threads == 1 and each.plan.batch_size in MEASURED]
