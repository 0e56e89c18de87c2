"""What ends a grid: a table, on the terminal and in files, whose rows are runs that differ by seed alone."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from ccsweep.figures import LAYERS, TABLE, TEST_ERROR, VALIDATION_ERROR
from ccsweep.files import write_text
from ccsweep.report.canvas import terminal
from ccsweep.report.run import THRESHOLDS
from ccsweep.tracking.mask import mask

PAPER = "paper (recalled)"
SEED = "training.seed"


@dataclass(frozen=True)
class Entry:
    """One run of a grid: its overrides, and its report or what went wrong."""

    overrides: list[str]
    ranks: str
    """In the paper's notation, also of a run that failed."""
    report: dict[str, Any] | None
    error: str | None = None


@dataclass(frozen=True)
class Row:
    """Means over the seeds that finished; None, or an empty list, where there are none.

    Errors in percent, shares between 0 and 1, one per hidden layer.
    """

    settings: dict[str, str]
    """What differs from other rows, ranks in the paper's notation; the ranks when nothing differs."""
    runs: int
    seeds: list[int]
    figures: dict[str, float | list[float] | None]
    """By key, those of ``figures.TABLE``; beside them ``test_error_sd``, the standard deviation over seeds
    with n - 1, None for fewer than two."""
    paper: float | None

    @property
    def label(self) -> str:
        """The row in a few words: ``50-35-25``, or ``50-35-25 threshold=0.1``."""
        ranks = self.settings.get("ranks")
        others = [f"{k.rpartition('.')[2]}={v}" for k, v in self.settings.items() if k != "ranks"]
        return " ".join([*([ranks] if ranks else []), *others])

    def as_json(self) -> dict[str, Any]:
        """All of it in plain types."""
        head = {"settings": self.settings, "runs": self.runs, "seeds": self.seeds}
        return head | self.figures | {"paper": self.paper}


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The runs of each row, rows and runs in the order in which they were asked for."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(_without_seed(entry)), []).append(entry)
    return list(groups.values())


def rows(entries: Sequence[Entry], paper: Mapping[str, float] | None = None) -> list[Row]:
    """One row for each combination of overrides, whatever became of its runs.

    Args:
        entries: all runs of the grid.
        paper: test errors in percent by ranks, as a file under ``sweeps/`` recalls them.
    """
    groups = grouped(entries)
    everywhere = set.intersection(*(set(group[0].overrides) for group in groups)) if groups else set()
    return [_row(group, everywhere, paper or {}) for group in groups]


def _row(group: Sequence[Entry], everywhere: set[str], paper: Mapping[str, float]) -> Row:
    reports = [entry.report for entry in group if entry.report is not None]
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
        figures=_figures(reports),
        paper=paper.get(ranks) if all(map(_as_in_the_paper, reports)) else None,
    )


def _figures(reports: Sequence[dict[str, Any]]) -> dict[str, float | list[float] | None]:
    means: dict[str, float | list[float] | None] = {}
    for figure in TABLE:
        key = figure.key
        if figure in LAYERS:
            layers = zip(*(report["layers"] for report in reports), strict=True)
            means[key] = [fmean(layer[key] for layer in over_seeds) for over_seeds in layers]
            continue
        values = [report[key] for report in reports if key in report]
        means[key] = fmean(values) if values else None
        if figure is TEST_ERROR:
            means[f"{key}_sd"] = stdev(values) if len(values) > 1 else None
    return means


def _as_in_the_paper(report: dict[str, Any]) -> bool:
    return report["estimator"] in (None, "svd") and not any(report[name] for name in THRESHOLDS)


def _without_seed(entry: Entry) -> list[str]:
    return [override for override in entry.overrides if override.partition("=")[0] != SEED]


