"""``front.png``: the front of a study for documents, in the style of the other pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, MaxNLocator
from optuna.trial import FrozenTrial

from ccsweep.figures import arrow, of
from ccsweep.report.canvas import BLUE, GREY, VERMILLION, describe, new_figure, save
from ccsweep.report.study.points import Points, extent, points, stairs, view
from ccsweep.report.study.standing import Standing, ranks_of
from ccsweep.study import front
from ccsweep.study.alone import ends_of

_NAMED = 12  # on a front of more trials only its ends and its knee have their ranks beside them


def draw_front(path: Path, title: str, now: Standing) -> Path:
    """Draw the front, the first objective upwards and each other one along a panel of its own.

    A study of one objective is drawn as value by trial, with the best so far as a line.

    Args:
        path: of the PNG.
        title: which study it is.
        now: how it stands; at least one trial is complete.

    Returns:
        ``path``.
    """
    shown = points(now.complete, now.objectives)
    names = list(now.objectives)
    figure = new_figure(title, height=6)
    if len(names) == 1:
        axes = figure.subplots()
        _draw_values(axes, now, shown)
        handles: Sequence[Artist] = axes.get_legend_handles_labels()[0]
    else:
        panels = figure.subplots(1, len(names) - 1, squeeze=False)[0]
        for place, panel in enumerate(panels, 1):
            _draw_pair(panel, now, shown, place)
        handles = _handles(shown)
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=4)
    return save(figure, path)


def _draw_pair(axes: Axes, now: Standing, shown: Points, x: int) -> None:
    names = list(now.objectives)
    left_out = max(extent(shown, place)[1] for place in (x, 0))
    beyond = f"; farther out: {left_out}" if left_out else ""
    bend = "" if shown.knee or not shown.best else ", no knee"
    describe(axes, f"{len(shown.best)} of {len(shown.all)} trials on the front{bend}{beyond}", "", "")
    axes.set_xlabel(_label(now, names[x]))
    axes.set_ylabel(_label(now, names[0]))
    axes.xaxis.set_major_locator(AutoLocator())
    if len(names) == 2:
        line = stairs(shown.best, now.objectives, x, 0)
        axes.plot([p[0] for p in line], [p[1] for p in line], color=BLUE, linewidth=1.2, alpha=0.6)
    layers: list[tuple[list[FrozenTrial], dict[str, Any]]] = [
        (shown.beaten, {"color": GREY, "marker": "o", "markersize": 5}),
        (shown.infeasible, {"color": GREY, "marker": "x", "markersize": 6}),
        (shown.best, {"color": BLUE, "marker": "o", "markersize": 7}),
        ([shown.knee] if shown.knee else [], {"color": VERMILLION, "marker": "D", "markersize": 9}),
    ]
    for trials, style in layers:
        xs, ys = [t.values[x] for t in trials], [t.values[0] for t in trials]
        axes.plot(xs, ys, linestyle="none", **style)
    _draw_intervals(axes, now, shown, x)
    axes.set(xlim=view(shown, now.objectives, x), ylim=view(shown, now.objectives, 0))
    ends = {shown.best[0].number, shown.best[-1].number} if shown.best else set()
    for trial in shown.best:
        if len(shown.best) <= _NAMED or trial is shown.knee or trial.number in ends:
            axes.annotate(
                ranks_of(trial),
                (trial.values[x], trial.values[0]),
                xytext=(6, -11),
                textcoords="offset points",
                fontsize=8,
                color="0.3",
            )


def _draw_intervals(axes: Axes, now: Standing, shown: Points, x: int) -> None:
    """Of what was measured, on the front."""
    for trial in shown.best:
        (left, right), (low, high) = (ends_of(trial, list(now.objectives)[i], i) for i in (x, 0))
        style: dict[str, Any] = {"color": BLUE, "linewidth": 1, "alpha": 0.5, "zorder": 1}
        axes.plot([left, right], [trial.values[0]] * 2, marker="|", **style)
        axes.plot([trial.values[x]] * 2, [low, high], marker="_", **style)


def _draw_values(axes: Axes, now: Standing, shown: Points) -> None:
    (name,) = now.objectives
    describe(axes, f"{len(shown.all)} trials", "trial", _label(now, name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    layers: list[tuple[list[FrozenTrial], str, dict[str, Any]]] = [
        (shown.beaten, "trial", {"color": GREY, "marker": "o"}),
        (shown.infeasible, "breaks a constraint", {"color": GREY, "marker": "x"}),
        (shown.best, "best", {"color": VERMILLION, "marker": "D"}),
    ]
    for trials, label, style in layers:
        if trials:
            xs, ys = [t.number for t in trials], [t.values[0] for t in trials]
            axes.plot(xs, ys, linestyle="none", label=label, **style)
    curve = front.best_so_far(now.complete, now.objectives)[name]
    ended = [trial.number for trial in front.by_end(front.counted(now.complete))]
    # Workers end trials out of order: a best so far belongs to the latest number that had ended.
    xs = [max(ended[:count]) for count, _ in curve]
    line: dict[str, Any] = {"color": BLUE, "linewidth": 1.5, "drawstyle": "steps-post"}
    axes.plot(xs, [value for _, value in curve], label="best so far", **line)
    for trial in shown.best:
        place: dict[str, Any] = {"xytext": (8, 4), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(ranks_of(trial), (trial.number, trial.values[0]), **place)


def _label(now: Standing, name: str) -> str:
    return f"{of(name).label}  ({arrow(now.objectives[name])} better)"


def _handles(shown: Points) -> list[Line2D]:
    def marker(label: str, colour: str, shape: str) -> Line2D:
        return Line2D([], [], color=colour, marker=shape, linestyle="none", label=label)

    handles = [marker("front", BLUE, "o")]
    if shown.knee:
        handles.append(marker(f"knee: trial {shown.knee.number}", VERMILLION, "D"))
    if shown.beaten:
        handles.append(marker("beaten", GREY, "o"))
    if shown.infeasible:
        handles.append(marker("breaks a constraint", GREY, "x"))
    return handles
