"""The table of all trials on a study's page: its rows as data, which the page sorts and shows."""

import json
from html import escape
from pathlib import Path

from ccsweep.figures import VALIDATION_ERROR, high, low
from ccsweep.report.study.rows import RANKS, Row, rows
from ccsweep.report.study.standing import Standing
from ccsweep.study.notes import StudyNotes

_FIRST = ("trial", "state", "front")
_LAST = ("ranks", "seconds", "run", "folder", "cause")


def all_trials(now: Standing, known: StudyNotes) -> str:
    """A table whose heads sort it: state, objectives, intervals, parameters, ranks, time, a link to the run.

    Args:
        now: how the study stands.
        known: of the study; a run in a store that is a server's is linked there, else to its folder.
    """
    trials = [t for name in vars(now) if isinstance(group := getattr(now, name), list) for t in group]
    found = rows(trials, now.objectives)
    if not found:
        return "<p class=dim>No trial has begun.</p>"
    searched = [key.lstrip("+") for key in known.definition.space]
    numbers = [key for key in found[0] if key.startswith(RANKS)]
    ends = [end(key) for key in now.objectives for end in (low, high)]
    wanted = (*_FIRST, *now.objectives, *ends, VALIDATION_ERROR.key, *searched, *numbers, *_LAST)
    heads = [key for key in dict.fromkeys(wanted) if any(row.get(key) is not None for row in found)]
    data = {
        "heads": [*heads, "link"],
        "link": len(heads),
        "rows": [[*(_cell(row.get(key)) for key in heads), _link(row, known.uri)] for row in found],
    }
    inside = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    cells = "".join(f'<th data-key="{escape(head)}">{escape(head)}</th>' for head in heads)
    return (
        f'<script type="application/json" id="trials">{inside}</script>\n'
        '<div class="wide tall"><table class=sortable data-rows="trials">'
        f"<thead><tr>{cells}</tr></thead><tbody></tbody></table></div>"
    )


def _cell(value: str | float | bool | None) -> str | float | None:
    if isinstance(value, bool):
        return "yes" if value else None
    return value


def _link(row: Row, uri: str | None) -> str | None:
    if row.get("run") is None or row.get("folder") is None:
        return None
    if uri is not None and uri.startswith(("http://", "https://")) and "@" not in uri:
        return f"{uri.rstrip('/')}/#/runs/{row['run']}"
    return f"trials/{Path(str(row['folder'])).name}/"  # beside the page, wherever both were moved to
