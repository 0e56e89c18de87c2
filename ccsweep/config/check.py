"""The checks of a config that need no data.

Hydra checks names and types against ``ccsweep.config.schema`` while it composes; :func:`check` then looks at
the ranges that stand there and at what the groups mean together, before any data is read. Every complaint is
one line (:class:`UserError`).
"""

import os
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from math import isfinite
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, Predicate
from omegaconf import DictConfig, OmegaConf

from ccsweep.config.keys import did_you_mean, known_keys, schema, unknown_key
from ccsweep.config.marks import OneOf
from ccsweep.config.places import ADDED_GROUPS, groups
from ccsweep.config.quoting import check_path
from ccsweep.config.schema import TASKS, Config, SweepConfig
from ccsweep.data import check as check_data
from ccsweep.errors import UserError

MOST_SEEDS = 100_000
LARGEST_FLOAT = 3.4028235e38  # of float32


def check(cfg: DictConfig) -> Config:
    """Check a composed config and return it as plain typed objects.

    A config that names a trained run stands for that run's settings with some changed; its values mean
    something only on top of those, so :func:`check_values` is left to who merges the two.

    Args:
        cfg: the composed config, its type the schema's.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
        OmegaConfBaseException: an interpolation that cannot be resolved.
    """
    if added := sorted(set(_keys(cfg)) - set(known_keys())):
        raise UserError(unknown_key(added[0], [*known_keys(), *ADDED_GROUPS]))
    missing = sorted(str(key) for key in OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} has no value; expected one from its config group or {missing[0]}=...")
    config = plain(cfg)
    _check_task(config)
    check_sweep(config.sweep)
    _require(config.seeds >= 1, "seeds", config.seeds, "1 or more")
    _require(config.seeds <= MOST_SEEDS, "seeds", config.seeds, f"at most {MOST_SEEDS:,}")
    if config.seeds != 1 and config.tracking.sweep is None and config.task != "confirm":
        raise UserError(
            f"seeds={config.seeds}: repeats the rows of a multirun; add -m, or set training.seed for one run"
        )
    if TASKS[config.task].model or (config.task == "train" and config.training.resume is None):
        check_values(config)
    return config


def plain(cfg: DictConfig) -> Config:
    """A composed config as plain typed objects, its values unchecked.

    Raises:
        UserError: an interpolation brought a number where a list or a mapping is meant.
        OmegaConfBaseException: an interpolation that cannot be resolved.
    """
    config: Config = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    for key in schema().values():
        kinds = {get_origin(kind) for kind in (key.type, *get_args(key.type))} & {dict, list}
        value = reduce(getattr, key.name.split("."), config)
        if kinds and value is not None:
            kind = kinds.pop()
            _require(
                isinstance(value, kind), key.name, value, "a list" if kind is list else "keys with values"
            )
    return config


def check_values(config: Config) -> None:
    """Check every value that a run needs, and what the groups mean together.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    data = config.data
    check_data(data.name, data.stand_in, data.extra, data.samples, data.own)
    _check_ranges(data, "data")
    _check_architecture(config)
    _check_ranks(config)
    _check_ranges(config.estimator, "estimator")
    _check_estimator(config)
    _check_ranges(config.training, "training")


def check_sweep(sweep: SweepConfig) -> None:
    """Check the values of the ``sweep`` group; what they search is read when a sweep starts.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    named = sweep.name is None or sweep.name.strip(" ./~") != ""
    _require(named, "sweep.name", sweep.name, "a name, or the path of a folder")
    if sweep.name is not None:
        check_path("sweep.name", sweep.name)
    _check_ranges(sweep, "sweep")


def _keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted keys that are really there: ``+key=value`` adds to a typed config too."""
    for name in map(str, cfg):
        key = f"{prefix}{name}"
        yield key
        if key in schema() and schema()[key].is_open:
            continue
        if not OmegaConf.is_missing(cfg, name) and isinstance(cfg[name], DictConfig):
            yield from _keys(cfg[name], f"{key}.")


def _require(ok: bool, key: str, found: Any, expected: str) -> None:
    if not ok:
        raise UserError(f"{key}={'null' if found is None else found}: expected {expected}")


def _one_of(key: str, found: str, known: list[str]) -> None:
    hint = did_you_mean(found, known)
    _require(found in known, key, found, f"one of {', '.join(known)}{hint}")


def _check_ranges(node: Any, group: str) -> None:
    """Check the values of a group against what the schema says beside their types."""
    for key in schema().values():
        parent, _, name = key.name.rpartition(".")
        if parent != group or (value := getattr(node, name)) is None:
            continue
        for mark in key.marks:
            if isinstance(mark, OneOf):
                items = value if key.is_open else {"": value}
                for inner, found in items.items():
                    _one_of(f"{key.name}.{inner}".rstrip("."), found, list(mark))
            elif not _is_within(value, mark):
                _require(False, key.name, value, next(m for m in key.marks if isinstance(m, str)))
        _check_size(key.name, value)


def _check_size(key: str, value: Any) -> None:
    """Check that the numbers of a value are finite, and no larger than what computes with them holds."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float):
            _require(isfinite(number), key, value, "a finite number")
            _require(abs(number) <= LARGEST_FLOAT, key, value, "a number that float32 holds, below 3.4e38")
        elif isinstance(number, int):
            _require(abs(number) < 2**63, key, value, "a whole number below 2 to the 63")


