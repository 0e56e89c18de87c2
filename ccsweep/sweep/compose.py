"""A trial's config from its overrides, as Hydra's launchers compose it, in a few milliseconds.

Hydra takes some 70 ms to compose a config. What the groups give is the same for every trial that chooses
the same options, so that is composed once and plain values are put on top of a copy of it.
"""

import copy
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from ccsweep.config.check import check
from ccsweep.config.schema import Config


class Composer:
    """Composes configs on top of a sweep's own.

    Args:
        loader: Hydra's, of the sweep.
        master: the sweep's config, ``hydra`` node included.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._parser = OverridesParser.create(config_loader=loader)
        self._by_groups: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        self._groups: dict[str, bool] = {}

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a run with ``overrides``, ``hydra`` node included.

        Raises:
            HydraException, OmegaConfBaseException: an override that does not fit the schema.
        """
        whole, _, values = self._parted(overrides)
        cfg = self._on_top(whole, values, overrides)
        with open_dict(cfg.hydra):
            cfg.hydra.overrides.task = list(overrides)
        return cfg

    def checked(self, overrides: Sequence[str]) -> Config:
        """The same without ``hydra``, its values checked.

        Raises:
            UserError: a value that cannot be meant.
            HydraException, OmegaConfBaseException: an override that does not fit the schema.
        """
        _, job, values = self._parted(overrides)
        cfg = self._on_top(job, values, overrides)
        if "hydra" in cfg:
            cfg = without_hydra(cfg)
        return check(cfg)

    def _parted(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig, list[Override]]:
        """What the groups give, with and without ``hydra``, and the plain values for on top of it."""
        values: list[Override] = []
        others: list[Override] = []
        for override in self._parser.parse_overrides(list(overrides)):
            (values if self._is_plain_value(override) else others).append(override)
        rest = tuple(str(override.input_line) for override in others)
        if rest not in self._by_groups:
            whole = self._loader.load_sweep_config(self._master, list(rest))
            self._by_groups[rest] = (whole, without_hydra(whole))
        return *self._by_groups[rest], values

    def _on_top(self, base: DictConfig, values: list[Override], overrides: Sequence[str]) -> DictConfig:
        cfg = copy.deepcopy(base)
        try:
            for override in values:
                OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
        except Exception:  # Hydra's own words for what does not fit
            return self._loader.load_sweep_config(self._master, list(overrides))
        return cfg

    def _is_plain_value(self, override: Override) -> bool:
        return (
            override.type == OverrideType.CHANGE
            and override.package is None
            and not override.is_hydra_override()
            and not self._is_group(override.key_or_group)
        )

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:  # Hydra copies its whole search path in order to answer
            self._groups[key] = bool(self._loader.get_group_options(key))
        return self._groups[key]


def settings_in(cfg: DictConfig) -> Config:
    """The run's part of a composed config as plain objects, unchecked: the task checks them.

    Raises:
        OmegaConfBaseException: a value is missing.
    """
    nodes = {f.name: cfg[f.name] for f in fields(Config)}
    values: dict[str, Any] = {
        k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in nodes.items()
    }
    return Config(**values)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A copy of the run's part of a composed config."""
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
