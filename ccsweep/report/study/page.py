"""``report.html``: a whole study on one page that opens without a server or a network.

plotly's JavaScript is in the file, 4.8 MB of it; everything else is small. ``front.png`` beside it is
for documents.
"""

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial

from ccsweep.config.places import STUDIES
from ccsweep.errors import UserError
from ccsweep.figures import GATING, VALIDATION_ERROR, arrow, of
from ccsweep.files import write_text
from ccsweep.report.following import kept_at
from ccsweep.report.study.points import MOST, outside, points
from ccsweep.report.study.slices import CURVES, Curves, wanted
from ccsweep.report.study.standing import (
    Standing,
    cause_of,
    counts,
    duration,
    pace,
    ranks_of,
    run_of,
    seconds_of,
    settings_of,
    standing,
)
from ccsweep.report.study.table import all_trials
from ccsweep.study import front
from ccsweep.study.alone import mixture, trials_of
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import StudyNotes, notes, study_notes
from ccsweep.tracking.find import history, store_of
from ccsweep.tracking.mask import mask

NAMED = 12  # trials outside the view


def write(study: Study, folder: StudyFolder) -> list[Path]:
    """Write the page, and the picture if a trial is complete; returns their paths.

    Args:
        study: as the sweeper keeps it; nothing else is read.
        folder: where to.
    """
    from ccsweep.report.study.picture import draw_front  # matplotlib

    trials = trials_of(study)
    known = study_notes(study)
    workers = len({notes(trial).worker for trial in trials if not trial.state.is_finished()})
    now = standing(trials, known.definition.aims, known.n_trials, workers)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_text(folder.page, _html(study, now, known, folder))
    files = [folder.page]
    if front.counted(now.complete):
        files.append(draw_front(folder.picture, mask(f"{study.study_name}: {_aims(now)}"), now))
    return files


def command_for(study: Study, task: str, pick: str | None = None) -> str:
    """The command of a task about the study, as a person types it in the folder of the outputs."""
    folder = StudyFolder(Path(study_notes(study).folder or study.study_name))
    named = folder.path.parts[-3:-1] == STUDIES.parts
    words = ["python", "-m", "ccsweep", f"task={task}"]
    words.append(f"sweep.name={folder.name if named else folder.path}")
    if pick is not None:
        words.append(f"pick={pick}")
    line = mask(shlex.join(words))
    if not folder.journal.exists() and folder.path.exists():
        line += f" {kept_at(study)}"
    return line


def _html(study: Study, now: Standing, known: StudyNotes, folder: StudyFolder) -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    from ccsweep.report.study import charts, slices

    name = escape(mask(study.study_name))
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{escape(counts(now))}. {escape(_sentence(pace(now, bool(now.running))))}</p>",
        _heading(now, known, folder),
        _section(
            "Front" if len(now.objectives) > 1 else "Trials", _front_text(study, now), charts.fronts(now)
        ),
        "<div class=wide>" + _front_table(study, now) + "</div>",
        _section("Growth", _growth_text(now), [charts.growth(now)]),
        _section("Parameter importances", _IMPORTANCES, [charts.importances(study, now)]),
        _section("Slices", _SLICES, [slices.slices(now)]),
        _section("Contour", _CONTOUR, [slices.contour(study, now)]),
        _section("Learning curves", _CURVES, [slices.curves(now, _epochs(now, known, folder))]),
        _section("Parallel coordinates", _lines(now), [charts.parallel(now)]),
        _section("Workers", _busy(now), [charts.timeline(now)]),
        "<h2>All trials</h2><p class=dim>A click on a head sorts by it.</p>",
        all_trials(now, known),
        "<h2>Trials without a result</h2>",
        "<div class=wide>" + _failed_table(now) + "</div>",
        f"<p class=dim>Written {datetime.now():%Y-%m-%d %H:%M}.</p>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{name}</title>\n'
        f"<style>{_beside('page.css')}</style>\n<script>{get_plotlyjs()}</script><script>{_beside('page.js')}</script></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


_FRONT = "A point is a completed trial; point at it to see its settings and its run."
_NO_KNEE = " The front does not bend: it has no knee."
_IMPORTANCES = (
    "What share of the differences between trials each parameter explains (PED-ANOVA, between the best "
    "tenth and the rest)."
)
_SIDE_BY_SIDE = ("Growth", "Slices", "Parallel coordinates")  # which a phone scrolls
_SLICES = "The first objective over each parameter; blue is on the front."
_CONTOUR = "The first objective over the two numbers that decide it most, between trials by interpolation."
_CURVES = f"Of the trials on the front, and of the last {CURVES} others."


