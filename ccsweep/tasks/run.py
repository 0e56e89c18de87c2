"""A tracked run: it begins with all that its figures will depend on, and ends in every case."""

import contextlib
import functools
import gc
import json
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from ccsweep.config.check import check_values
from ccsweep.config.composed import read_overrides
from ccsweep.config.schema import Config
from ccsweep.dotted import leaves
from ccsweep.errors import UserError
from ccsweep.files import remove_leftovers, sole, write_text
from ccsweep.interrupt import finishing
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.identity import settings_of
from ccsweep.tracking import Run, mask, open_parent, prepare, provenance, resolve_uri
from ccsweep.tracking.client import connect
from ccsweep.tracking.find import noted_run
from ccsweep.tracking.run import NOTE_TAG

ENVIRONMENT_TAG = "ccsweep.environment"
"""File in the study's folder that says with what a trial of a search ran."""

if TYPE_CHECKING:  # torch is imported with the data
    from ccsweep.data.dataset import Dataset

_PROSE = ("training.source", "training.verified")  # about the settings, and no setting


@contextlib.contextmanager
def prepared(config: Config) -> Iterator["Dataset"]:
    """The data set, with torch, Lightning and MLflow imported: one after the other, for threads get in each
    other's way there."""
    print(f"{config.task} {config.data.name} {config.rank_notation}", flush=True)  # before seconds of imports
    uri = resolve_uri(config.tracking.uri)
    gc.disable()  # imports make many objects and no garbage: two seconds less without it
    try:
        prepare(uri)
        dataset = load(config)
        import ccsweep.training.fit  # noqa: F401

        connect(uri)
    finally:
        gc.enable()
    _freeze()
    try:
        yield dataset
    finally:
        gc.collect()  # Lightning's cycles hold the data set, and a multirun runs hundreds in one process


@functools.cache
def _freeze() -> None:
    """What was imported stays: it is not looked through again, a third of a second each time."""
    gc.freeze()


@contextlib.contextmanager
def begun(config: Config, folder: TrialFolder, overrides: list[str], dataset: "Dataset") -> Iterator[Run]:
    """A new run, its folder held, that has settings, code, machine and data written down.

    Raises:
        UserError: the folder has a run already, or another process holds it.
    """
    if (other := noted_run(folder.path)) is not None:
        raise UserError(f"hydra.run.dir={folder.path}: holds run {other} already; choose another folder")
    with held(folder), started(config, folder, overrides, dataset) as run:
        yield run


@contextlib.contextmanager
def started(config: Config, folder: TrialFolder, overrides: list[str], dataset: "Dataset") -> Iterator[Run]:
    """A new run in a folder that is held."""
    with contextlib.ExitStack() as stack:
        write_settings(config, folder)
        write_text(folder.overrides, mask(OmegaConf.to_yaml(OmegaConf.create(overrides))))
        write_text(folder.data, json.dumps({"label": dataset.label, "digest": dataset.digest}) + "\n")
        uri, parent = resolve_uri(config.tracking.uri), None
        if config.tracking.sweep is not None:
            parent = open_parent(uri, dataset.label, Path(config.tracking.sweep), config.sweep.objectives)
        with finishing():  # an interrupt between starting the run and entering it would leave it RUNNING
            run = Run.start(
                uri,
                experiment=dataset.label,
                name=_trial_name(run_name(config, dataset), config, folder),
                params=params(config),
                tags=_tags(config, dataset, folder),
                folder=folder.path,
                parent_id=parent,
                system_metrics=config.tracking.system_metrics,
                patience=60 * config.tracking.patience,
            )
            stack.enter_context(run)
        stack.enter_context(log_file(folder))
        if config.tracking.register is not None:
            run.check_registry(config.tracking.register)
        _describe(run, config, folder, dataset)
        yield run


@contextlib.contextmanager
def held(folder: TrialFolder) -> Iterator[None]:
    """Hold the folder of a run; the lock falls with the process, however that ends.

    Raises:
        UserError: another process holds it.
    """
    refusal = f"{folder.path}: another process is working on this run; wait for it or stop it"
    with sole(folder.lock, refusal):
        remove_leftovers(folder.path)
        yield


