"""What can be configured, and the checks that need no data.

Hydra checks names and types against ``ccsweep.config.schema`` while it composes; :func:`check` then looks at
values and at what the groups mean together, before any data is read. Every complaint is one line
(:class:`UserError`).
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ccsweep.config.keys import did_you_mean, unknown_key
from ccsweep.config.places import ADDED_GROUPS, groups
from ccsweep.config.schema import ArchitectureConfig, Config, DataConfig, SweepConfig, TrainingConfig
from ccsweep.data import check as check_data
from ccsweep.errors import UserError

TASKS = ("train", "evaluate", "benchmark", "sweep_status", "export")
OF_STUDIES = ("sweep_status", "export")  # tasks about a study: neither data nor a run
_OPEN = tuple(f"sweep.{name}" for name in ("space", "conditions", "objectives", "slurm", "paper"))
PRUNED_BY = ("validation/error", "validation/loss")  # what training tells of an epoch; less is better
SAMPLERS = ("tpe", "nsgaii", "gp", "random", "grid")


def known_keys(schema: type = Config, prefix: str = "") -> list[str]:
    """All dotted keys of the schema, groups included."""
    keys = []
    for f in fields(schema):
        keys.append(prefix + f.name)
        if isinstance(f.type, type) and is_dataclass(f.type):
            keys += known_keys(f.type, f"{prefix}{f.name}.")
    return keys


def check(cfg: DictConfig) -> Config:
    """Check a composed config and return it as plain typed objects.

    A config that names a trained run stands for that run's settings with some changed; its values mean
    something only on top of those, so :func:`check_values` is left to who merges the two.

    Args:
        cfg: the composed config, its type the schema's.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    if added := sorted(set(_keys(cfg)) - set(known_keys())):
        raise UserError(unknown_key(added[0], [*known_keys(), *ADDED_GROUPS]))
    missing = sorted(str(key) for key in OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} has no value; expected one from its config group or {missing[0]}=...")
    config: Config = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    _check_task(config)
    check_sweep(config.sweep)
    if config.seeds != 1 and config.tracking.sweep is None:
        raise UserError(
            f"seeds={config.seeds}: repeats the rows of a multirun; add -m, or set training.seed for one run"
        )
    if config.task == "train" and config.training.resume is None:
        check_values(config)
    return config


def check_values(config: Config) -> None:
    """Check every value, and what the groups mean together.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    _check_data(config.data)
    _check_architecture(config.architecture)
    _check_ranks(config)
    _check_estimator(config)
    _check_training(config.training)


def _keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted keys that are really there: ``+key=value`` adds to a typed config too."""
    for key in map(str, cfg):
        yield f"{prefix}{key}"
        if f"{prefix}{key}" in _OPEN:  # its keys are the user's
            continue
        if not OmegaConf.is_missing(cfg, key) and isinstance(cfg[key], DictConfig):
            yield from _keys(cfg[key], f"{prefix}{key}.")


def _require(ok: bool, key: str, found: Any, expected: str) -> None:
    if not ok:
        shown = {"None": "null", "True": "true", "False": "false"}.get(str(found), found)
        raise UserError(f"{key}={shown}: expected {expected}")


def _one_of(key: str, found: str, known: tuple[str, ...]) -> None:
    hint = did_you_mean(found, list(known))
    _require(found in known, key, found, f"one of {', '.join(known)}{hint}")


def _check_task(config: Config) -> None:
    _one_of("task", config.task, TASKS)
    if config.task in OF_STUDIES:
        if config.tracking.sweep is not None:
            raise UserError(f"task={config.task}: is about a study, and no trial; leave -m out")
        _require(config.sweep.name is not None, "sweep.name", None, "the name of a study, or its folder")
        return
    if config.task != "train":
        _require(config.run is not None, "run", None, f"a run id or folder, as in task={config.task} run=ID")
    else:
        _require(config.run is None, "run", config.run, f"null with task={config.task}; add task=evaluate")
    name = config.tracking.register
    modelled = config.task != "evaluate" or name is None
    _require(modelled, "tracking.register", name, "null with task=evaluate; task=benchmark logs a model")
    if config.task == "benchmark" and config.tracking.sweep is not None:
        raise UserError("task=benchmark: times one network a command, alone on the machine; leave -m out")


def check_sweep(sweep: SweepConfig) -> None:
    """Check the values of the ``sweep`` group; what they search is read when a sweep starts.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """

    def number(name: str, ok: bool, expected: str) -> None:
        _require(ok, f"sweep.{name}", getattr(sweep, name), expected)

    s = sweep
    number("name", s.name is None or s.name.strip(" ./~") != "", "a name, or the path of a folder")
    for key, direction in s.objectives.items():
        _one_of(f"sweep.objectives.{key}", direction, ("minimize", "maximize"))
    if s.sampler is not None:
        _one_of("sweep.sampler", s.sampler, SAMPLERS)
    _one_of("sweep.cluster", s.cluster, ("local", "slurm"))
    if s.pruning is not None:
        _one_of("sweep.pruning", s.pruning, PRUNED_BY)
    number("seed", 0 <= s.seed < 2**32, "0 or more, below 2 to the 32")
    number("n_trials", s.n_trials is None or s.n_trials > 0, "a positive number of trials, or null")
    number("workers", s.workers > 0, "1 or more")
    number("retries", s.retries >= 0, "0 or more")
    timeout = s.trial_timeout
    number("trial_timeout", timeout is None or timeout > 0, "a positive number of minutes, or null")
    number("preview", s.preview is None or s.preview > 0, "a positive number of points, or null")


