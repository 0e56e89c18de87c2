"""A trial as an experiment file: what its command's overrides come to, in Hydra's own terms.

Group choices become the file's defaults list, everything else its values. Values are taken from the
config that the trial really ran with, not from the overrides: an override of one element of a list
(``ranks.layers.0=12``) has no counterpart in a file, and a file of the configs may have changed since.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from ccsweep.config.check import check
from ccsweep.config.places import groups, root
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.study.folder import TrialFolder

_NOT_THE_RUNS = ("sweep", "tracking", "hydra", "seeds", "pick", "to", "test", "training.resume")
_THE_MACHINES = ("data.dir", "data.verify", "training.device")  # kept where the study itself said so
_OF_A_RUN = ("ranks", "estimator")  # the groups that a trained run may be given anew


@dataclass
class Experiment:
    """What a file says: experiments it builds on, options by group, and values by dotted key."""

    builds_on: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def text(self, comment: Sequence[str]) -> str:
        """The file, ``comment`` below its first line."""
        entries = [f"  - /experiment/{name}" for name in self.builds_on]
        entries += [f"  - override /{group}: {_yaml(option)}" for group, option in self.options.items()]
        if entries:
            entries = ["defaults:", *entries, "  - _self_"]
        body: dict[str, Any] = {}
        for key, value in self.values.items():
            *parents, leaf = key.split(".")
            place = body
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = value
        lines = ["# @package _global_", *(f"# {line}" for line in comment), *entries]
        return "\n".join([*lines, *([""] if entries and body else []), *_lines(body)]) + "\n"


def experiment(base: Sequence[str], own: Sequence[str], ran: Config | None) -> Experiment:
    """What a file must say to run a trial again.

    Args:
        base: plain overrides of the study's command.
        own: of the trial.
        ran: the settings that the trial ran with; None where its folder is not at hand, and then what the
            overrides mean today is taken.

    Raises:
        UserError: the study's file under ``sweeps/`` is not there any more.
        HydraException, OmegaConfBaseException: the overrides mean nothing today.
    """
    found, named = _sorted([*base, *own])
    settings = _flat(composed([*base, *own]) if ran is None else ran)
    if settings["task"] != "train":  # on top of a run, only what is named changes
        found.builds_on.clear()
        found.options = {group: found.options[group] for group in _OF_A_RUN if group in found.options}
        kept = [key for key in named if key.partition(".")[0] in (*_OF_A_RUN, "data", "training")]
        found.values = {key: settings[key] for key in ("task", "run", *sorted(kept))}
        if ran is None:  # Hydra reads an id like 123e4567 as a number
            typed = [line.partition("=")[2] for line in base if line.startswith("run=")]
            found.values["run"] = (typed or [settings["run"]])[-1].strip("'\"")
        return found
    chosen = [f"+experiment={name}" for name in found.builds_on]
    plain = _flat(composed([*chosen, *(f"{group}={option}" for group, option in found.options.items())]))
    for key, value in settings.items():
        if key in named or (value != plain[key] and not _is_under(key, _THE_MACHINES)):
            found.values[key] = value
    return found


def settings_in(folder: TrialFolder) -> Config | None:
    """The settings that a run wrote into its folder; None if they are not there."""
    if not folder.settings.is_file():
        return None
    merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(folder.settings))
    config: Config = OmegaConf.to_object(merged)  # type: ignore[assignment]
    return config


def _sorted(lines: Sequence[str]) -> tuple[Experiment, set[str]]:
    """Group choices apart from the keys of all other overrides, lists by their own key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found, named = Experiment(), set()
    weak: dict[str, str] = {}  # a file's, which the command line overrides
    known, flat = groups(), _flat(Config())
    for override in OverridesParser.create().parse_overrides(list(lines)):
        key, value = override.key_or_group, override.value()
        if key == "experiment":
            found.builds_on.append(str(value))
        elif key == "sweeps":
            builds_on, options, keys = _sweep_file(str(value))
            found.builds_on += builds_on
            weak |= options
            named |= keys
        elif key in known and isinstance(value, str):
            found.options.pop(key, None)  # Hydra takes the last one
            found.options[key] = value
        elif not _is_under(key, _NOT_THE_RUNS):
            while key not in flat and "." in key:  # ranks.layers.0 is part of ranks.layers
                key = key.rpartition(".")[0]
            named.add(key)
    found.options = {**weak, **found.options}
    found.builds_on = list(dict.fromkeys(found.builds_on))
    return found, named & set(flat)


def _sweep_file(name: str) -> tuple[list[str], dict[str, str], set[str]]:
    """Experiments, options and keys of a file under ``sweeps/``, which an experiment cannot build on."""
    path = root() / "sweeps" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{path}: is missing; the study was started with it, and its export needs it")
    content = OmegaConf.load(path)
    assert isinstance(content, DictConfig)
    builds_on, options = [], {}
    for entry in content.get("defaults", []):
        if isinstance(entry, DictConfig):
            ((group, option),) = entry.items()
            group = str(group).removeprefix("override ").lstrip("/")
            if group == "experiment":
                builds_on.append(str(option))
            else:
                options[group] = str(option)
        elif str(entry) != "_self_":
            builds_on.append(str(entry).removeprefix("/experiment/"))
    keys = {key for key in _leaves(content) if not _is_under(key, (*_NOT_THE_RUNS, "defaults"))}
    return builds_on, options, keys


def composed(overrides: Sequence[str]) -> Config:
    """The config that a plain run with ``overrides`` would have today, the study's own keys left out."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    loader = ConfigLoaderImpl(create_config_search_path(str(root() / "conf")))
    cfg = loader.load_configuration("config", list(overrides), run_mode=RunMode.RUN)
    OmegaConf.set_readonly(cfg, False)
    with open_dict(cfg):
        del cfg["hydra"]
        cfg.sweep, cfg.seeds = OmegaConf.structured(Config().sweep), 1
    return check(cfg)


def _flat(config: Config) -> dict[str, Any]:
    """Values by dotted key, lists whole, of what makes a run."""

    def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return {key: value for key, value in leaves(asdict(config)) if not _is_under(key, _NOT_THE_RUNS)}


def _leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        value = OmegaConf.to_container(node)[key]  # type: ignore[index,call-overload]
        if isinstance(value, dict):
            yield from _leaves(node[key], f"{prefix}{key}.")
        else:
            yield prefix + key


def _is_under(key: str, keys: Sequence[str]) -> bool:
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def _lines(body: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in body.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {_yaml(value)}"


def _yaml(value: Any) -> str:
    """A value on one line that OmegaConf reads back as the same: a run's id may look like a number."""
    if isinstance(value, list | ListConfig):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, str) and OmegaConf.create(f"value: {value}").value != value:
        return json.dumps(value)
    return OmegaConf.to_yaml({"value": value}).strip().removeprefix("value: ")
