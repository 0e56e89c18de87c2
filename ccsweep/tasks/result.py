"""What a network comes to that was trained or taken up: tested, timed, logged as a model and reported."""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccsweep import report
from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset
from ccsweep.engine import served
from ccsweep.engine.benchmark import QUICK, Comparison, Timed, compare, figures, is_known
from ccsweep.engine.clock import GLANCE, STEADY, Load, alone, pinned
from ccsweep.engine.compiled import torch_threads
from ccsweep.engine.plan import Plan
from ccsweep.engine.tune import compile
from ccsweep.figures import LOAD, MEASURED, ahead, final, high, in_words, low
from ccsweep.figures import measured as figure_of
from ccsweep.study.folder import TrialFolder
from ccsweep.study.objectives import read_constraint
from ccsweep.tasks.run import description, run_name
from ccsweep.tracking import Run, provenance
from ccsweep.tracking.away.wait import Away
from ccsweep.tracking.outcome import describe
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
    whole = not job.config.of_a_search  # else pictures and model are made at its end, of those on the front
    speeds, planned = _measured_if_possible(job, dataset)
    found = (
        report.summarise(job.config, dataset, validated, trained, tested)
        | speeds
        | {
            "threads": job.threads,
            **provenance.processors(),
            "seconds": time.perf_counter() - began,
            "resumed": resumed,
            "run_id": run.id,
            "folder": str(folder.path),
            "open_with": command(run.uri),
        }
    )
    report.write(found, folder.report)
    if whole and trained is not None and planned:
        _unless_away(run, "model", lambda: log_network(run, job, dataset, planned, found))
    log_final(run, job, dataset, found)
    if whole:
        run.log_artifact(folder.report)
        if trained is not None:
            _unless_away(run, "picture", lambda: draw_figures(run, job, dataset))
    report.show(found)
    return found


def draw_figures(run: Run, job: Job, dataset: Dataset) -> None:
    """Draw what training did, and log the picture."""
    from ccsweep.report.pictures import draw_run

    path, title = TrialFolder(job.folder).figures, run_name(job.config, dataset)
    run.log_artifact(draw_run(path, title, run.history("validation/"), job.spectra()))


def log_final(run: Run, job: Job, dataset: Dataset, found: dict[str, Any]) -> None:
    """Log what a run came to: its figures, its ranks where they follow from the weights, and all in words."""
    if job.config.ranks.layers is None:
        ranks = [layer["rank"] for layer in found["layers"]]
        run.log_params({f"rank{i}": rank for i, rank in enumerate(ranks, 1) if rank is not None})
    run.log_final(final(found), (dataset.name, dataset.digest))
    run.describe(description(job.config, dataset, TrialFolder(job.folder), in_words(found)))


def _measured_if_possible(job: Job, dataset: Dataset) -> tuple[dict[str, float], list[Plan]]:
    """As :func:`measure`; a night's training is not thrown away because its timing failed."""
    try:
        return measure(job, dataset)
    except Exception as error:
        log.error("the speed-up could not be measured, all other results stand: %s", describe(error))
        log.debug("the timing failed", exc_info=True)
        return {}, []


def _unless_away(run: Run, what: str, log_it: Callable[[], object]) -> None:
    """Log what cannot be kept for later, unless the run's store stays away."""
    with suppress(Away):
        if not run.is_away:
            log_it()
            return
    log.warning("the run gets no %s: its store is away", what)


def measure(job: Job, dataset: Dataset) -> tuple[dict[str, float], list[Plan]]:
    """Time the job's network beside torch and the fastest peer, at each of the batch sizes ``MEASURED``.

    The engine leaves nothing to a peer here: what is to be seen is where leaving work out is worth it.
    A trial of a search is timed at the batch sizes that the search aims at, and no longer than it takes to
    know the ratio; it says how busy the machine was.

    Args:
        job: whose network is trained.
        dataset: it was trained on; the clock runs on validation images.

    Returns:
        Measured speed-ups, under the names they have in report.json, and the plans that were timed.
    """
    wanted = _wanted(job.config)
    sizes = [size for size in MEASURED if wanted & {figure_of(size).key, ahead(size).key}]
    if not sizes:
        return {}, []
    timed, peers = to_time(job, dataset), QUICK if wanted & {ahead(size).key for size in sizes} else {}
    pace = GLANCE if job.config.of_a_search else STEADY  # what is on the front is timed again, alone
    with alone(), pinned(), torch_threads(1), Load() as load:
        compared = [
            compare(
                *(*timed, size, 1, MEASURED_SECONDS, peers, PLAN_SECONDS),
                enough=is_known,
                libraries=False,
                pace=pace,
            )
            for size in sizes
        ]
    unknown = set() if peers else {end(ahead(size).key) for size in sizes for end in (str, low, high)}
    found = {key: value for key, value in figures(compared).items() if key not in unknown}
    return found | {LOAD.key: load.cores}, [each.plan for each in compared]


def to_time(job: Job, dataset: Dataset) -> Timed:
    """The job's network and the images that it is timed with."""
    network, calibration = job.module.network.cpu().eval(), job.calibration.cpu()
    weights = sum(layer.weight.numel() for layer in network.linears())
    most = max(2 * max(MEASURED), int(PASS / weights))
    return Timed(network, calibration[:most], dataset.validation.images[:most])


def _wanted(config: Config) -> set[str]:
    """The measured figures that are asked for: all, of a search's trial those that the search aims at."""
    if not config.of_a_search:
        return {figure(size).key for size in MEASURED for figure in (figure_of, ahead)}
    return {*config.sweep.objectives, *(read_constraint(text).key for text in config.sweep.constraints)}


def plans(job: Job, dataset: Dataset) -> list[Plan]:
    """How the engine runs the job's network, at each batch size that a run is timed at."""
    network, calibration, _ = to_time(job, dataset)
    engines = [
        compile(network, calibration, size, 1, seconds=PLAN_SECONDS, libraries=False) for size in MEASURED
    ]
    return [engine.plan for engine in engines if engine.plan is not None]


def log_network(run: Run, job: Job, dataset: Dataset, plans: Sequence[Plan], found: dict[str, Any]) -> None:
    """Log the network as a model that runs on the engine as planned, and register it where asked for.

    Args:
        run: whose model it is.
        job: whose network.
        dataset: it was trained on.
        plans: how the engine runs it.
        found: figures for its description.
    """
    ways = {plan.batch_size: served.faithful(plan) for plan in plans}
    images = dataset.validation.images[:EXAMPLES]
    example = (images if dataset.scaling is None else dataset.scaling.undone(images)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.pt"
        served.save(file, job.module.network, ways, dataset.scaling)
        model = run.log_model(
            run_name(job.config, dataset),
            loader=served.__name__,
            data=file,
            example=example,
            answers=served.load(file).predict(example),
        )
    if (register := job.config.tracking.register) is not None:
        about = description(job.config, dataset, TrialFolder(job.folder), in_words(found))
        version = run.register(model, register, about)
        log.info("registered as models:/%s/%d", register, version)


def measured(compared: Sequence[Comparison]) -> list[Comparison]:
    """Those of the cases that every run is timed at: its batch sizes, with one thread."""
    return [each for each in compared if each.plan.threads == 1 and each.plan.batch_size in MEASURED]
