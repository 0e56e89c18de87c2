"""The interactive figures of a study's page, or a line that says why there is nothing to draw.

Optuna 5 draws importances and parallel coordinates, too, but takes the least of a maximised objective for its
best, and its lines cannot be chosen by dragging; it hides no passwords and shows reused trials twice.
"""

import warnings
from collections.abc import Callable, Sequence
from html import escape
from math import log10
from typing import Any, TypeAlias

import plotly.graph_objects as go  # type: ignore[import-untyped]
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from ccsweep.figures import arrow, of
from ccsweep.report.canvas import BLUE, COLOURS, GREEN, GREY, ORANGE, PINK, VERMILLION
from ccsweep.report.study.points import MOST, Points, corners, extent, points, stairs, thinned, view
from ccsweep.report.study.standing import (
    Standing,
    cause_of,
    duration,
    ranks_of,
    seconds_of,
    settings_of,
    shortened,
)
from ccsweep.study import front
from ccsweep.study.alone import ends_of
from ccsweep.study.notes import notes
from ccsweep.tracking.mask import mask

ENOUGH = 10
"""Completed trials below which importances would be read out of noise."""

_NONE = "–"  # where a trial has no value: a parameter that only other trials have

Chart: TypeAlias = "go.Figure | str"


def fronts(now: Standing) -> list[Chart]:
    """The first objective over each other one; value by trial where there is one objective."""
    shown = points(now.complete, now.objectives)
    if not shown.all:
        return ["No trial is complete, so there is nothing to compare."]
    if len(now.objectives) == 1:
        return [_values(now, shown)]
    return [_pair(now, shown, place) for place in range(1, len(now.objectives))]


def growth(now: Standing) -> Chart:
    """Hypervolume and the best of each objective by trials done."""
    curves = front.best_so_far(now.complete, now.objectives)
    volume = front.hypervolume(now.complete, now.objectives)
    if len(volume) < 2:
        return "Two completed trials are needed to show how the front grew."
    panels: dict[str, list[tuple[int, float]]] = {}
    if len(now.objectives) > 1:
        panels["hypervolume"] = volume
    panels |= {f"best {name} {arrow(way)}": curves[name] for name, way in now.objectives.items()}
    drawn = make_subplots(cols=len(panels), subplot_titles=list(panels))
    for column, curve in enumerate(map(corners, panels.values()), 1):
        line = {"shape": "hv", "color": BLUE, "width": 2}
        drawn.add_scatter(
            x=[x for x, _ in curve], y=[y for _, y in curve], mode="lines", line=line, row=1, col=column
        )
    drawn.update_xaxes(title="completed trials")
    drawn = _finished(drawn, height=330, showlegend=False)
    return drawn.update_layout(margin={"t": 60})  # room for the panels' titles under plotly's buttons


def importances(study: Study, now: Standing) -> Chart:
    """How much each parameter decides each objective, by PED-ANOVA, Optuna's own measure."""
    drawn = go.Figure()
    for place, name in enumerate(now.objectives):
        shares = shares_of(study, now, place)
        if isinstance(shares, str):
            return shares
        order = sorted(shares, key=lambda key: shares[key])
        colour = COLOURS[place % len(COLOURS)]
        drawn.add_bar(
            x=[shares[key] for key in order], y=order, orientation="h", name=name, marker={"color": colour}
        )
    drawn.update_xaxes(title="share of importance", range=[0, 1])
    drawn.update_layout(barmode="group", legend={"traceorder": "reversed"})
    bars = len({key for trace in drawn.data for key in trace.y}) * len(now.objectives)
    return _finished(drawn, height=140 + 26 * bars)


def shares_of(study: Study, now: Standing, place: int) -> dict[str, float] | str:
    """What share each parameter has in the objective at ``place``; or why that cannot be said."""
    from optuna.importance import get_param_importances

    complete = front.counted(now.complete)
    if len(complete) < ENOUGH:
        return f"Importances need {ENOUGH} completed trials; there are {len(complete)}."
    sign = 1 if list(now.objectives.values())[place] == "minimize" else -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # that the loss given is what is minimised: it is
        try:
            shares = get_param_importances(study, target=lambda trial: sign * trial.values[place])
        except (ValueError, RuntimeError) as error:  # a study whose trials have no parameter in common
            return f"Importances cannot be found for these trials: {mask(str(error))}"
    return shares or "The trials have no parameters to compare."


