"""Where training tells how its epochs went, and a study that listens may stop it.

Training knows nothing of studies and a study nothing of training; this is what they share. One
watcher at a time, in its own process: a worker runs one trial after another.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Watcher = Callable[[int, Mapping[str, float]], None]
"""Called with the number of epochs done and the figures by name, as ``validation/error`` in percent;
before training, with 0 epochs and ``bound``: the theoretical speed-up if no unit were computed. Raises
:class:`ccsweep.errors.Pruned` to end the run."""

_watcher: Watcher | None = None


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Hear from every epoch that ends inside."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


def tell(epoch: int, figures: Mapping[str, float]) -> None:
    """Hand an epoch's figures to who watches, if anyone does."""
    if _watcher is not None:
        _watcher(epoch, figures)
