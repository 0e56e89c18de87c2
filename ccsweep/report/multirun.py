"""What ends a multirun: a table over seeds on the terminal, ``table.md`` and ``table.json``."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ccsweep.files import write_text
from ccsweep.report.rows import Entry, Row
from ccsweep.tracking.mask import mask

PAPER = "paper (recalled)"
_FIGURES = ("test error %", "validation %", "seeds", "density", "false-off", "theoretical speed-up")
_WIDTH = 120  # of what is no terminal: the paper's SVHN table fits


def show(entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """Print the table, with what it is about above and what it means below."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print()
    for line in about(entries):
        console.print(f"[bold]{escape(line)}[/]")
    for note in _notes(entries):
        console.print(f"[yellow]note: {escape(note)}[/]")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    header, *body = cells(rows)
    for name in header:
        figure = name in (*_FIGURES, PAPER)
        table.add_column(name, justify="right" if figure else "left", overflow="fold")
    for texts in body:
        table.add_row(*map(escape, texts))
    console.print(table)
    for line in _meaning(rows):
        console.print(f"[dim]{escape(line)}[/]")


def write(folder: Path, command: str, entries: Sequence[Entry], rows: Sequence[Row]) -> list[Path]:
    """Write ``table.md`` and ``table.json`` into the multirun's folder; returns their paths.

    Args:
        folder: of the multirun.
        command: what was typed.
        entries: all its runs.
        rows: the same over seeds.
    """
    found = {
        "command": command,
        "rows": [asdict(row) for row in rows],
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
        "table.json": json.dumps(found, indent=2) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, mask(text))
    return [folder / name for name in texts]


def markdown(command: str, entries: Sequence[Entry], rows: Sequence[Row]) -> str:
    """The table under its command, as ``docs/results.md`` has them."""
    header, *body = cells(rows)
    rule = ["---:" if name in (*_FIGURES, PAPER) else "---" for name in header]
    table = "\n".join(f"| {' | '.join(texts)} |" for texts in (header, rule, *body))
    lines = [*about(entries), *(f"note: {note}" for note in _notes(entries))]
    failed = [f"- failed: `{' '.join(e.overrides)}`: {e.error}" for e in entries if e.report is None]
    parts = [f"    {command}", *lines, table, "\n".join(_meaning(rows)), "\n".join(failed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table as text, its header first; a column per setting that differs, then the figures."""
    with_paper = any(row.paper is not None for row in rows)
    test, *others = _FIGURES
    header = [*rows[0].settings, test, *([PAPER] if with_paper else []), *others]
    return [header, *(_line(row, with_paper) for row in rows)]


def about(entries: Sequence[Entry]) -> list[str]:
    """A line for each data set and network: mostly one."""
    return _unique(
        f"{r['data']}, {'-'.join(map(str, r['layer_sizes']))}, test n = {r['samples']['test']:,}"
        for r in _reports(entries)
    )


def _line(row: Row, with_paper: bool) -> list[str]:
    test = _error(row.test_error) if row.seeds else "failed"
    if row.test_error_sd is not None:
        test += f" ± {row.test_error_sd:.2f}"
    speedup = row.theoretical_speedup_inference
    return [
        *map(mask, row.settings.values()),
        test,
        *([_error(row.paper)] if with_paper else []),
        _error(row.validation_error),
        f"{row.runs}" if len(row.seeds) == row.runs else f"{len(row.seeds)} of {row.runs}",
        _shares(row.density),
        _shares(row.false_off),
        "-" if speedup is None else f"{speedup:.2f}x",
    ]


def _error(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f}"


def _shares(values: Sequence[float]) -> str:
    """By layer, as in ``.22 .53 .55``; a bare 0 or 1, as a control has them, is exact."""
    shown = (f"{v:g}" if v in (0, 1) else f"{v:.2f}".removeprefix("0") for v in values)
    return " ".join(shown) or "-"


def _notes(entries: Sequence[Entry]) -> list[str]:
    return _unique(note for report in _reports(entries) for note in report["notes"])


def _meaning(rows: Sequence[Row]) -> list[str]:
    """What a reader must know in order not to read too much into the figures."""
    lines = []
    if any(row.test_error_sd is not None for row in rows):
        lines.append("Errors are means over seeds; ± is their standard deviation (n - 1).")
    lines.append("Density and false-off by layer; the speed-up is counted, not timed.")
    if any(row.paper is not None for row in rows):
        lines.append(f"{PAPER}: from memory, on the paper's data with its settings; not to be matched.")
    return lines


def _reports(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [entry.report for entry in entries if entry.report is not None]


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
