"""What ``task=...`` can be: each composes data, training, tracking and report into one run."""

import contextlib
import gc
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ccsweep.config.schema import Config, DataConfig
from ccsweep.errors import UserError
from ccsweep.files import write_text
from ccsweep.interrupt import finishing
from ccsweep.tasks import earlier as rerun
from ccsweep.tracking import Run, mask, open_parent, prepare, provenance, resolve_uri
from ccsweep.tracking.find import run_id_of

if TYPE_CHECKING:  # torch and Lightning are imported while the store gets ready
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Examined, Job, Trained

log = logging.getLogger(__name__)

Report = dict[str, Any]


def train(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Train and test a network; with ``training.resume`` go on with a run that was stopped."""
    if config.training.resume is not None:
        return _resume(config, folder, overrides)
    with _prepared(config) as dataset, _started(config, folder, overrides, dataset) as run:
        return _train(run, config, folder, dataset, resume=False)


def evaluate(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Test a trained run again, with the ranks or the estimator that the overrides name."""
    with _again(config, folder, overrides) as (run, job, dataset):
        began = time.perf_counter()
        return _examine(run, job, job.validate(run), None, dataset, began, resumed=False)


def benchmark(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Time a trained run beside its peers; the overrides may name other ranks or another estimator.

    It looks at the test images, not at their labels.
    """
    with _again(config, folder, overrides) as (run, job, dataset):
        from ccsweep.tasks import timing

        return timing.benchmark(run, job, dataset, _network_name(job.config, dataset))


@contextlib.contextmanager
def _again(config: Config, folder: Path, overrides: list[str]) -> Iterator[tuple[Run, "Job", "Dataset"]]:
    """A run that takes up the network of an earlier one, with the estimator that the overrides name."""
    named = rerun.spelled_out(overrides)
    earlier = rerun.find(config, named, "run")
    settings = earlier.settings
    settings.task, settings.run = config.task, earlier.run_id or str(earlier.folder)
    with _prepared(settings) as dataset, _started(settings, folder, overrides, dataset) as run:
        from ccsweep.training import checkpoint, posthoc
        from ccsweep.training.fit import Job

        job = Job(settings, dataset, folder)
        saved = checkpoint.best(earlier.folder)
        if rerun.changes_estimator(named):
            posthoc.refit(job, earlier.trained, saved, dataset.digest)
        else:
            checkpoint.load_network(job.module.network, saved)
        yield run, job, dataset


def _resume(config: Config, folder: Path, overrides: list[str]) -> Report:
    earlier = rerun.find(config, overrides, "training.resume")
    run_id = rerun.require_folder(earlier)
    with contextlib.suppress(OSError):
        folder.rmdir()  # Hydra made one for this command, but the run goes on in its own
    folder, settings = earlier.folder, earlier.settings
    with rerun.sole_user(folder), _prepared(settings) as dataset:
        rerun.check_can_go_on(earlier, dataset)
        with contextlib.ExitStack() as stack:
            with finishing():
                run = stack.enter_context(Run.resume(_uri(settings), run_id))
            stack.enter_context(_log_file(folder))
            _write_settings(settings, folder)
            run.log_artifact(folder / rerun.SETTINGS)
            run.set_tags({"ccsweep.resumed_with": " ".join(overrides)})
            return _train(run, settings, folder, dataset, resume=True)


def _train(run: Run, config: Config, folder: Path, dataset: "Dataset", resume: bool) -> Report:
    from ccsweep.training import checkpoint
    from ccsweep.training.fit import Job

    began = time.perf_counter()
    try:
        job = Job(config, dataset, folder)
        trained = job.fit(run, resume)
        run.log_artifact(checkpoint.best(folder), "checkpoints")
        return _examine(run, job, job.validate(), trained, dataset, began, resume)
    except KeyboardInterrupt:
        log.warning("stopped; go on with: python -m ccsweep training.resume=%s", folder)
        raise


def _examine(
    run: Run,
    job: "Job",
    validated: "Examined",
    trained: "Trained | None",
    dataset: "Dataset",
    began: float,
    resumed: bool,
) -> Report:
    """Test once if asked to, time the network, write report.json, log it and print the table."""
    from ccsweep import report
    from ccsweep.tracking.ui import command

    config, folder = job.config, job.folder
    tested = job.test(run) if config.test else None
    found = (
        report.summarise(config, dataset, validated, trained, tested)
        | _measured(run, job, dataset, trained is not None)
        | {
            "seconds": time.perf_counter() - began,
            "resumed": resumed,
            "run_id": run.id,
            "folder": str(folder),
            "open_with": command(run.uri),
        }
    )
    run.log_artifact(report.write(found, folder / "report.json"))
    if trained is not None:
        from ccsweep.report.pictures import draw_run

        title = _run_name(config, dataset)
        run.log_artifact(draw_run(folder / "figures.png", title, run.history("validation/"), job.spectra()))
    report.show(found)
    return found


def _measured(run: Run, job: "Job", dataset: "Dataset", with_model: bool) -> dict[str, float]:
    """Measured speed-ups; a night's training is not thrown away because its timing failed."""
    from ccsweep.tasks import timing

    try:
        return timing.measure(run, job, dataset, with_model)
    except UserError:
        raise
    except Exception:
        log.exception("the speed-up could not be measured; all other results stand")
        return {}


@contextlib.contextmanager
def _prepared(config: Config) -> Iterator["Dataset"]:
    """The data set, with torch and Lightning imported; MLflow's store gets ready in a thread."""
    gc.disable()  # imports make many objects and no garbage: a second or two less without it
    try:
        with ThreadPoolExecutor(1) as pool:
            store = pool.submit(prepare, _uri(config))
            dataset = _load(config.data)
            import ccsweep.training.fit  # noqa: F401

            store.result()
    finally:
        gc.enable()
    try:
        yield dataset
    finally:
        gc.collect()  # Lightning's cycles hold the data set, and a multirun runs hundreds in one process


def _load(settings: DataConfig) -> "Dataset":
    from ccsweep import data

    dataset = data.load(
        settings.name,
        directory=settings.dir,
        verify=settings.verify,
        stand_in=settings.stand_in,
        extra=settings.extra,
        samples=settings.samples,
    )
    if (dataset.features, dataset.classes) != (settings.features, settings.classes):
        raise UserError(
            f"data.features={settings.features} data.classes={settings.classes}: {dataset.label} "
            f"has {dataset.features} features and {dataset.classes} classes"
        )
    return dataset


def _uri(config: Config) -> str:
    return resolve_uri(config.tracking.uri)


@contextlib.contextmanager
def _started(config: Config, folder: Path, overrides: list[str], dataset: "Dataset") -> Iterator[Run]:
    """A new tracked run that holds all that is known before training, and ends in every case."""
    if (other := run_id_of(folder)) is not None:
        raise UserError(f"hydra.run.dir={folder}: holds run {other} already; choose another folder")
    with rerun.sole_user(folder):
        _write_settings(config, folder)
        write_text(folder / "overrides.yaml", mask(OmegaConf.to_yaml(OmegaConf.create(overrides))))
        began = {"label": dataset.label, "digest": dataset.digest}
        write_text(folder / rerun.DATA, json.dumps(began) + "\n")
        tags = {"ccsweep.task": config.task, "ccsweep.data": dataset.label}
        if config.run is not None:
            tags["ccsweep.evaluates"] = config.run
        if dataset.stand_in_for is not None:
            tags["ccsweep.stand_in_for"] = dataset.stand_in_for
        parent = None
        if config.tracking.sweep is not None:
            parent = open_parent(_uri(config), dataset.label, Path(config.tracking.sweep))
        with contextlib.ExitStack() as stack:
            with finishing():  # an interrupt between starting the run and entering it would leave it RUNNING
                run = Run.start(
                    _uri(config),
                    experiment=dataset.label,
                    name=_run_name(config, dataset),
                    params=asdict(config),
                    tags=tags,
                    folder=folder,
                    parent_id=parent,
                    system_metrics=config.tracking.system_metrics,
                )
                stack.enter_context(run)
            stack.enter_context(_log_file(folder))
            if config.tracking.register is not None:
                run.check_registry(config.tracking.register)
            _describe(run, config, folder, dataset)
            yield run


def _write_settings(config: Config, folder: Path) -> None:
    settings = OmegaConf.structured(config)
    settings.training.resume = None
    write_text(folder / rerun.SETTINGS, mask(OmegaConf.to_yaml(settings)))


def _run_name(config: Config, dataset: "Dataset") -> str:
    """The network's, after the task if that is not to train it."""
    again = [] if config.task == "train" else [config.task]
    return " ".join([*again, _network_name(config, dataset)])


def _network_name(config: Config, dataset: "Dataset") -> str:
    """As in ``mnist 50-35-25 svd s0``; a stand-in is named as such."""
    name = dataset.name
    if dataset.stand_in_for is not None:
        name = f"{dataset.name}-for-{dataset.stand_in_for}"
    estimator = [] if config.rank_notation == "control" else [config.estimator.name]
    return " ".join([name, config.rank_notation, *estimator, f"s{config.training.seed}"])


def _describe(run: Run, config: Config, folder: Path, dataset: "Dataset") -> None:
    """Log what the figures will depend on: settings, code, machine and data."""
    import torch

    files = [folder / rerun.SETTINGS, folder / "overrides.yaml"]
    for file in (*files, *provenance.write(folder, threads=torch.get_num_threads())):
        run.log_artifact(file)
    splits = {name: len(getattr(dataset, name).labels) for name in ("train", "validation", "test")}
    run.log_dataset(
        dataset.name,
        digest=dataset.digest,
        source=config.data.dir or "embedded, or in the user's cache",
        context="train, validation and test",
        profile={"images": splits, "features": dataset.features, "notes": list(dataset.notes)},
    )


@contextlib.contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Copy the log into the run's folder, for who looks at it the morning after."""
    handler = logging.FileHandler(folder / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
