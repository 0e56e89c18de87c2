"""The dotted keys of the schema, what it says of each, and the nearest one for a key that is not known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ccsweep.config.marks import Role
from ccsweep.config.schema import Config
from ccsweep.dotted import is_under


@dataclass(frozen=True)
class Key:
    """A key or a group, as the schema has it."""

    name: str
    """Dotted, as ``training.l1``."""
    type: Any
    marks: tuple[Any, ...]
    """Ranges, names, words and roles that stand beside the type."""

    @property
    def is_open(self) -> bool:
        """Whether the keys below are the user's."""
        return get_origin(self.type) is dict


@cache
def schema() -> Mapping[str, Key]:
    """All keys of the schema, groups included, in its order."""
    return {key.name: key for key in _keys_of(Config)}


def known_keys() -> list[str]:
    """All dotted keys, groups included."""
    return list(schema())


def with_role(*roles: Role) -> tuple[str, ...]:
    """The keys, or groups as a whole, that have one of ``roles``."""
    return tuple(key.name for key in schema().values() if any(role in key.marks for role in roles))


def has_role(key: str, *roles: Role) -> bool:
    """Whether ``key`` or its group has one of ``roles``."""
    return is_under(key, with_role(*roles))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?``, or nothing when no known name is near."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown_key(key: str, known: Sequence[str]) -> str:
    """One line for a dotted key that is not in ``known``: its initials, spelling or last part help.

    >>> unknown_key("training.lr", ["training.l2", "training.learning_rate"])
    "training.lr: no such key; did you mean 'training.learning_rate'?"
    """
    parent, _, leaf = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    initials = [k for k in siblings if leaf == "".join(word[:1] for word in _leaf(k).split("_"))]
    namesakes = [k for k in known if _leaf(k) == leaf]
    misspelt = get_close_matches(leaf, [_leaf(k) for k in siblings], n=1)
    nearest = [
        *initials,
        *namesakes,
        *(k for k in siblings if _leaf(k) in misspelt),
        *(get_close_matches(key, known, n=1) if not siblings else []),
    ]
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"{key}: no such key" + (hint or f"; known here: {', '.join(siblings or known)}")


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _keys_of(group: type, prefix: str = "") -> list[Key]:
    keys = []
    for name, hint in get_type_hints(group, include_extras=True).items():
        inner, marks = _parted(hint)
        keys.append(Key(f"{prefix}{name}", inner, marks))
        if is_dataclass(inner):
            assert isinstance(inner, type)
            keys += _keys_of(inner, f"{prefix}{name}.")
    return keys


def _parted(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and what stands beside it."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return inner, tuple(marks)
    return hint, ()