def _epochs(now: Standing, known: StudyNotes, folder: StudyFolder) -> Curves:
    """What the study noted of epochs, or MLflow."""
    found = {}
    uri = store_of(folder.path)
    for trial in wanted(now):
        noted = notes(trial)
        if noted.epochs:
            found[trial.number] = [(int(epoch), value) for epoch, value, *_ in noted.epochs]
        elif uri is not None and noted.run_id is not None:
            try:
                logged = history(uri, noted.run_id, VALIDATION_ERROR.metric)
            except UserError:  # a store that does not answer is no reason for no page
                return found
            found[trial.number] = logged.get(VALIDATION_ERROR.metric, [])
    return found


def _section(title: str, text: str, drawn: Iterable[Any]) -> str:
    """A heading with figures, or with the lines that say why there are none."""
    shown = []
    for i, chart in enumerate(drawn):
        if isinstance(chart, str):
            shown.append(f"<p class=dim>{escape(chart)}</p>")
            continue
        from plotly.io import to_html  # type: ignore[import-untyped]

        settings = {"displaylogo": False, "responsive": True}
        name = f"{title.lower().replace(' ', '-')}-{i}"
        drawn_as = to_html(chart, config=settings, full_html=False, include_plotlyjs=False, div_id=name)
        inside = f"<div class=panels>{drawn_as}</div>" if title in _SIDE_BY_SIDE else drawn_as
        shown.append(f"<div class=wide>{inside}</div>")
    return f"<h2>{escape(title)}</h2>\n<p class=dim>{escape(text)}</p>\n" + "\n".join(shown)


def _front_text(study: Study, now: Standing) -> str:
    shown = points(now.complete, now.objectives)
    bend = _NO_KNEE if shown.best and shown.knee is None else ""
    left_out = []
    for trial in outside(shown):
        values = (of(k).text(v) for k, v in zip(now.objectives, trial.values, strict=True))
        left_out.append(f"trial {trial.number} ({', '.join(values)})")
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    far = f" Outside the view: {', '.join(left_out[:NAMED])}{more}." if left_out else ""
    mixed = mixture(study)
    return f"{_FRONT}{bend}{far}" + (f" {mixed[0].upper()}{mixed[1:]}." if mixed else "")


