"""Nested settings and figures by dotted keys, as ``training.l1``."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def leaves(nested: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is no mapping; lists are whole, an empty mapping is a value.

    >>> dict(leaves({"ranks": {"layers": [75, 50]}, "paper": {}}))
    {'ranks.layers': [75, 50], 'paper': {}}
    """
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_under(key: str, keys: Iterable[str]) -> bool:
    """Whether ``key`` is one of ``keys`` or inside one of them.

    >>> is_under("training.l1", ["data", "training"]), is_under("training.l1", ["training.l"])
    (True, False)
    """
    return any(key == other or key.startswith(f"{other}.") for other in keys)
