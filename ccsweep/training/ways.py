"""Which way training steps go, dense or skipping what is zero: the quicker one by the clock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ccsweep.errors import UserError

DENSE, SKIPPING = "dense", "skipping"
TRIES = 5
"""Steps of each way in a comparison; the first is not counted, for it warms the cache."""
CLEARLY = 1.1
"""So many times as fast must a way be to be changed to. The ways' sums round differently: a choice that hangs
on the machine's mood would be another run of the same seed."""


def open_ways(wanted: str, device: str, precision: str) -> tuple[str, ...]:
    """The ways that steps may go; kernels that skip are the CPU's, in float32.

    Args:
        wanted: ``training.step``.
        device: ``cpu`` or ``cuda``.
        precision: ``training.precision``.

    Raises:
        UserError: skipping is asked for where it cannot be.
    """
    if device != "cpu" or precision != "float32":
        if wanted == SKIPPING:
            raise UserError(
                f"training.step=skipping: found training.device={device} training.precision={precision}; "
                "expected cpu and float32, or training.step=auto"
            )
        return (DENSE,)
    return (DENSE, SKIPPING) if wanted == "auto" else (wanted,)


class Ways:
    """Says of each training step which way it goes.

    Where both ways are open they are compared at the start of the epochs 0, 1, 2, 4, 8, ...: a network's
    activations get sparse within its first epochs. The steps of a comparison train like all others, on
    the run's own batches, so nothing is computed for the clock alone. The quickest step of each counts, for
    what else the machine does only adds to it; where neither is clearly quicker at first, it is skipping.

    Args:
        open: the ways that may be gone; a single one is never timed.
    """

    def __init__(self, *open: str) -> None:
        self.open = open
        self.chosen = open[0] if len(open) == 1 else None
        """The quicker way; None before the first comparison."""
        self._due: list[str] = []
        self._took: dict[str, list[float]] = {}
        self._steps: dict[str, int] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Compare in this epoch, counted from 0, where that is due."""
        self._steps = dict.fromkeys((DENSE, SKIPPING), 0)
        powers_of_two = epoch & (epoch - 1) == 0
        under_way = bool(self._due)  # epochs may be shorter than a comparison
        if len(self.open) > 1 and not under_way and (self.chosen is None or powers_of_two):
            self._due = [way for way in self.open for _ in range(TRIES)]
            self._took = {way: [] for way in self.open}

    def next(self) -> str:
        """The way of the next step."""
        way = self._due.pop(0) if self._due else self.chosen or self.open[0]
        self._steps[way] += 1
        return way

    @contextmanager
    def clock(self, way: str) -> Iterator[None]:
        """Time a step, if its way is being compared."""
        began = time.perf_counter()
        yield
        if len(took := self._took.get(way, [0.0] * TRIES)) < TRIES:
            took.append(time.perf_counter() - began)
            if not self._due:
                self.chosen = self._quicker()

    def _quicker(self) -> str:
        way = self.chosen or SKIPPING
        (other,) = set(self.open) - {way}
        clearly = min(self._took[other][1:]) * CLEARLY < min(self._took[way][1:])
        return other if clearly else way

    def figures(self) -> dict[str, float]:
        """What share of the epoch's steps skipped, and the times of the last comparison in milliseconds."""
        steps = sum(self._steps.values())
        compared = {way: took[1:] for way, took in self._took.items() if took[1:]}
        times = {f"train/step_ms/{way}": 1000 * min(took) for way, took in compared.items()}
        return {"train/skipping": self._steps[SKIPPING] / max(steps, 1), **times}