def _check_data(data: DataConfig) -> None:
    check_data(data.name, data.stand_in, data.extra, data.samples)
    _require(data.features > 0, "data.features", data.features, "a positive number of inputs")
    _require(data.classes > 1, "data.classes", data.classes, "at least 2 classes")


def _check_architecture(architecture: ArchitectureConfig) -> None:
    hidden = architecture.hidden
    _require(len(hidden) > 0, "architecture.hidden", hidden, "at least one hidden layer")
    _require(
        min(hidden, default=1) > 0,
        "architecture.hidden",
        hidden,
        "a positive number of units per layer",
    )


def _check_ranks(config: Config) -> None:
    ranks, sizes = config.ranks, config.layer_sizes
    for name in ("energy", "budget"):
        if (share := getattr(ranks, name)) is not None:
            key = f"ranks.{name}"
            _require(ranks.layers is None, key, share, f"null when ranks.layers is a list; use ranks={name}")
            _require(0 < share <= 1, key, share, "a share above 0 and at most 1")
    both = ranks.energy is not None and ranks.budget is not None
    _require(not both, "ranks.energy", ranks.energy, "null when ranks.budget is given")
    if ranks.layers is None:
        return
    hidden = len(config.architecture.hidden)
    whole = all(isinstance(rank, int) for rank in ranks.layers)  # OmegaConf lets nested lists pass
    _require(whole, "ranks.layers", ranks.layers, "whole numbers, as in [40,30,20]")
    _require(
        len(ranks.layers) == hidden,
        "ranks.layers",
        ranks.layers,
        f"{hidden} ranks, one per hidden layer of {'-'.join(map(str, sizes))}; found {len(ranks.layers)}",
    )
    for i, (rank, inputs, units) in enumerate(zip(ranks.layers, sizes, sizes[1:], strict=False)):
        limit = min(inputs, units)
        _require(
            1 <= rank <= limit,
            f"ranks.layers[{i}]",
            rank,
            f"1 to {limit}, the smaller side of the {inputs}x{units} layer",
        )


def _check_estimator(config: Config) -> None:
    e = config.estimator

    def number(name: str, ok: bool, expected: str) -> None:
        _require(ok, f"estimator.{name}", getattr(e, name), expected)

    _one_of("estimator.name", e.name, tuple(groups()["estimator"]))
    _one_of("estimator.moments", e.moments, ("calibration", "running"))
    _one_of("estimator.refresh", e.refresh, ("full", "randomised", "warm"))
    _one_of("estimator.placement", e.placement, ("all", "first"))
    number("threshold", isfinite(e.threshold), "a finite number")
    loss, density = e.energy_loss, e.density
    number("energy_loss", loss is None or 0 < loss < 1, "a share above 0 and below 1, or null")
    number("density", density is None or 0 < density <= 1, "a share above 0 and at most 1, or null")
    number("density", loss is None or density is None, "null when estimator.energy_loss is given")
    by_data = "energy_loss" if loss is not None else "density"
    free = (loss is None and density is None) or e.threshold == 0
    number("threshold", free, f"0 when estimator.{by_data} sets the thresholds")
    number("calibration", e.calibration > 0, "a positive number of training images")
    number("refresh_steps", e.refresh_steps is None or e.refresh_steps > 0, "a positive number, or null")
    start = e.gate_in_training
    number("gate_in_training", start >= 0, "true, false, or the epoch to start in, counted from 0")
    listed = config.ranks.layers is not None or config.gated_layers == 0
    number("refresh", e.refresh == "full" or listed, "full unless ranks.layers is a list")
    blind = e.name in ("svd", "random")  # to inputs
    number("moments", e.moments == "calibration" or not blind, "calibration with estimator.name=" + e.name)


def _check_training(training: TrainingConfig) -> None:
    def number(name: str, ok: bool, expected: str) -> None:
        _require(ok, f"training.{name}", getattr(training, name), expected)

    t = training
    for name in ("epochs", "batch_size"):
        number(name, getattr(t, name) > 0, "a positive whole number")
    for name in ("learning_rate", "learning_rate_decay", "momentum_growth"):
        number(name, getattr(t, name) > 0, "a positive number")
    for name in ("dropout_input", "dropout_hidden", "momentum", "momentum_max"):
        number(name, 0 <= getattr(t, name) < 1, "at least 0 and below 1")
    for name in ("l1", "l2", "weight_std"):
        number(name, getattr(t, name) >= 0, "0 or more")
    number("seed", 0 <= t.seed < 2**32, "0 or more, below 2 to the 32")
    number("max_norm", t.max_norm is None or t.max_norm > 0, "a positive number, or null for none")
    number("patience", t.patience is None or t.patience > 0, "a positive number of epochs, or null")
    number("max_minutes", t.max_minutes is None or t.max_minutes > 0, "a positive time, or null")
    _one_of("training.device", t.device, ("auto", "cpu", "cuda"))
    _one_of("training.precision", t.precision, ("float32", "bfloat16"))