def _is_within(value: Any, mark: Any) -> bool:
    match mark:
        case Gt(gt=limit):
            return bool(value > limit)
        case Ge(ge=limit):
            return bool(value >= limit)
        case Lt(lt=limit):
            return bool(value < limit)
        case Le(le=limit):
            return bool(value <= limit)
        case Predicate(func=holds):
            return bool(holds(value))
    return True


def _check_task(config: Config) -> None:
    _one_of("task", config.task, list(TASKS))
    about = TASKS[config.task]
    if about.study:
        if config.tracking.sweep is not None:
            raise UserError(f"task={config.task}: is about a study, and no trial; leave -m out")
        _require(config.sweep.name is not None, "sweep.name", None, "the name of a study, or its folder")
        _check_ranges(config, "")
        return
    if about.run:
        _require(config.run is not None, "run", None, f"a run id or folder, as in task={config.task} run=ID")
    else:
        _require(config.run is None, "run", config.run, f"null with task={config.task}; add task=evaluate")
    if about.model:
        _require(config.model is not None, "model", None, f"a file, as in task={config.task} model=net.onnx")
        _check_ranges(config, "")
    else:
        _require(
            config.model is None, "model", config.model, f"null with task={config.task}; add task=accelerate"
        )
    name = config.tracking.register
    modelled = config.task != "evaluate" or name is None
    _require(modelled, "tracking.register", name, "null with task=evaluate; task=benchmark logs a model")
    if not about.trials and config.tracking.sweep is not None:
        raise UserError(
            f"task={config.task}: times one network a command, alone on the machine; leave -m out"
        )


def _check_architecture(config: Config) -> None:
    key, hidden = "architecture.hidden", config.architecture.hidden
    _require(len(hidden) > 0, key, hidden, "at least one hidden layer")
    whole = all(isinstance(units, int) for units in hidden)  # OmegaConf lets nested lists pass
    _require(whole, key, hidden, "whole numbers, as in [256,128]")
    _require(min(hidden) > 0, key, hidden, "a positive number of units per layer")
    _check_size(key, hidden)
    known = None not in (config.data.features, config.data.classes)  # own data are not read yet
    weights = sum(inputs * units for inputs, units in pairwise(config.layer_sizes if known else hidden))
    wanted, there = 3 * 4 * weights, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _require(
        wanted < there,
        key,
        hidden,
        f"a network that fits into the {there / 1e9:.0f} GB of this machine; weights, gradients and momenta "
        f"of this one take {wanted / 1e9:,.0f} GB",
    )


def _check_ranks(config: Config) -> None:
    ranks, hidden = config.ranks, config.architecture.hidden
    sizes = hidden if config.data.features is None else config.layer_sizes  # own data are not read yet
    for name in ("energy", "budget"):
        share = getattr(ranks, name)
        given = ranks.layers is not None and share is not None
        _require(
            not given, f"ranks.{name}", share, f"null when ranks.layers is a list; add ranks.{name}=null"
        )
    _check_ranges(ranks, "ranks")
    both = ranks.energy is not None and ranks.budget is not None
    _require(not both, "ranks.energy", ranks.energy, "null when ranks.budget is given")
    if ranks.layers is None:
        return
    whole = all(isinstance(rank, int) for rank in ranks.layers)  # OmegaConf lets nested lists pass
    _require(whole, "ranks.layers", ranks.layers, "whole numbers, as in [40,30,20]")
    _require(
        len(ranks.layers) == len(hidden),
        "ranks.layers",
        ranks.layers,
        f"{len(hidden)} ranks, one per hidden layer of {'-'.join(map(str, sizes))}; "
        f"found {len(ranks.layers)}",
    )
    widths = [config.data.features or hidden[0], *hidden]
    for i, (rank, inputs, units) in enumerate(zip(ranks.layers, widths, widths[1:], strict=False)):
        limit = min(inputs, units)
        _require(
            1 <= rank <= limit,
            f"ranks.layers[{i}]",
            rank,
            f"1 to {limit}, the smaller side of the {inputs}x{units} layer",
        )


def _check_estimator(config: Config) -> None:
    e = config.estimator

    def require(name: str, ok: bool, expected: str) -> None:
        _require(ok, f"estimator.{name}", getattr(e, name), expected)

    _one_of("estimator.name", e.name, groups()["estimator"])
    loss, density = e.energy_loss, e.density
    require("density", loss is None or density is None, "null when estimator.energy_loss is given")
    by_data = "energy_loss" if loss is not None else "density"
    free = (loss is None and density is None) or e.threshold == 0
    require("threshold", free, f"0 when estimator.{by_data} sets the thresholds")
    listed = config.ranks.layers is not None or config.gated_layers == 0
    require("refresh", e.refresh == "full" or listed, "full unless ranks.layers is a list")
    blind = e.name in ("svd", "random")  # to inputs
    require("moments", e.moments == "calibration" or not blind, "calibration with estimator.name=" + e.name)
