"""A trial as an experiment file: what its command's overrides come to, in Hydra's own terms.

Group choices become the file's defaults list, everything else its values. Values are taken from the
config that the trial really ran with, not from the overrides: an override of one element of a list
(``ranks.layers.0=12``) has no counterpart in a file, and a file of the configs may have changed since.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import ListConfig, OmegaConf

from ccsweep.config.check import check, plain
from ccsweep.config.composed import Said, composed, read_file, read_settings
from ccsweep.config.keys import has_role, known_keys
from ccsweep.config.marks import Role
from ccsweep.config.places import groups, root
from ccsweep.config.schema import Config
from ccsweep.dotted import leaves
from ccsweep.errors import UserError
from ccsweep.study.folder import TrialFolder


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
    settings = _of_the_run(_today([*base, *own]) if ran is None else ran)
    if settings["task"] != "train":  # on top of a run, only what is named changes
        found.builds_on.clear()
        found.options = {g: o for g, o in found.options.items() if _may_be_given_anew(g)}
        kept = sorted(key for key in named & settings.keys() if _may_be_given_anew(key))
        found.values = {key: settings[key] for key in ("task", "run", *kept)}
        if ran is None:  # Hydra reads an id like 123e4567 as a number
            typed = [line.partition("=")[2] for line in base if line.startswith("run=")]
            found.values["run"] = (typed or [settings["run"]])[-1].strip("'\"")
        return found
    chosen = [f"+experiment={name}" for name in found.builds_on]
    chosen += [f"{group}={option}" for group, option in found.options.items()]
    otherwise = _of_the_run(plain(composed(chosen)))  # unchecked: without its file data=arrays is nothing
    for key, value in settings.items():
        if key in named or (value != otherwise[key] and not has_role(key, Role.MACHINE)):
            found.values[key] = value
    return found


def settings_in(folder: TrialFolder) -> Config | None:
    """The settings that a run wrote into its folder; None if they are not there."""
    if not folder.settings.is_file():
        return None
    config: Config = OmegaConf.to_object(read_settings(folder.settings))  # type: ignore[assignment]
    return config


def _sorted(lines: Sequence[str]) -> tuple[Experiment, set[str]]:
    """Group choices apart from the keys of all other overrides, lists by their own key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = Experiment()
    named: set[str] = set()
    weak: dict[str, str] = {}  # a file's, which the command line overrides
    known = groups()
    for override in OverridesParser.create().parse_overrides(list(lines)):
        key, value = override.key_or_group, override.value()
        if key == "experiment":
            found.builds_on.append(str(value))
        elif key == "sweeps":
            said = _sweep_file(str(value))
            found.builds_on += [option for group, option in said.options if group == "experiment"]
            weak |= {group: option for group, option in said.options if group != "experiment"}
            named |= said.values.keys()
        elif key in known and isinstance(value, str):
            found.options.pop(key, None)  # Hydra takes the last one
            found.options[key] = value
        else:
            while key not in known_keys() and "." in key:  # ranks.layers.0 is part of ranks.layers
                key = key.rpartition(".")[0]
            named.add(key)
    found.options = {**weak, **found.options}
    found.builds_on = list(dict.fromkeys(found.builds_on))
    return found, named


def _sweep_file(name: str) -> Said:
    """What a file under ``sweeps/`` says, which an experiment cannot build on."""
    path = root() / "sweeps" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{path}: is missing; the study was started with it, and its export needs it")
    return read_file(path)


def _today(overrides: Sequence[str]) -> Config:
    cfg = composed(overrides)
    cfg.seeds = 1  # of the study, and refused in a single run
    return check(cfg)


def _may_be_given_anew(key: str) -> bool:
    """Whether a trained run may have another value than it was trained with, and the result depends on it."""
    return has_role(key, Role.RUN) and not has_role(key, Role.COMMAND)


def _of_the_run(config: Config) -> dict[str, Any]:
    """Values by dotted key, lists whole, of what makes a run."""
    settings = leaves(asdict(config))
    return {key: value for key, value in settings if not has_role(key, Role.STUDY, Role.COMMAND)}


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