def parallel(now: Standing) -> Chart:
    """Parallel coordinates: parameters, then objectives; drag along an axis to choose trials."""
    on_front = {trial.number for trial in front.pareto(now.complete, now.objectives)}
    every = front.counted(now.complete)
    some = {trial.number for trial in thinned(every)}
    complete = [trial for trial in every if trial.number in some | on_front]
    names = list(dict.fromkeys(key for trial in complete for key in trial.params))
    if len(complete) < 2 or not names:
        return "Parallel coordinates need two completed trials with parameters."
    axes = [_axis(complete, name) for name in names]
    for place, (name, direction) in enumerate(now.objectives.items()):
        values = [trial.values[place] for trial in complete]
        axes.append({"label": f"{name} {arrow(direction)}", "values": values})
    colours = [trial.values[0] for trial in complete]
    first, way = next(iter(now.objectives.items()))
    line = {
        "color": colours,
        "colorscale": "Viridis",
        "reversescale": way == "minimize",
        "showscale": True,
        "colorbar": {"title": {"text": first, "side": "right"}, "thickness": 12},
    }
    drawn = go.Figure(go.Parcoords(dimensions=axes, line=line, labelangle=-20, labelside="top"))
    drawn = _finished(drawn, height=460)
    return drawn.update_layout(margin={"l": 80, "r": 60, "t": 120, "b": 30})


def timeline(now: Standing) -> Chart:
    """What each worker did when: a bar for each trial, of many for the last of each kind."""
    kinds = {
        "complete": (now.complete, BLUE),
        "pruned": (now.pruned, ORANGE),
        "failed": (now.failed, VERMILLION),
        "failed, tried again": (now.retried, PINK),
        "stopped": (now.stopped, GREY),
        "running": (now.running, GREEN),
    }
    drawn = go.Figure()
    workers: set[str] = set()
    for name, (trials, colour) in kinds.items():
        began = [trial for trial in trials if trial.datetime_start is not None][-MOST:]
        if not began:
            continue
        ends = [trial.datetime_complete or now.now for trial in began]
        took = [(e - t.datetime_start).total_seconds() for t, e in zip(began, ends, strict=True)]  # type: ignore[operator]
        drawn.add_bar(
            base=[trial.datetime_start for trial in began],
            x=[1000 * seconds for seconds in took],
            y=[_worker(trial) for trial in began],
            orientation="h",
            name=name,
            marker={"color": colour, "line": {"color": "white", "width": 1}},
            hovertext=[_hover(trial, now) for trial in began],
            hoverinfo="text",
        )
        workers |= {_worker(trial) for trial in began}
    if not workers:
        return "No trial has begun."
    drawn.update_xaxes(type="date")
    drawn.update_yaxes(categoryorder="category descending", type="category")
    drawn.update_layout(barmode="overlay", bargap=0.35)
    return _finished(drawn, height=150 + 42 * len(workers))


def _pair(now: Standing, shown: Points, x: int) -> go.Figure:
    names = list(now.objectives)
    drawn = go.Figure()
    if len(names) == 2 and shown.best:
        line = stairs(shown.best, now.objectives, x, 0)
        style = {"color": BLUE, "width": 1.5}
        drawn.add_scatter(
            x=[p[0] for p in line],
            y=[p[1] for p in line],
            mode="lines",
            line=style,
            hoverinfo="skip",
            showlegend=False,
        )
    _scatter(drawn, now, shown, lambda trial: trial.values[x])
    _intervals(drawn, now, shown, x)
    across, up = (view(shown, now.objectives, place) for place in (x, 0))
    drawn.update_xaxes(title=f"{names[x]} {arrow(now.objectives[names[x]])}", range=across)
    drawn.update_yaxes(title=f"{names[0]} {arrow(now.objectives[names[0]])}", range=up)
    return _finished(drawn, height=520)


def _values(now: Standing, shown: Points) -> go.Figure:
    drawn = go.Figure()
    _scatter(drawn, now, shown, lambda trial: trial.number)
    (name,) = now.objectives
    drawn.update_xaxes(title="trial")
    drawn.update_yaxes(title=f"{name} {arrow(now.objectives[name])}", range=extent(shown, 0)[0])
    return _finished(drawn, height=460)


def _scatter(drawn: go.Figure, now: Standing, shown: Points, x: Callable[[FrozenTrial], float]) -> None:
    several = len(now.objectives) > 1
    best = [trial for trial in shown.best if not several or trial is not shown.knee]
    knees = [shown.knee] if several and shown.knee else []
    for name, trials, marker in (
        (*_some("beaten", shown.beaten), {"color": GREY, "size": 8, "opacity": 0.7}),
        (
            *_some("breaks a constraint", shown.infeasible),
            {"color": GREY, "size": 8, "symbol": "x-thin-open"},
        ),
        ("front" if several else "best", best, {"color": BLUE, "size": 11}),
        ("knee", knees, {"color": VERMILLION, "size": 14, "symbol": "diamond"}),
    ):
        if trials:
            drawn.add_scatter(
                x=[x(trial) for trial in trials],
                y=[trial.values[0] for trial in trials],
                mode="markers",
                name=name,
                marker=marker,
                hovertext=[_hover(trial, now) for trial in trials],
                hoverinfo="text",
            )


