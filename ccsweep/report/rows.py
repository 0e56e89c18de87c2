"""The rows of a multirun's table: runs that differ by their seed alone become one row.

Pure functions over overrides and reports; ``multirun`` shows and writes what they give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

SEED = "training.seed"
THRESHOLDS = ("threshold", "energy_loss", "target_density")
"""Keys of a report, null or 0 where the gate is the plain sign."""


@dataclass(frozen=True)
class Entry:
    """One run of a multirun: its overrides, and its report or what went wrong."""

    overrides: list[str]
    ranks: str
    """In the paper's notation, also of a run that failed."""
    report: dict[str, Any] | None
    error: str | None = None


@dataclass(frozen=True)
class Row:
    """Figures over the seeds that finished; None, or an empty list, where there are none.

    Errors in percent, shares between 0 and 1, one per hidden layer.
    """

    settings: dict[str, str]
    """What differs from other rows, ranks in the paper's notation; the ranks when nothing differs."""
    runs: int
    seeds: list[int]
    test_error: float | None
    test_error_sd: float | None
    """Standard deviation over seeds, with n - 1; None for fewer than two."""
    validation_error: float | None
    density: list[float]
    false_off: list[float]
    theoretical_speedup_inference: float | None
    paper: float | None

    @property
    def label(self) -> str:
        """The row in a few words: ``50-35-25``, or ``50-35-25 threshold=0.1``."""
        ranks = self.settings.get("ranks")
        others = [f"{k.rpartition('.')[2]}={v}" for k, v in self.settings.items() if k != "ranks"]
        return " ".join([*([ranks] if ranks else []), *others])


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The runs of each row, rows and runs in the order in which they were asked for."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(_without_seed(entry)), []).append(entry)
    return list(groups.values())


def rows(entries: Sequence[Entry], paper: Mapping[str, float] | None = None) -> list[Row]:
    """One row for each combination of overrides, whatever became of its runs.

    Args:
        entries: all runs of the multirun.
        paper: test errors in percent by ranks, as a file under ``sweeps/`` recalls them.
    """
    groups = grouped(entries)
    everywhere = set.intersection(*(set(group[0].overrides) for group in groups)) if groups else set()
    return [_row(group, everywhere, paper or {}) for group in groups]


def _row(group: Sequence[Entry], everywhere: set[str], paper: Mapping[str, float]) -> Row:
    reports = [entry.report for entry in group if entry.report is not None]
    errors = [report["test_error"] for report in reports if "test_error" in report]
    # An evaluated run has ranks of its own, which only its report knows.
    ranks = reports[0]["ranks"] if reports else group[0].ranks
    settings: dict[str, str] = {}
    for override in _without_seed(group[0]):
        key, _, value = override.partition("=")
        if override not in everywhere:
            settings |= {"ranks": ranks} if key.partition(".")[0] == "ranks" else {key: value}
    return Row(
        settings=settings or {"ranks": ranks},
        runs=len(group),
        seeds=[report["seed"] for report in reports],
        test_error=_mean(errors),
        test_error_sd=stdev(errors) if len(errors) > 1 else None,
        validation_error=_mean([report["validation_error"] for report in reports]),
        density=_by_layer(reports, "density"),
        false_off=_by_layer(reports, "false_off"),
        theoretical_speedup_inference=_mean([r["theoretical_speedup_inference"] for r in reports]),
        paper=paper.get(ranks) if all(map(_as_in_the_paper, reports)) else None,
    )


def _as_in_the_paper(report: dict[str, Any]) -> bool:
    return report["estimator"] in (None, "svd") and not any(report[name] for name in THRESHOLDS)


def _without_seed(entry: Entry) -> list[str]:
    return [override for override in entry.overrides if override.partition("=")[0] != SEED]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _by_layer(reports: Sequence[dict[str, Any]], name: str) -> list[float]:
    layers = zip(*(report["layers"] for report in reports), strict=True)
    return [fmean(layer[name] for layer in over_seeds) for over_seeds in layers]
