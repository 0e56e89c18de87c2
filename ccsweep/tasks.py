"""What ``task=...`` can be: each composes data, training, tracking and report into one run."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ccsweep import tracking
from ccsweep.atomic import write_text
from ccsweep.config import Config, check
from ccsweep.errors import UserError

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
    found = tracking.find_run(_uri(config), resume)
    if found.run_id is None:
        raise UserError(f"training.resume={resume}: the folder names no run; expected one with a run_id file")
    settings = _settings_of(found.folder, config, overrides, "training.resume")
    return _train(settings, found.folder, overrides, found.run_id)


def evaluate(config: Config, folder: Path, overrides: list[str]) -> Report:
    """Test a trained run again, with the ranks or the estimator that the overrides name."""
    assert config.run is not None
    found = tracking.find_run(_uri(config), config.run)
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


def _train(
    config: Config, folder: Path, overrides: list[str], run_id: str | None = None
) -> Report:
    with _prepared(config) as dataset:
        from ccsweep.training.fit import Job

        if run_id is None:
            run = _start(config, folder, overrides, dataset)
        else:
            run = tracking.Run.resume(_uri(config), run_id)
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


@contextmanager
def _prepared(config: Config) -> Iterator["Dataset"]:
    """The data set; MLflow's store gets ready meanwhile, in a thread."""
    with ThreadPoolExecutor(1) as pool:
        store = pool.submit(tracking.prepare, _uri(config))
        from ccsweep import data

        settings = config.data
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
        store.result()
    yield dataset


def _uri(config: Config) -> str:
    return tracking.resolve_uri(config.tracking.uri, Path.cwd() / "outputs")


def _start(
    config: Config, folder: Path, overrides: list[str], dataset: "Dataset"
) -> tracking.Run:
    """Open the tracked run, with all that is known before training."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    name = dataset.name
    if dataset.stand_in_for is not None:
        name = f"{dataset.name}-for-{dataset.stand_in_for}"
    estimator = [] if config.rank_notation == "control" else [config.estimator.name]
    words = [name, config.rank_notation, *estimator, f"s{config.training.seed}"]
    if config.task == "evaluate":
        words.insert(0, "evaluate")
    uri = _uri(config)
    parent = None
    if config.tracking.sweep is not None:
        parent = tracking.open_parent(uri, dataset.label, Path(config.tracking.sweep))
    return tracking.Run.start(
        uri,
        experiment=dataset.label,
        name=" ".join(words),
        params=asdict(config),
        tags={"ccsweep.task": config.task, "ccsweep.data": dataset.label},
        folder=folder,
        parent_id=parent,
    )
