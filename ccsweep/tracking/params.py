"""A nested config as MLflow's flat parameters."""

import json
from collections.abc import Mapping, Sequence

from ccsweep.tracking.mask import mask_value

PARAM_LIMIT = 6000  # characters that MLflow takes in a parameter
TAG_LIMIT = 8000


def flatten(config: Mapping[str, object]) -> dict[str, str]:
    """Return ``config`` with dotted keys and every value as text.

    Numbers, true, false, null and lists are written as JSON, so that a value reads as it does in
    a config file; everything else as ``str`` gives it.

    >>> flatten({"ranks": {"layers": [75, 50], "seed": None}, "name": "control"})
    {'ranks.layers': '[75, 50]', 'ranks.seed': 'null', 'name': 'control'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{inner}": text for inner, text in flatten(value).items()}
        else:
            flat[str(key)] = _text(value)
    return flat


def loggable(values: Mapping[str, str], limit: int) -> dict[str, str]:
    """Return ``values`` without passwords and cut to ``limit`` characters each."""
    return {key: cut(mask_value(key, value), limit) for key, value in values.items()}


def cut(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` characters; an ellipsis shows that some are gone.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(value: object) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, default=_plain)


def _plain(value: object) -> object:
    """Return what JSON can write, or its text; OmegaConf's containers are neither dict nor list."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
