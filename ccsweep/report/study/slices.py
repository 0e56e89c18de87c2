"""Figures of a study's parameters and of its trials' epochs: slices, a contour of two, learning curves."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]
from optuna import Study
from optuna.trial import FrozenTrial
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from ccsweep.figures import VALIDATION_ERROR, of
from ccsweep.report.canvas import BLUE, GREY, VERMILLION
from ccsweep.report.study.charts import Chart, _finished, _hover, _is_logarithmic, shares_of
from ccsweep.report.study.points import thinned
from ccsweep.report.study.standing import Standing
from ccsweep.study import front
from ccsweep.study.notes import notes
from ccsweep.tracking.mask import mask

ACROSS = 3  # panels
CURVES = 40
"""Trials, at most, whose epochs are drawn beside those of the front."""

Curves = Mapping[int, Sequence[tuple[int, float]]]
"""(epoch, validation error) by the trials' numbers."""


def slices(now: Standing) -> Chart:
    """The first objective over each parameter; what is on the front stands out."""
    complete = front.counted(now.complete)
    names = list(dict.fromkeys(key for trial in complete for key in trial.params))
    if len(complete) < 2 or not names:
        return "Slices need two completed trials with parameters."
    best = {trial.number for trial in front.pareto(complete, now.objectives)}
    first = next(iter(now.objectives))
    lines = -(-len(names) // ACROSS)
    drawn = make_subplots(rows=lines, cols=ACROSS, shared_yaxes=True, vertical_spacing=0.28 / lines)
    some = {trial.number for trial in thinned(complete)} | best
    shown = [trial for trial in complete if trial.number in some]
    for place, name in enumerate(names):
        row, column = divmod(place, ACROSS)
        trials = [trial for trial in shown if name in trial.params]
        drawn.add_scatter(
            x=[_value(trial, name) for trial in trials],
            y=[trial.values[0] for trial in trials],
            mode="markers",
            marker={
                "color": [BLUE if trial.number in best else GREY for trial in trials],
                "size": [10 if trial.number in best else 6 for trial in trials],
            },
            hovertext=[f"trial {trial.number}: {of(first).text(trial.values[0])}" for trial in trials],
            hoverinfo="text",
            row=row + 1,
            col=column + 1,
        )
        kind = "log" if _is_log(trials, name) else None
        drawn.update_xaxes(title=name, type=kind, exponentformat="e", row=row + 1, col=column + 1)
    drawn.update_yaxes(title=of(first).label, col=1)
    return _finished(drawn, height=90 + 240 * lines, showlegend=False)


def contour(study: Study, now: Standing) -> Chart:
    """The first objective over the two parameters with numbers that decide it most."""
    complete = front.counted(now.complete)
    names = [
        name for name in dict.fromkeys(k for t in complete for k in t.params) if _is_number(complete, name)
    ]
    having = [trial for trial in complete if all(name in trial.params for name in names[:2])]
    if len(names) < 2 or len(having) < 4:
        return "A contour needs two parameters that are numbers, and four completed trials with both."
    shares = shares_of(study, now, 0)
    if isinstance(shares, dict):
        names.sort(key=lambda name: -shares.get(name, 0.0))
    x, y = names[:2]
    trials = list(thinned([trial for trial in complete if x in trial.params and y in trial.params]))
    if len({t.params[x] for t in trials}) < 2 or len({t.params[y] for t in trials}) < 2:
        return f"Too few trials have both {x} and {y} for a contour."
    (first, way), *_ = now.objectives.items()
    places = {"x": [t.params[x] for t in trials], "y": [t.params[y] for t in trials]}
    drawn = go.Figure()
    drawn.add_contour(
        **places,
        z=[t.values[0] for t in trials],
        connectgaps=True,
        colorscale="Viridis",
        reversescale=way == "minimize",
        contours={"coloring": "heatmap"},
        opacity=0.75,
        line={"width": 0.5},
        colorbar={"title": {"text": of(first).label, "side": "right"}, "thickness": 12},
        hoverinfo="skip",
    )
    drawn.add_scatter(
        **places,
        mode="markers",
        marker={"color": "white", "size": 7, "line": {"color": "black", "width": 1}},
        hovertext=[f"trial {trial.number}: {of(first).text(trial.values[0])}" for trial in trials],
        hoverinfo="text",
    )
    drawn.update_xaxes(title=x, type="log" if _is_log(trials, x) else None, exponentformat="e")
    drawn.update_yaxes(title=y, type="log" if _is_log(trials, y) else None, exponentformat="e")
    return _finished(drawn, height=440, showlegend=False)


def curves(now: Standing, logged: Curves) -> Chart:
    """Validation error by epoch: the front in colour, trials that ended early in another."""
    best = {trial.number for trial in front.pareto(now.complete, now.objectives)}
    ended = {trial.number for trial in now.pruned}
    trials = {trial.number: trial for trial in [*now.complete, *now.pruned]}
    drawn = go.Figure()
    for kind, colour in (("others", GREY), ("ended early", VERMILLION), ("front", BLUE)):
        numbers = [n for n in logged if _kind(n, best, ended) == kind and n in trials and len(logged[n]) > 1]
        for place, number in enumerate(numbers):
            drawn.add_scatter(
                x=[epoch for epoch, _ in logged[number]],
                y=[value for _, value in logged[number]],
                mode="lines",
                name=kind,
                legendgroup=kind,
                showlegend=place == 0,
                line={"color": colour, "width": 2 if kind == "front" else 1},
                opacity=0.5 if kind == "others" else 1.0,
                hovertext=_hover(trials[number], now),
                hoverinfo="text",
            )
    if not drawn.data:
        return "No epochs of these trials are at hand."
    drawn.update_xaxes(title="epoch")
    drawn.update_yaxes(title=VALIDATION_ERROR.label, type="log")
    return _finished(drawn, height=380)


def wanted(now: Standing) -> list[FrozenTrial]:
    """The trials whose curves are drawn: those of the front, and of the others the last."""
    best = front.pareto(now.complete, now.objectives)
    known = {trial.number for trial in best}
    others = [t for t in [*now.complete, *now.pruned] if t.number not in known and notes(t).reuses is None]
    return [*others[-CURVES:], *best]


def _kind(number: int, best: set[int], ended: set[int]) -> str:
    return "front" if number in best else "ended early" if number in ended else "others"


def _value(trial: FrozenTrial, name: str) -> float | int | str:
    value = trial.params[name]
    return value if _is_plain(value) else mask(str(value))


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number(trials: Sequence[FrozenTrial], name: str) -> bool:
    return all(_is_plain(trial.params[name]) for trial in trials if name in trial.params)


def _is_log(trials: Sequence[FrozenTrial], name: str) -> bool:
    return any(_is_logarithmic(trial.distributions[name]) for trial in trials[:1])
