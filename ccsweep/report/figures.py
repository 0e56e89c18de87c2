"""Pictures of a run and of a multirun, each one PNG of 1200 pixels' width.

Drawn on figures of their own, without pyplot and its global state. The colours are Okabe and Ito's,
which colour-blind readers tell apart; markers and line styles say the same again in a grey print.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

Curve = Sequence[tuple[int, float]]
"""(epoch, value) in order of epochs."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LOG_FROM = 3  # a logarithmic axis if the largest value is this many times the smallest
_SPECTRUM_FLOOR = 1e-3  # what is smaller, beside the largest, is nothing to a low rank


def draw_run(
    path: Path,
    title: str,
    history: Mapping[str, Curve],
    spectra: Sequence[tuple[str, Sequence[float], int | None]],
) -> Path:
    """Draw what training did: errors, gates and densities by epoch, and the spectra at its end.

    Args:
        path: of the PNG.
        title: which run it is.
        history: metrics by their names in MLflow: ``validation/error`` in percent, and of layer N
            ``validation/layerN/sign_agreement``, ``density`` and ``true_density`` between 0 and 1.
        spectra: of each hidden layer a name such as ``784x1000``, its singular values in descending
            order, and the rank of its estimator, None where there is none.

    Returns:
        ``path``.
    """
    figure = _figure(title, height=7.5)
    (errors, gates), (densities, singular) = figure.subplots(2, 2)
    error = history.get("validation/error", ())
    agreement, density = _of_layers(history, "sign_agreement"), _of_layers(history, "density")

    _describe(errors, "Validation error" + _best(error), "epoch", "error, %")
    _plot(errors, error, color="black", marker="o")
    _scale(errors, [value for _, value in error])
    _describe(gates, "Gate sign error on validation data", "epoch", "units guessed wrong, %")
    for layer, curve in agreement.items():
        _plot(gates, [(epoch, 100 * (1 - share)) for epoch, share in curve], **_style(layer))
    _describe(densities, "Density: computed (solid), positive (dashed)", "epoch", "share of units, %")
    for layer, curve in density.items():
        _plot(densities, [(epoch, 100 * share) for epoch, share in curve], **_style(layer))
    for layer, curve in _of_layers(history, "true_density").items():
        hollow = {"linestyle": "--", "markerfacecolor": "white"}
        _plot(densities, [(epoch, 100 * share) for epoch, share in curve], **_style(layer), **hollow)
    for axes in (gates, densities):
        highest = max((y for line in axes.lines for y in line.get_ydata()), default=0)
        axes.set_ylim(0, 1.08 * highest or 100)
    _describe(singular, "Spectra of the weights, the rank marked", "index", "singular value / largest")
    _draw_spectra(singular, [(values, rank) for _, values, rank in spectra])

    for axes in (errors, gates, densities, singular):
        if not axes.lines:
            _say(axes, "no estimator, no gate" if axes is gates and density else "none logged")

    names = [f"{name}, rank {rank}" if rank else name for name, _, rank in spectra]
    names = names or [f"layer {layer + 1}" for layer in density]
    _legend(figure, names, loc="outside lower center", ncols=max(1, len(names)))
    return _save(figure, path)


def draw_rows(
    path: Path, title: str, curves: Mapping[str, Sequence[Curve]], tests: Mapping[str, Sequence[float]]
) -> Path:
    """Draw the rows of a multirun: validation errors by epoch, and the test errors at the end.

    The paper's figure shows test error by epoch. Here test data are touched once, by the weights that
    validation chose: so the curves are validation errors, and the test errors are markers beside them.

    Args:
        path: of the PNG.
        title: what was trained.
        curves: of each row the validation errors in percent, one curve per seed.
        tests: of each row the test errors in percent, one per seed; the bar is their standard deviation.

    Returns:
        ``path``.
    """
    figure = _figure(title, height=max(6, 1 + 0.25 * len(curves)))
    epochs, end = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    several = any(len(seeds) > 1 for seeds in curves.values())
    thick, sd = (" (thick: mean over seeds)", " ± sd") if several else ("", "")
    _describe(epochs, f"Validation error{thick}", "epoch", "error, %")
    _describe(end, f"Test error{sd}", "", "")
    for i, (row, seeds) in enumerate(curves.items()):
        if len(seeds) > 1:
            for curve in seeds:
                _plot(epochs, curve, color=_style(i)["color"], linewidth=0.7, alpha=0.45)
        _plot(epochs, _mean(seeds), **_style(i), linewidth=2)
        if errors := tests[row]:
            spread = stdev(errors) if len(errors) > 1 else None
            end.errorbar(i, fmean(errors), yerr=spread, **_style(i), capsize=4, linestyle="none")
    end.set_xlim(-0.7, len(curves) - 0.3)
    end.xaxis.set_major_locator(NullLocator())
    end.tick_params(axis="y", left=False, which="both")
    validation = (error for curve in chain(*curves.values()) for _, error in curve)
    _scale(epochs, [*validation, *chain(*tests.values())])
    _legend(figure, list(curves), loc="outside right center", ncols=1)
    return _save(figure, path)