def _heading(now: Standing, known: StudyNotes, folder: StudyFolder) -> str:
    definition = known.definition
    space = [f"{key}={text}" for key, text in definition.space.items()]
    only = [f"{key} where {text}" for key, text in definition.conditions.items()]
    journal = folder.journal
    facts: dict[str, Sequence[object]] = {
        "objectives": [_aims(now)],
        "constraints": definition.constraints,
        "space": [*space, *only],
        "same for all": [" ".join(definition.base)],
        "sampler": [definition.sampler],
        "pruning": [definition.pruning],
        "command": [known.command],
        "code": [known.commit],
        "host": [known.host],
        "when": [_span(now)],
        "folder": [folder.path],
        "MLflow": [f"run {known.parent} in {known.uri}"] if known.parent else [],
        "look closer": [f"optuna-dashboard {shlex.quote(str(journal))}"] if journal.exists() else [],
    }
    coded = {"space", "same for all", "command", "look closer", "folder", "constraints"}
    rows = []
    for key, values in facts.items():
        texts = [escape(mask(str(value))) for value in values if value]
        if texts:
            marked = [f"<code>{text}</code>" for text in texts] if key in coded else texts
            rows.append(f"<dt>{key}</dt><dd>{'<br>'.join(marked)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


def _front_table(study: Study, now: Standing) -> str:
    best = front.pareto(now.complete, now.objectives)
    if not best:
        kept = "; none keeps the constraints" if front.counted(now.complete) else ""
        return f"<p class=dim>No trial to choose from{kept}.</p>"
    knee = front.knee(best, now.objectives)
    keys = [figure.key for figure in GATING if figure.key not in now.objectives]
    others = [key for key in keys if any(key in notes(trial).report for trial in best)]
    heads = [f"{key} {arrow(way)}" for key, way in now.objectives.items()]
    rows = []
    for trial in best:
        values = [(key, front.value_of(trial, key, now.objectives)) for key in (*now.objectives, *others)]
        pick = "knee" if trial is knee and len(best) > 1 else f"trial:{trial.number}"
        rows.append(
            [
                f"{trial.number}" + ("&nbsp;(knee)" if pick == "knee" else ""),
                *("" if value is None else of(key).text(value) for key, value in values),
                ranks_of(trial),
                _code(settings_of(trial)),
                _code(run_of(trial)),
                _code(command_for(study, "export", f"trial:{trial.number}")),
            ]
        )
    columns = ["trial", *heads, *others, "ranks", "settings", "run", "to use it"]
    numbers = range(1, 1 + len(heads) + len(others))
    marked = [i for i, trial in enumerate(best) if trial is knee and len(best) > 1]
    return _table(columns, rows, numbers, marked)


def _failed_table(now: Standing) -> str:
    kinds = {
        "failed": now.failed,
        "failed, tried again": now.retried,
        "pruned": now.pruned,
        "stopped": now.stopped,
    }
    rows = []
    for kind, trials in kinds.items():
        for trial in trials:
            took = seconds_of(trial)
            worker = escape(notes(trial).worker or "")
            ran = "" if took is None else duration(took)
            rows.append(
                [str(trial.number), kind, escape(cause_of(trial)), _code(settings_of(trial)), worker, ran]
            )
    if not rows:
        return "<p class=dim>Every trial that ended has a result.</p>"
    return _table(["trial", "what", "cause", "settings", "worker", "ran"], rows, (), ())


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int], marked: Sequence[int]
) -> str:
    """A table of cells that are HTML already."""
    kinds = {heads.index("settings"): " class=settings"} | dict.fromkeys(numbers, " class=number")
    lines = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    for i, row in enumerate(rows):
        cells = (f"<td{kinds.get(j, '')}>{cell}</td>" for j, cell in enumerate(row))
        lines.append(f"<tr{' class=knee' if i in marked else ''}>{''.join(cells)}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _aims(now: Standing) -> str:
    return ", ".join(f"{key} {arrow(direction)}" for key, direction in now.objectives.items())


def _growth_text(now: Standing) -> str:
    if len(now.objectives) == 1:
        return "The best value so far."
    worst = front.reference(now.complete, now.objectives)
    values = ", ".join(f"{k} {of(k).text(v)}" for k, v in zip(now.objectives, worst, strict=False))
    return (
        "Hypervolume is what the front beats, in the product of the objectives' units, down to the worst "
        f"values that any trial had ({values})."
        if values
        else "Hypervolume is what the front beats, down to the worst values that any trial had."
    )


def _lines(now: Standing) -> str:
    few = len(front.counted(now.complete)) <= MOST
    a_line = (
        "A line is a trial." if few else f"A line is a trial: those on the front, and up to {MOST:,} others."
    )
    return f"{a_line} Drag along an axis to keep the lines that pass there."


def _busy(now: Standing) -> str:
    """How much of the time between their first and last trial the workers had one."""
    spans: dict[str, list[FrozenTrial]] = {}
    for trial in [*now.complete, *now.pruned, *now.failed, *now.retried, *now.stopped]:
        if trial.datetime_start and trial.datetime_complete:
            spans.setdefault(notes(trial).worker or "?", []).append(trial)
    had = sum(t.duration.total_seconds() for trials in spans.values() for t in trials if t.duration)
    there = sum(_seconds_between(trials) for trials in spans.values())
    many = len(now.complete) > MOST
    text = f"A bar is a trial; the last {MOST:,} are shown." if many else "A bar is a trial."
    return f"{text} Workers had a trial for {100 * had / there:.0f} % of their time." if there else text


def _seconds_between(trials: Sequence[FrozenTrial]) -> float:
    began = [t.datetime_start for t in trials if t.datetime_start]
    ended = [t.datetime_complete for t in trials if t.datetime_complete]
    return (max(ended) - min(began)).total_seconds()


def _span(now: Standing) -> str:
    trials = [*now.finished, *now.reused, *now.retried, *now.stopped, *now.running]
    began = [trial.datetime_start for trial in trials if trial.datetime_start]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    if not began or not ended:
        return ""
    total = duration((max(ended) - min(began)).total_seconds())
    return f"{min(began):%Y-%m-%d %H:%M} to {max(ended):%Y-%m-%d %H:%M} ({total})"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