@contextlib.contextmanager
def log_file(folder: TrialFolder) -> Iterator[None]:
    """Copy the log into the run's folder, for who looks at it the morning after."""
    handler = logging.FileHandler(folder.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def write_settings(config: Config, folder: TrialFolder) -> None:
    """Write down what a later command takes the run up with."""
    settings = OmegaConf.structured(config)
    settings.training.resume = None
    write_text(folder.settings, mask(OmegaConf.to_yaml(settings)))


def params(config: Config) -> dict[str, object]:
    """What makes the run: settings that its result depends on and that are not null, ranks as numbers.

    ``rank1`` is the first hidden layer's; where the ranks follow from the weights they are logged at the end.
    """
    settings = dict(leaves(settings_of(config)))
    made = {key: value for key, value in settings.items() if value is not None and key not in _PROSE}
    made = {key: value for key, value in made.items() if not key.startswith("ranks.") and key != "task"}
    given = (config.ranks.layers or [])[: config.gated_layers]
    return made | {"ranks": config.rank_notation} | {f"rank{i}": rank for i, rank in enumerate(given, 1)}


def description(config: Config, dataset: "Dataset", folder: TrialFolder, said: str) -> str:
    """What a run is, what is said of it, and the command that runs it again; Markdown."""
    return f"**{run_name(config, dataset)}**: {said}.\n\n    {command(folder)}"


def command(folder: TrialFolder) -> str:
    """The command that runs it again."""
    overrides = read_overrides(folder.overrides)
    own = [line for line in overrides if not line.startswith("tracking.sweep=")]  # its study's
    return shlex.join(["python", "-m", "ccsweep", *own])


def _trial_name(name: str, config: Config, folder: TrialFolder) -> str:
    return name if config.tracking.sweep is None else f"{folder.path.name}: {name}"


def run_name(config: Config, dataset: "Dataset") -> str:
    """The network's, after the task if that is not to train it."""
    if config.model is not None:
        return f"{config.task} {Path(config.model).name}"
    again = [] if config.task == "train" else [config.task]
    return " ".join([*again, network_name(config, dataset)])


def network_name(config: Config, dataset: "Dataset") -> str:
    """As in ``mnist 50-35-25 svd s0``; a stand-in is named as such."""
    name = dataset.name
    if dataset.stand_in_for is not None:
        name = f"{dataset.name}-for-{dataset.stand_in_for}"
    estimator = [] if config.rank_notation == "control" else [config.estimator.name]
    return " ".join([name, config.rank_notation, *estimator, f"s{config.training.seed}"])


def load(config: Config) -> "Dataset":
    """The data that a config names; how wide they are is written into it where it does not know.

    Raises:
        UserError: they cannot be had, or have another shape than the config says.
    """
    settings, dataset = config.data, _read(config)
    if settings.features is None or settings.classes is None:
        settings.features, settings.classes = dataset.features, dataset.classes
        check_values(config)  # whether the ranks fit
    if (dataset.features, dataset.classes) != (settings.features, settings.classes):
        raise UserError(
            f"data.features={settings.features} data.classes={settings.classes}: {dataset.label} "
            f"has {dataset.features} features and {dataset.classes} classes"
        )
    return dataset


def _read(config: Config) -> "Dataset":
    """The same as it is; a study's is kept: its next trial has the same as a rule, and so has its end."""
    from ccsweep import data

    settings = config.data
    if (key := str(settings)) in _newest:
        return _newest[key]
    _newest.clear()
    dataset = data.load(
        settings.name,
        directory=settings.dir,
        verify=settings.verify,
        stand_in=settings.stand_in,
        extra=settings.extra,
        samples=settings.samples,
        **settings.own,
    )
    if config.tracking.sweep is not None:
        _newest[key] = dataset
    return dataset


_newest: "dict[str, Dataset]" = {}


def _tags(config: Config, dataset: "Dataset", folder: TrialFolder) -> dict[str, str]:
    tags = {
        "ccsweep.task": config.task,
        "ccsweep.data": dataset.label,
        NOTE_TAG: description(config, dataset, folder, "not finished"),
    }
    if config.tracking.sweep is not None:
        tags |= {"study": Path(config.tracking.sweep).name, "trial": folder.path.name}
    if config.of_a_search:
        import torch

        place = StudyFolder(folder.path.parents[1]).environments
        path = provenance.write_once(place, threads=torch.get_num_threads())
        tags[ENVIRONMENT_TAG] = f"{place.name}/{path.name}"
    if config.run is not None:
        tags["ccsweep.evaluates"] = config.run
    if dataset.stand_in_for is not None:
        tags["ccsweep.stand_in_for"] = dataset.stand_in_for
    return tags


def _describe(run: Run, config: Config, folder: TrialFolder, dataset: "Dataset") -> None:
    """Log what the figures will depend on: settings, code, machine and data."""
    import torch

    if not config.of_a_search:
        files = [folder.settings, folder.overrides]
        for file in (*files, *provenance.write(folder.path, threads=torch.get_num_threads())):
            run.log_artifact(file)
    own = config.data
    splits = {name: len(getattr(dataset, name).labels) for name in ("train", "validation", "test")}
    run.log_dataset(
        dataset.name,
        digest=dataset.digest,
        source=own.file or own.loader or own.dir or "embedded, or in the user's cache",
        context="train, validation and test",
        profile={"images": splits, "features": dataset.features, "notes": list(dataset.notes)}
        | ({"classes": list(dataset.class_names)} if dataset.class_names else {}),
    )
