"""What goes into a run as MLflow takes it: flat, short enough, and without passwords."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ccsweep.dotted import leaves
from ccsweep.tracking.mask import mask, mask_value

PARAM_LIMIT = 6000  # characters that MLflow takes in a parameter
TAG_LIMIT = 8000

_TEXT = {".csv", ".diff", ".json", ".log", ".md", ".svg", ".txt", ".yaml", ".yml"}


def flatten(config: Mapping[str, object]) -> dict[str, str]:
    """Return ``config`` with dotted keys and every value as text.

    Numbers, true, false, null and lists are written as JSON, so that a value reads as it does in
    a config file; everything else as ``str`` gives it.

    >>> flatten({"ranks": {"layers": [75, 50], "seed": None}, "name": "control"})
    {'ranks.layers': '[75, 50]', 'ranks.seed': 'null', 'name': 'control'}
    """
    return {key: _text(value) for key, value in leaves(config)}


def loggable(values: Mapping[str, str], limit: int) -> dict[str, str]:
    """Return ``values`` without passwords and cut to ``limit`` characters each."""
    return {key: cut(mask_value(key, value), limit) for key, value in values.items()}


def cut(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` characters; an ellipsis shows that some are gone.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def placed(path: Path, folder: str | None) -> Iterator[tuple[Path, str | None]]:
    """Yield every file of ``path`` with the artifact folder that it goes to, None for the top.

    A folder keeps its own name and its tree: ``plots/a.png`` of ``plots`` goes to ``plots``.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        parts = [folder] if folder else []
        parts += file.relative_to(path.parent).parts[:-1]
        yield file, "/".join(parts) or None


@contextmanager
def without_passwords(file: Path) -> Iterator[Path]:
    """Give ``file``, or a copy of the same name when its text holds a password.

    Only files whose suffix says text are read; others, such as checkpoints, pass as they are.
    """
    if file.suffix.lower() in _TEXT:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        masked = mask(text)
        if masked != text:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / file.name
                copy.write_text(masked, encoding="utf-8", errors="surrogateescape")
                yield copy
            return
    yield file


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
