"""What Hydra and OmegaConf complain about, as one line a person can act on."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from ccsweep.config.check import known_keys
from ccsweep.config.keys import did_you_mean, schema, unknown_key
from ccsweep.config.places import ADDED_GROUPS, groups
from ccsweep.config.quoting import quoted
from ccsweep.errors import UserError

_SHOWN = 80  # characters


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Turn whatever is raised while a config is composed into one line.

    Hydra and OmegaConf check less than they promise: an item of a list that is null is an AssertionError,
    brackets without end are a RecursionError.

    Args:
        overrides: of the command.

    Raises:
        UserError: in place of any other error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(explained(error, overrides)) from error


def explained(error: Exception, overrides: Sequence[str]) -> str:
    """One line for any error of composing a config; ``overrides`` are the command's."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    return _guess(error, overrides)


def _guess(error: Exception, overrides: Sequence[str]) -> str:
    """Which override it may have been: one of an item of what is no list, or the longest."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        parent, _, item = key.rpartition(".")
        if parent in schema() and not is_dataclass(schema()[parent].type) and not schema()[parent].is_open:
            return f"{override}: {parent} is no list with an item {item}; give it whole, as '{parent}=[...]'"
    shown = max(overrides, key=len, default="the command line")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    reason = " ".join(str(error).split())[:_SHOWN]
    return f"{shown}: cannot be read ({type(error).__name__}{': ' if reason else ''}{reason}); see --help"


def explain(error: Exception) -> str:
    """One line for an error of composing the config: key, what was found, what was expected.

    Args:
        error: what Hydra or OmegaConf raised.
    """
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        hint = "quote lists, as in 'ranks.layers=[40,30,20]'"
        if value and value[0] not in "[{('\"" and key.replace(".", "").replace("_", "").isalnum():
            hint = f"put the value in quotes, as in {shlex.quote(f'{key}={quoted(value)}')}"
        return f"{error.override}: cannot be read as key=value; {hint}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        file = str(error.missing_cfg_file)
        known = next((name for name in groups() if file.startswith(f"{name}/")), file.rpartition("/")[0])
        group, option = known, file.removeprefix(f"{known}/")
        return _unknown_option(group, option.removesuffix(".yaml"), list(error.options or []))
    text = f"{error}\n{error.__cause__ or ''}"
    if "type annotation: Set[str]" in text:  # of Hydra's own class for a sweep
        quotes = "\"+sweep.space={training.l1:'interval(0,1)'}\""
        return f"a sweep within {{...}} is text; put it in quotes, as in {quotes}"
    if added := re.search(r"Could not append to config\. An item is already at '(.+?)'", text):
        return f"{added.group(1)}: has a value already; write {added.group(1)}=... without the plus"
    if unknown := re.search(r"Key '(.+?)' (?:is )?not in", text):
        full = re.search(r"full_key: (\S+)", text)
        return _absent(full.group(1) if full else unknown.group(1))
    if overridden := re.search(r"Could not (?:override|append|delete)[^']*'(.+?)'", text):
        return _absent(overridden.group(1))
    if several := re.search(r"Ambiguous value for argument '(.+?)'", text):
        return f"{several.group(1)}: several values need -m, as in python -m ccsweep -m {several.group(1)}"
    if twice := re.search(r"Multiple values for (\S+)\.", text):
        return f"{twice.group(1)}: has a value already; write {twice.group(1)}=... without the plus"
    if invalid := re.search(r"full_key: (\S+)", text):
        key, reason = invalid.group(1), text[: invalid.start()].strip().splitlines()[-1].strip()
        if "str to Dict" in reason:
            return (
                f"{key}: is no mapping; expected '{key}={{a:1,b:2}}', in quotes: a shell takes braces apart"
            )
        return f"{key}: {reason[:1].lower()}{reason[1:]}"
    return " ".join(text.split())


def _unknown_option(group: str, option: str, options: list[str]) -> str:
    line = f"{group or '--config-name'}={option}: no such option"
    line += f"; expected one of {', '.join(options)}" if options else ""
    line += did_you_mean(option, options)
    if group == "cluster":
        line += "; a profile of your own is found with --config-dir=PLACE, in PLACE/cluster"
    if group == "ranks":
        line += "; for any other ranks write 'ranks.layers=[40,30,20]'"
    return line


def _absent(key: str) -> str:
    for name, known in schema().items():
        if known.is_open and key.startswith(f"{name}."):
            return f"{key}: is not there; add it with a plus, as in '+{name}={{...}}' or '+{key}=...'"
    if key in ADDED_GROUPS:
        return f"{key}: is added with a plus, as in +{key}={groups()[key][0]}"
    if key.startswith("hydra."):
        return f"{key}: no such key in Hydra's own config; python -m ccsweep --cfg hydra shows it"
    return unknown_key(key, [*known_keys(), *ADDED_GROUPS])
