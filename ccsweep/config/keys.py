"""The nearest known name for one that is not known."""

from collections.abc import Sequence
from difflib import get_close_matches


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
