"""Configs composed beside the one that Hydra runs, and what the files under ``conf/`` and ``sweeps/`` say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ccsweep.config.places import root
from ccsweep.dotted import leaves
from ccsweep.errors import UserError, first_line

_LAST = "sweep"  # group of every config.yaml that was ever written


def composed(overrides: Sequence[str]) -> DictConfig:
    """The config that a plain run with ``overrides`` would have today.

    Raises:
        HydraException, OmegaConfBaseException: the overrides mean nothing today.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    loader = ConfigLoaderImpl(create_config_search_path(str(root() / "conf")))
    cfg = loader.load_configuration("config", list(overrides), run_mode=RunMode.RUN)
    OmegaConf.set_struct(cfg, False)  # which also closes what is the user's, as sweep.space
    del cfg["hydra"]
    return cfg


def read_settings(path: Path) -> DictConfig:
    """The settings that a run wrote down; a key that it did not know has the value that it has by default.

    Raises:
        UserError: the file is damaged, or cut off before its last group, which says nothing of a run.
    """
    try:
        written = OmegaConf.load(path)
        if not isinstance(written, DictConfig) or not written:
            raise ValueError("no mapping" if written else "empty")
        if _LAST not in written:
            raise ValueError(f"it ends before {_LAST}")
        settings = OmegaConf.merge(_defaults(), written)
        assert isinstance(settings, DictConfig)
        OmegaConf.to_object(settings)
        return settings
    except Exception as error:  # YAML, OmegaConf and codecs raise a dozen kinds
        hint = "restore the file, or train the run again"
        raise UserError(f"{path}: cannot be read as settings ({first_line(error)}); {hint}") from error


def read_overrides(path: Path) -> list[str]:
    """The overrides that a run wrote down.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = OmegaConf.load(path)
        if not isinstance(content, ListConfig):
            raise ValueError("no list")
        return [str(line) for line in content]
    except Exception as error:  # YAML, OmegaConf and codecs raise a dozen kinds
        hint = "restore the file, or train the run again"
        raise UserError(f"{path}: cannot be read as overrides ({first_line(error)}); {hint}") from error


@cache
def _defaults() -> DictConfig:
    return composed([])


@dataclass(frozen=True)
class Said:
    """What a file of the configs says: options it chooses, as (group, option), and values by dotted key."""

    options: list[tuple[str, str]]
    values: dict[str, Any]


def read_file(path: Path) -> Said:
    """Read a file under ``conf/experiment`` or ``sweeps/``.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a config ({first_line(error)}); mend it") from error
    options = []
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):
            ((group, option),) = entry.items()
            options.append((group.removeprefix("override ").lstrip("/"), str(option)))
        elif entry != "_self_":  # as /experiment/mnist
            group, _, option = entry.lstrip("/").rpartition("/")
            options.append((group, option))
    return Said(options, dict(leaves(content)))
