"""Pictures of a run and of a grid, each one PNG."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from ccsweep.figures import VALIDATION_ERROR
from ccsweep.report.canvas import (
    BLACK,
    Curve,
    describe,
    legend,
    logarithmic,
    new_figure,
    plot,
    save,
    say,
    style,
)

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
    figure = new_figure(title, height=7.5)
    (errors, gates), (densities, singular) = figure.subplots(2, 2)
    error = history.get(VALIDATION_ERROR.metric, ())
    agreement, density = _of_layers(history, "sign_agreement"), _of_layers(history, "density")

    describe(errors, "Validation error" + _best(error), "epoch", "error, %")
    plot(errors, error, color=BLACK, marker="o")
    _scale(errors, [value for _, value in error])
    describe(gates, "Gate sign error on validation data", "epoch", "units guessed wrong, %")
    for layer, curve in agreement.items():
        plot(gates, [(epoch, 100 * (1 - share)) for epoch, share in curve], **style(layer))
    describe(densities, "Density: computed (solid), positive (dashed)", "epoch", "share of units, %")
    for layer, curve in density.items():
        plot(densities, [(epoch, 100 * share) for epoch, share in curve], **style(layer))
    for layer, curve in _of_layers(history, "true_density").items():
        hollow = {"linestyle": "--", "markerfacecolor": "white"}
        plot(densities, [(epoch, 100 * share) for epoch, share in curve], **style(layer), **hollow)
    for axes in (gates, densities):
        highest = max((y for line in axes.lines for y in line.get_ydata()), default=0)
        axes.set_ylim(0, 1.08 * highest or 100)
    describe(singular, "Spectra of the weights, the rank marked", "index", "singular value / largest")
    _draw_spectra(singular, [(values, rank) for _, values, rank in spectra])

    for axes in (errors, gates, densities, singular):
        if not axes.lines:
            say(axes, "no estimator, no gate" if axes is gates and density else "none logged")

    names = [f"{name}, rank {rank}" if rank else name for name, _, rank in spectra]
    names = names or [f"layer {layer + 1}" for layer in density]
    legend(figure, names, loc="outside lower center", ncols=max(1, len(names)))
    return save(figure, path)


def draw_rows(
    path: Path, title: str, curves: Mapping[str, Sequence[Curve]], tests: Mapping[str, Sequence[float]]
) -> Path:
    """Draw the rows of a grid: validation errors by epoch, and the test errors at the end.

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
    figure = new_figure(title, height=max(6, 1 + 0.25 * len(curves)))
    epochs, end = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    several = any(len(seeds) > 1 for seeds in curves.values())
    thick, sd = (" (thick: mean over seeds)", " ± sd") if several else ("", "")
    describe(epochs, f"Validation error{thick}", "epoch", "error, %")
    describe(end, f"Test error{sd}", "", "")
    for i, (row, seeds) in enumerate(curves.items()):
        if len(seeds) > 1:
            for curve in seeds:
                plot(epochs, curve, color=style(i)["color"], linewidth=0.7, alpha=0.45)
        plot(epochs, _mean(seeds), **style(i), linewidth=2)
        if errors := tests[row]:
            spread = stdev(errors) if len(errors) > 1 else None
            end.errorbar(i, fmean(errors), yerr=spread, **style(i), capsize=4, linestyle="none")
    end.set_xlim(-0.7, len(curves) - 0.3)
    end.xaxis.set_major_locator(NullLocator())
    end.tick_params(axis="y", left=False, which="both")
    validation = (error for curve in chain(*curves.values()) for _, error in curve)
    _scale(epochs, [*validation, *chain(*tests.values())])
    legend(figure, list(curves), loc="outside right center", ncols=1)
    return save(figure, path)


def _scale(axes: Axes, errors: Sequence[float]) -> None:
    """Make the y axis logarithmic where the first epochs would press the last ones together."""
    if errors and min(errors) > 0 and max(errors) >= _LOG_FROM * min(errors):
        logarithmic(axes, "y", (1, 1.5, 2, 3, 5, 7))
        axes.set_ylabel(f"{axes.get_ylabel()} (logarithmic)")


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
        colour = style(layer)["color"]
        plot(axes, curve, color=colour)
        if rank is not None and rank <= len(curve):
            plot(axes, [curve[rank - 1]], **style(layer) | {"markersize": 8}, markeredgecolor="white")
    if axes.lines:
        logarithmic(axes, "x", (1, 2, 5))
        logarithmic(axes, "y", (1, 2, 5))


def _of_layers(history: Mapping[str, Curve], name: str) -> dict[int, Curve]:
    """The metric ``name`` of each layer that has it, counted from 0."""
    curves = {}
    for key, curve in history.items():
        if layer := re.fullmatch(rf"validation/layer(\d+)/{name}", key):
            curves[int(layer[1]) - 1] = curve
    return dict(sorted(curves.items()))


def _mean(seeds: Sequence[Curve]) -> Curve:
    """The mean over seeds of the epochs that all of them reached."""
    by_epoch = [dict(curve) for curve in seeds]
    shared = sorted(set.intersection(*map(set, by_epoch))) if by_epoch else []
    return [(epoch, fmean(curve[epoch] for curve in by_epoch)) for epoch in shared]
