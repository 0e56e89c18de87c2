"""When two configs are one point: the same result, computed once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import getitem
from typing import Any

from ccsweep.config.keys import has_role, with_role
from ccsweep.config.marks import ASIDE
from ccsweep.config.schema import Config


def identity(config: Config, overrides: Sequence[str] = (), swept: Sequence[str] = ()) -> str:
    """A hash of all settings that a result depends on, 64 hex digits.

    An estimator that is not used changes nothing: its settings count only where there are ranks.

    Args:
        config: checked.
        overrides: of the trial. A run that is evaluated again keeps its own ranks and estimator unless
            they are named, so there it matters which ones are.
    """
    settings = settings_of(config)
    named = sorted(o for o in overrides if o.startswith(("ranks", "estimator")))
    trained_here = config.task == "train"
    if config.gated_layers == 0 and (trained_here or any(o.startswith("ranks") for o in named)):
        settings["estimator"] = None
        named = [o for o in named if o.startswith("ranks")]
    if not trained_here:
        settings["named"] = [o.partition("=")[0] for o in named]
    if aside := sorted(o for o in swept if has_role(o.partition("=")[0], *ASIDE)):
        settings["swept"] = aside
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that a result depends on, nested as in the schema."""
    settings = asdict(config)
    for key in with_role(*ASIDE):
        *groups, name = key.split(".")
        del reduce(getitem, groups, settings)[name]
    for key in (key for key, value in config.data.own.items() if value is None):
        settings["data"].pop(key, None)  # trials of before one could bring data have no such key
    return settings
