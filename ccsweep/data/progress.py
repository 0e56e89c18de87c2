"""One kind of progress bar for all that takes more than two seconds."""

import sys
from typing import Never

from tqdm import tqdm


def bar(what: str, total: int, unit: str) -> "tqdm[Never]":
    """A bar that shows after a second; without a terminal, a line every ten seconds.

    Args:
        what: is being done.
        total: steps.
        unit: of the steps: ``B`` for bytes, or a word.
    """
    return tqdm(
        desc=what,
        total=total,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        delay=1,
        mininterval=0.1 if sys.stderr.isatty() else 10,
    )
