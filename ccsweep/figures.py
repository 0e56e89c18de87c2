"""Every number of a report, once: its key, its name, its unit, how it is written and which way is better.

A new objective is a line in ``RUN``; a new column is one in ``GATING``, of a grid and of a study, or in
``LAYERS``, of a run. Whatever computes it puts it into the report under its key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """A number that a run comes to."""

    key: str
    """In report.json, and in a sweep's objectives and constraints."""
    name: str
    """In words."""
    unit: str = ""
    """``%``, ``times`` or ``s``; empty for counts and for shares, which are between 0 and 1."""
    better: Literal["minimize", "maximize"] | None = None
    of_test: bool = False
    """Whether it knows the labels of the test images, so that nothing may be chosen by it."""
    heading: str = ""
    """Over a column, where that is not its name."""
    metric: str = ""
    """Under which training logs it by epoch, if it does."""

    @property
    def column(self) -> str:
        """What stands over a column of it."""
        return self.heading or self.name

    @property
    def label(self) -> str:
        """What stands along an axis of it, as ``validation error, %``."""
        return ", ".join([self.name, *filter(None, [self.unit])])

    def text(self, value: float) -> str:
        """The number alone: two decimals of errors and speed-ups, three digits of all else."""
        if self.unit in ("%", "times"):
            return f"{value:.2f}"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

    def cell(self, value: float | None) -> str:
        """The number in a column, a speed-up as ``2.00x``; ``-`` for none."""
        if value is None:
            return "-"
        return self.text(value) + ("x" if self.unit == "times" else "")


def measured(batch: int) -> Figure:
    """How much faster the engine is than torch, with one thread and ``batch`` images a call."""
    name = f"measured speed-up at batch {batch}"
    return Figure(f"measured_speedup_batch{batch}", name, "times", "maximize")


def ahead(batch: int) -> Figure:
    """How much faster the engine is than the fastest peer, with one thread and ``batch`` images a call."""
    name = f"engine over best peer at batch {batch}"
    return Figure(f"engine_over_best_peer_batch{batch}", name, "times", "maximize")


def low(key: str) -> str:
    """Key of the lower end of the interval of a measured figure."""
    return f"{key}_low"


def high(key: str) -> str:
    """Key of the upper end."""
    return f"{key}_high"


def in_study(key: str) -> str:
    """Key of what a study measured while its other workers were busy, once it was measured again alone."""
    return f"{key}_in_study"


LOAD = Figure("timing_load", "cores that others kept busy while it was timed", better="minimize")
SHARED = 0.2
"""So much load, and a machine was shared while it timed."""

MEASURED = (1, 256)
"""Batch sizes that every trained run is timed at."""

TEST_ERROR = Figure("test_error", "test error", "%", "minimize", of_test=True, heading="test error %")
TEST_ERROR_DEVIATION = Figure("test_error_deviation", "test error's deviation", "%", of_test=True)
VALIDATION_ERROR = Figure(
    "validation_error",
    "validation error",
    "%",
    "minimize",
    heading="validation %",
    metric="validation/error",
)
DENSITY = Figure("density", "density", better="minimize")
FALSE_OFF = Figure("false_off", "false-off", better="minimize")
TRAINING_SPEEDUP = Figure("theoretical_speedup", "theoretical speed-up with refreshes", "times", "maximize")
SPEEDUP = Figure("theoretical_speedup_inference", "theoretical speed-up", "times", "maximize")

RUN = (
    TEST_ERROR,
    TEST_ERROR_DEVIATION,
    VALIDATION_ERROR,
    DENSITY,
    FALSE_OFF,
    TRAINING_SPEEDUP,
    SPEEDUP,
    *map(measured, MEASURED),
    *map(ahead, MEASURED),
    Figure("best_epoch", "best epoch"),
    Figure("epochs", "epochs"),
    Figure("seconds", "duration", "s", "minimize"),
)
"""Of a whole run. Density and false-off are over all hidden layers, on validation images."""

LAYERS = (
    Figure("rank", "rank"),
    DENSITY,
    Figure("true_density", "true density"),
    FALSE_OFF,
    Figure("false_on", "false-on", better="minimize"),
    Figure("sign_agreement", "sign agreement", better="maximize"),
)
"""Of each hidden layer, on the split that the report names."""

GATING = (DENSITY, FALSE_OFF, SPEEDUP)
"""What the gates do: columns beside the objectives of a study, and after the errors of a grid."""

TABLE = (TEST_ERROR, VALIDATION_ERROR, *GATING)
"""Columns of a grid's table, means over seeds; by layer where ``LAYERS`` has them, too."""

OBJECTIVES = tuple(figure.key for figure in RUN if not figure.of_test)
"""Keys that a sweep may aim at or limit."""

_BY_KEY = {figure.key: figure for figure in (*RUN, *LAYERS)}


def of(key: str) -> Figure:
    """The figure of a report's key; of one that is not known any more, as much as the key says."""
    return _BY_KEY.get(key) or Figure(key, key.replace("_", " "))


def final(report: Mapping[str, Any]) -> dict[str, float]:
    """What a whole run came to, by key: the figures of ``RUN``, measured ones with their intervals."""
    keys = [name(figure.key) for figure in RUN for name in (str, low, high, in_study)]
    return {key: report[key] for key in [*keys, LOAD.key] if key in report}


def in_words(report: Mapping[str, Any]) -> str:
    """As in ``test error 1.57 %, density 0.12``: the figures of ``RUN`` that a report has."""
    return ", ".join(f"{f.name} {f.text(report[f.key])} {f.unit}".rstrip() for f in RUN if f.key in report)


def arrow(direction: str) -> str:
    """Which way is better."""
    return "↓" if direction == "minimize" else "↑"
