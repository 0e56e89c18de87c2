"""What Hydra has to be handed, as it does not lie in ``conf/``: the schema, the sweeps, two resolvers."""

import secrets
from dataclasses import is_dataclass
from datetime import datetime

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from ccsweep.config.keys import schema
from ccsweep.config.places import named, root
from ccsweep.config.schema import Config


def register() -> None:
    """Register all of it; once a process is enough, and more do no harm.

    The folder that holds ``sweeps/`` cannot be a search path: Hydra would walk all of it for groups.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=_empty())
    for path in sorted((root() / "sweeps").glob("*.yaml")):
        node = OmegaConf.load(path)
        store.store(group="sweeps", name=path.stem, node=node, package="_global_", provider=str(path))
    OmegaConf.register_new_resolver("ccsweep.unique", unique, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("ccsweep.sweep_dir", _sweep_dir, replace=True)


def _empty() -> DictConfig:
    """The schema as a config in which every value is missing, but no group as a whole: Hydra fills them."""
    config: DictConfig = OmegaConf.structured(Config)
    for key in schema().values():
        if is_dataclass(key.type):
            config[key.name] = key.type
    return config


def unique() -> str:
    """A folder name that sorts by time and that no other run of the same second shares."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"


def _sweep_dir(name: str | None, otherwise: str) -> str:
    """Where ``-m`` puts a study: by its name, if it has one."""
    return otherwise if name is None else str(named(str(name)))