def _figure(title: str, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.02)  # pads in inches
    figure = Figure(figsize=(10, height), dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=13, fontweight="bold")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="png")
    return partial.replace(path)


def _describe(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _style(index: int) -> dict[str, Any]:
    """A colour and a marker: the first seven differ in both, the first 49 in one of the two."""
    turn, place = divmod(index, len(_COLOURS))
    return {"color": _COLOURS[place], "marker": _MARKERS[(place + turn) % len(_MARKERS)]}


def _scale(axes: Axes, errors: Sequence[float]) -> None:
    """Make the y axis logarithmic where the first epochs would press the last ones together."""
    if errors and min(errors) > 0 and max(errors) >= _LOG_FROM * min(errors):
        _logarithmic(axes, "y", (1, 1.5, 2, 3, 5, 7))
        axes.set_ylabel(f"{axes.get_ylabel()} (logarithmic)")


def _logarithmic(axes: Axes, which: Literal["x", "y"], ticks: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are plain numbers, ``ticks`` of them in a decade."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _plot(axes: Axes, curve: Curve, **style: Any) -> None:
    if not curve:
        return
    every = max(1, len(curve) // 12)  # so many markers that the line still shows
    settings = {"markersize": 4.5, "linewidth": 1.5, "markevery": every} | style
    axes.plot([x for x, _ in curve], [y for _, y in curve], **settings)


def _best(curve: Curve) -> str:
    if not curve:
        return ""
    epoch, error = min(curve, key=lambda point: point[1])
    return f", best {error:.2f} % at epoch {epoch}"


def _draw_spectra(axes: Axes, spectra: Sequence[tuple[Sequence[float], int | None]]) -> None:
    """Both axes logarithmic: the ranks of interest lie at the first hundredth of a linear one."""
    for layer, (values, rank) in enumerate(spectra):
        if not values or values[0] <= 0:
            continue
        curve = [(i, v / values[0]) for i, v in enumerate(values, 1) if v >= _SPECTRUM_FLOOR * values[0]]
        colour = _style(layer)["color"]
        _plot(axes, curve, color=colour)
        if rank is not None and rank <= len(curve):
            _plot(axes, [curve[rank - 1]], **_style(layer) | {"markersize": 8}, markeredgecolor="white")
    if axes.lines:
        _logarithmic(axes, "x", (1, 2, 5))
        _logarithmic(axes, "y", (1, 2, 5))


def _of_layers(history: Mapping[str, Curve], name: str) -> dict[int, Curve]:
    """The metric ``name`` of each layer that has it, counted from 0."""
    found = {}
    for key, curve in history.items():
        if layer := re.fullmatch(rf"validation/layer(\d+)/{name}", key):
            found[int(layer[1]) - 1] = curve
    return dict(sorted(found.items()))


def _mean(seeds: Sequence[Curve]) -> Curve:
    """The mean over seeds of the epochs that all of them reached."""
    by_epoch = [dict(curve) for curve in seeds]
    shared = sorted(set.intersection(*map(set, by_epoch))) if by_epoch else []
    return [(epoch, fmean(curve[epoch] for curve in by_epoch)) for epoch in shared]


def _say(axes: Axes, text: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, color="0.4", horizontalalignment="center")


def _legend(figure: Figure, names: Sequence[str], **place: Any) -> None:
    lines = [Line2D([], [], markersize=6, label=name, **_style(i)) for i, name in enumerate(names)]
    if lines:
        figure.legend(handles=lines, frameon=False, **place)