def show(entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """Print the table, with what it is about above and what it means below."""
    console = terminal(width=120)  # the paper's SVHN table fits
    console.print()
    for line in about(entries):
        console.print(f"[bold]{escape(line)}[/]")
    for note in _notes(entries):
        console.print(f"[yellow]note: {escape(note)}[/]")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    header, *body = cells(rows)
    for place, name in enumerate(header):
        figure = place >= len(rows[0].settings)
        table.add_column(name, justify="right" if figure else "left", overflow="fold")
    for texts in body:
        table.add_row(*map(escape, texts))
    console.print(table)
    for line in _meaning(rows):
        console.print(f"[dim]{escape(line)}[/]")


def write(folder: Path, command: str, entries: Sequence[Entry], rows: Sequence[Row]) -> list[Path]:
    """Write ``table.md`` and ``table.json`` into the grid's folder; returns their paths.

    Args:
        folder: of the grid.
        command: what was typed.
        entries: all its runs.
        rows: the same over seeds.
    """
    content = {
        "command": command,
        "rows": [row.as_json() for row in rows],
        "runs": [
            {
                "overrides": entry.overrides,
                "run_id": None if entry.report is None else entry.report["run_id"],
                "error": entry.error,
                "report": entry.report,
            }
            for entry in entries
        ],
    }
    texts = {
        "table.md": markdown(command, entries, rows),
        "table.json": json.dumps(content, indent=2) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, mask(text))
    return [folder / name for name in texts]


def markdown(command: str, entries: Sequence[Entry], rows: Sequence[Row]) -> str:
    """The table under its command, as ``docs/results.md`` has them."""
    header, *body = cells(rows)
    settings = len(rows[0].settings)
    rule = ["---"] * settings + ["---:"] * (len(header) - settings)
    table = "\n".join(f"| {' | '.join(texts)} |" for texts in (header, rule, *body))
    lines = [*about(entries), *(f"note: {note}" for note in _notes(entries))]
    failed = [f"- failed: `{' '.join(e.overrides)}`: {e.error}" for e in entries if e.report is None]
    parts = [f"    {command}", *lines, table, "\n".join(_meaning(rows)), "\n".join(failed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table as text, its header first; a column per setting that differs, then the figures."""
    with_paper = any(row.paper is not None for row in rows)
    header = [*rows[0].settings, *_shown(rows[0], with_paper)]
    return [header, *([*map(mask, row.settings.values()), *_shown(row, with_paper).values()] for row in rows)]


def about(entries: Sequence[Entry]) -> list[str]:
    """A line for each data set and network: mostly one."""
    return _unique(
        f"{r['data']}, {'-'.join(map(str, r['layer_sizes']))}, test n = {r['samples']['test']:,}"
        for r in _reports(entries)
    )


def _shown(row: Row, with_paper: bool) -> dict[str, str]:
    """The figures of a row, each as text under its heading."""
    shown: dict[str, str] = {}
    for figure in TABLE:
        value = row.figures[figure.key]
        shown[figure.column] = _shares(value) if isinstance(value, list) else figure.cell(value)
        if figure is TEST_ERROR:
            if not row.seeds:
                shown[figure.column] = "failed"
            elif isinstance(deviation := row.figures[f"{figure.key}_sd"], float):
                shown[figure.column] += f" ± {figure.text(deviation)}"
            if with_paper:
                shown[PAPER] = figure.cell(row.paper)
        if figure is VALIDATION_ERROR:
            done = len(row.seeds)
            shown["seeds"] = f"{row.runs}" if done == row.runs else f"{done} of {row.runs}"
    return shown


def _shares(values: Sequence[float]) -> str:
    """By layer, as in ``.22 .53 .55``; a bare 0 or 1, as a control has them, is exact."""
    shown = (f"{v:g}" if v in (0, 1) else f"{v:.2f}".removeprefix("0") for v in values)
    return " ".join(shown) or "-"


def _notes(entries: Sequence[Entry]) -> list[str]:
    return _unique(note for report in _reports(entries) for note in report["notes"])


def _meaning(rows: Sequence[Row]) -> list[str]:
    """What a reader must know in order not to read too much into the figures."""
    lines = []
    if any(row.figures[f"{TEST_ERROR.key}_sd"] is not None for row in rows):
        lines.append("Errors are means over seeds; ± is their standard deviation (n - 1).")
    by_layer = " and ".join(figure.name for figure in TABLE if figure in LAYERS)
    lines.append(f"{by_layer.capitalize()} by layer; the speed-up is counted, not timed.")
    if any(row.paper is not None for row in rows):
        lines.append(f"{PAPER}: from memory, on the paper's data with its settings; not to be matched.")
    return lines


def _reports(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [entry.report for entry in entries if entry.report is not None]


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
