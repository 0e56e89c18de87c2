"""Files on their way into a run's artifacts: which ones, where to, and without passwords."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccsweep.tracking.mask import mask

_TEXT = {".csv", ".diff", ".json", ".log", ".md", ".svg", ".txt", ".yaml", ".yml"}


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
