"""What ``task=...`` can be: each composes data, training, tracking and report into one run."""

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ccsweep.atomic import write_text
from ccsweep.config import Config, DataConfig, check
from ccsweep.errors import UserError
from ccsweep.tracking import FoundRun, Run, find_run, mask, open_parent, prepare, provenance, resolve_uri

if TYPE_CHECKING:  # torch and Lightning are imported while the store gets ready
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Tested, Trained

log = logging.getLogger(__name__)

Report = dict[str, Any]

# What may differ from the run that is gone on with, or tested again.
MAY_CHANGE = {
    "training.resume": (
        "training.resume",
        "training.epochs",
        "training.patience",
        "training.max_minutes",
        "data.dir",
        "tracking",
    ),
    "run": (
        "task",
        "run",
        "ranks",
        "estimator",
        "training.device",
        "training.precision",
        "data.dir",
        "data.verify",
        "tracking",
    ),
}


def train(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Train and test a network; with ``training.resume`` go on with a run that was stopped."""
    resume = config.training.resume
    if resume is None:
        return _train(config, folder, overrides)
    found = _found(config, resume)
    if found.run_id is None:
        raise UserError(f"training.resume={resume}: no run.json there; expected a run id or a run's folder")
    with contextlib.suppress(OSError):
        folder.rmdir()  # Hydra made one for this command, but the run goes on in its own
    settings = _settings_of(found.folder, config, overrides, "training.resume")
    return _train(settings, found.folder, overrides, found.run_id)


def evaluate(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Test a trained run again, with the ranks or the estimator that the overrides name."""
    assert config.run is not None
    found = _found(config, config.run)
    settings = _settings_of(found.folder, config, overrides, "run")
    settings.task, settings.run = "evaluate", found.run_id or str(found.folder)
    with _prepared(settings) as dataset:
        from ccsweep.training import checkpoint
        from ccsweep.training.fit import Job

        run = _start(settings, folder, overrides, dataset)
        with run, _log_file(folder):
            began = time.perf_counter()
            job = Job(settings, dataset, folder)
            path = found.folder / "checkpoints" / checkpoint.BEST
            same = not any(_key(o).split(".")[0] in ("ranks", "estimator") for o in overrides)
            checkpoint.load_network(job.module.network, path, factors=same)
            return _finish(run, settings, folder, dataset, None, job.test(run), began)


TASKS: dict[str, Callable[[Config, Path, list[str]], Report]] = {
    "train": train,
    "evaluate": evaluate,
}


def _train(config: Config, folder: Path, overrides: list[str], run_id: str | None = None) -> Report:
    with _prepared(config) as dataset:
        from ccsweep.training.fit import Job

        if run_id is None:
            run = _start(config, folder, overrides, dataset)
        else:
            run = Run.resume(_uri(config), run_id)
        with run, _log_file(folder):
            began = time.perf_counter()
            try:
                job = Job(config, dataset, folder)
                trained = job.fit(run, resume=run_id is not None)
            except KeyboardInterrupt:
                log.warning("stopped; go on with: python -m ccsweep training.resume=%s", folder)
                raise
            run.log_artifact(folder / "checkpoints" / "best.ckpt", "checkpoints")
            return _finish(run, config, folder, dataset, trained, job.test(run), began)


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
    yield dataset


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


def _found(config: Config, ref: str) -> FoundRun:
    return find_run(_uri(config), ref)


def _start(config: Config, folder: Path, overrides: list[str], dataset: "Dataset") -> Run:
    """Open the tracked run, with all that is known before training."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    settings = [folder / "config.yaml", folder / "overrides.yaml"]
    write_text(settings[0], mask(OmegaConf.to_yaml(OmegaConf.structured(config))))
    write_text(settings[1], mask(OmegaConf.to_yaml(OmegaConf.create(overrides))))
    name = dataset.name
    if dataset.stand_in_for is not None:
        name = f"{dataset.name}-for-{dataset.stand_in_for}"
    estimator = [] if config.rank_notation == "control" else [config.estimator.name]
    words = [name, config.rank_notation, *estimator, f"s{config.training.seed}"]
    if config.task == "evaluate":
        words.insert(0, "evaluate")
    tags = {"ccsweep.task": config.task, "ccsweep.data": dataset.label}
    if config.run is not None:
        tags["ccsweep.evaluates"] = config.run
    if dataset.stand_in_for is not None:
        tags["ccsweep.stand_in_for"] = dataset.stand_in_for
    uri = _uri(config)
    parent = None
    if config.tracking.sweep is not None:
        parent = open_parent(uri, dataset.label, Path(config.tracking.sweep))
    run = Run.start(
        uri,
        experiment=dataset.label,
        name=" ".join(words),
        params=asdict(config),
        tags=tags,
        folder=folder,
        parent_id=parent,
        system_metrics=config.tracking.system_metrics,
    )
    for file in (*settings, *provenance.write(folder, threads=torch.get_num_threads())):
        run.log_artifact(file)
    splits = {name: len(getattr(dataset, name).labels) for name in ("train", "validation", "test")}
    run.log_dataset(
        dataset.name,
        digest=dataset.digest,
        source=config.data.dir or "embedded, or in the user's cache",
        context="train, validation and test",
        profile={"images": splits, "features": dataset.features, "notes": list(dataset.notes)},
    )
    return run


def _finish(
    run: Run,
    config: Config,
    folder: Path,
    dataset: "Dataset",
    trained: "Trained | None",
    tested: "Tested",
    began: float,
) -> Report:
    """Write report.json, log it and print the table."""
    from ccsweep import report
    from ccsweep.tracking.ui import command

    found = report.summarise(config, dataset, trained, tested) | {
        "seconds": time.perf_counter() - began,
        "run_id": run.id,
        "folder": str(folder),
        "open_with": command(run.uri),
    }
    run.log_artifact(report.write(found, folder))
    report.show(found)
    return found


def _settings_of(trained: Path, config: Config, overrides: Sequence[str], by: str) -> Config:
    """The settings of a trained run, with the overrides of this command on top.

    Args:
        trained: the trained run's folder.
        config: this command's config, where the overrides already took effect.
        overrides: what this command says.
        by: the key that names the run; ``MAY_CHANGE`` says what else may stand beside it.
    """
    path = trained / "config.yaml"
    if not path.is_file():
        raise UserError(f"{by}: {path} is missing; expected the folder of a ccsweep run")
    settings = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path))
    assert isinstance(settings, DictConfig)
    given = OmegaConf.structured(config)
    for override in overrides:
        key = _key(override)
        if not any(key == k or key.startswith(f"{k}.") for k in MAY_CHANGE[by]):
            allowed = ", ".join(k for k in MAY_CHANGE[by] if k not in (by, "task"))
            raise UserError(f"{key}: cannot change with {by}=...; only {allowed} can")
        OmegaConf.update(settings, key, OmegaConf.select(given, key), force_add=True)
    settings.tracking = given.tracking
    settings.training.resume = None
    return check(settings)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


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