def _intervals(drawn: go.Figure, now: Standing, shown: Points, x: int) -> None:
    """The intervals of what was measured, on the front, along both axes."""
    names = list(now.objectives)
    bars = {}
    for axis, place in (("error_x", x), ("error_y", 0)):
        ends = [ends_of(trial, names[place], place) for trial in shown.best]
        if any(least < greatest for least, greatest in ends):
            values = [trial.values[place] for trial in shown.best]
            bars[axis] = {
                "array": [greatest - value for (_, greatest), value in zip(ends, values, strict=True)],
                "arrayminus": [value - least for (least, _), value in zip(ends, values, strict=True)],
                "color": BLUE,
                "thickness": 1,
                "width": 3,
            }
    if bars:
        drawn.add_scatter(
            x=[trial.values[x] for trial in shown.best],
            y=[trial.values[0] for trial in shown.best],
            mode="markers",
            marker={"opacity": 0, "color": BLUE},
            name="95 % interval",
            hoverinfo="skip",
            **bars,
        )


def _some(name: str, trials: Sequence[FrozenTrial]) -> tuple[str, Sequence[FrozenTrial]]:
    """What is drawn of many trials, and under which name."""
    drawn = thinned(trials)
    return (name if len(drawn) == len(trials) else f"{name}, {len(drawn)} of {len(trials)}"), drawn


def _hover(trial: FrozenTrial, now: Standing) -> str:
    """What a person wants to know of a point, a line each."""
    lines = [f"<b>trial {trial.number}</b>  ranks {escape(ranks_of(trial))}"]
    if trial.values:
        lines += [f"{k} {of(k).text(v)}" for k, v in zip(now.objectives, trial.values, strict=True)]
    known = notes(trial)
    if known.cause is not None:
        lines.append(escape(cause_of(trial)))
    lines += [escape(text) for text in shortened(settings_of(trial)).split(" ") if text]
    if (seconds := seconds_of(trial)) is not None:
        lines.append(f"took {duration(seconds)}")
    if known.run_id is not None:
        lines.append(f"run {known.run_id}")
    if known.folder is not None:
        lines.append(escape(mask(known.folder)))
    return "<br>".join(lines)


def _worker(trial: FrozenTrial) -> str:
    return notes(trial).worker or "worker unknown"


def _axis(trials: Sequence[FrozenTrial], name: str) -> dict[str, Any]:
    """An axis of the parallel coordinates; choices by their names, a missing value at a place of its own."""
    values = [trial.params.get(name) for trial in trials]
    kind = next(trial.distributions[name] for trial in trials if name in trial.distributions)
    known = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(known) < sum(value is not None for value in values) or not known:
        labels = [_NONE if value is None else mask(str(value)) for value in values]
        options = sorted(set(labels))
        places = [options.index(label) for label in labels]
        ticks = {"tickvals": list(range(len(options))), "ticktext": [_clip(option) for option in options]}
        return {"label": name, "values": places, **ticks, "range": [-0.2, len(options) - 0.8]}
    logarithmic = _is_logarithmic(kind) and min(known) > 0
    scale: Callable[[float], float] = log10 if logarithmic else float
    low, high = scale(min(known)), scale(max(known))
    if len(known) == len(values) and not logarithmic:
        return {"label": name, "values": values}
    below = low - 0.15 * ((high - low) or 1.0)
    ticks_at = sorted({low + i * (high - low) / 4 for i in range(5)})
    texts = [f"{10**at if logarithmic else at:.3g}" for at in ticks_at]
    if len(known) < len(values):
        ticks_at, texts = [below, *ticks_at], [_NONE, *texts]
    placed = [below if value is None else scale(value) for value in values]
    return {"label": name, "values": placed, "tickvals": ticks_at, "ticktext": texts}


def _is_logarithmic(distribution: BaseDistribution) -> bool:
    return bool(getattr(distribution, "log", False))


def _clip(text: str) -> str:
    return text if len(text) <= 18 else text[:17] + "…"


def _finished(drawn: go.Figure, height: int, **layout: Any) -> go.Figure:
    drawn.update_layout(
        template="simple_white",
        paper_bgcolor="rgba(0,0,0,0)",  # the page's own, by day and by night
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)"},
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"size": 12}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **layout,
    )
    drawn.update_xaxes(showgrid=True, gridcolor="#eeeeee")
    drawn.update_yaxes(showgrid=True, gridcolor="#eeeeee", automargin=True)
    return drawn
