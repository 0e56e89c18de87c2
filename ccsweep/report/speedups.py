"""What ``task=benchmark`` found: a table of times, and a picture of speed-ups beside their limits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from rich import box
from rich.markup import escape
from rich.table import Table

from ccsweep.engine.benchmark import HONEST, Answers, Comparison
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, WAYS, LayerCost, limit, products
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
    terminal,
)
from ccsweep.report.run import closing, heading

_NETWORK: dict[str, Any] = {"color": BLACK, "marker": "*", "markersize": 12}
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 2}
_POINT: dict[str, Any] = {"linestyle": "none", "markersize": 8}
_TICKS = (1, 2, 5)


def show(report: dict[str, Any], comparisons: Sequence[Comparison]) -> None:
    """Print the times, what the engine does in each case, and where it is stored."""
    console = terminal()
    heading(console, report)
    machine = ", ".join([report["cpu"], *report["instructions"]])
    console.print(f"timed on {escape(machine)}: fresh test images on every call, all in turns")
    console.print(
        "changed: answers other than the network's own in float32 with its gates; error: on test images, %"
    )
    console.print(f"peer: speed-up over the fastest peer that changes at most {HONEST:.0%} of the answers")
    console.print(_times(comparisons))
    unavailable = {name: why for compared in comparisons for name, why in compared.unavailable.items()}
    for name, why in unavailable.items():
        console.print(f"[yellow]{name} is not available: {escape(why)}[/]", soft_wrap=True)
    console.print("the engine's way through each layer:")
    for compared in comparisons:
        plan = compared.plan
        console.print(f"  batch {plan.batch_size}, {_threads(plan)}: {', '.join(plan.ways)}", soft_wrap=True)
        for note in plan.notes:
            console.print(f"  note: {note}", soft_wrap=True)
    closing(console, report)


def _times(comparisons: Sequence[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("batch", "threads"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name in ("us", "middle half", "torch", "peer", "changed", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    for compared in comparisons:
        for name, time in compared.timings.items():
            table.add_row(
                f"{compared.plan.batch_size}",
                f"{compared.plan.threads}",
                name,
                _microseconds(time.median),
                f"{_microseconds(time.low)} to {_microseconds(time.high)}",
                f"{compared.speedup(name):.2f}x",
                f"{compared.speedup(name, over=compared.best_peer):.2f}x",
                *_answers(compared.answers[name]),
            )
        table.add_section()
    return table


def _microseconds(took: float) -> str:
    return f"{took:.1f}" if took < 100 else f"{took:,.0f}"


def _answers(found: Answers) -> tuple[str, str]:
    return f"{found.changed:.2%}", "-" if found.error is None else f"{found.error:.2f}"


def draw(path: Path, title: str, comparisons: Sequence[Comparison]) -> Path:
    """Draw speed-ups over torch against density and against rank, a row for each comparison.

    One run has one network: a point for each layer and way that skips work, and one for the whole. A
    layer's are over the same layer dense in torch, each timed alone; the lines are what operation counts
    allow, ``1 / density`` without an estimator and ``1 / (density + its cost)`` with the layer's own.

    Args:
        path: of the PNG.
        title: which run it is.
        comparisons: of one network.

    Returns:
        ``path``.
    """
    figure = new_figure(title, height=1 + 3.6 * len(comparisons))
    panels = figure.subplots(len(comparisons), 2, squeeze=False)
    for (density, rank), compared in zip(panels, comparisons, strict=True):
        plan = compared.plan
        where = f"batch {plan.batch_size}, {_threads(plan)}"
        lines = f"{where} (lines: theoretical limit)"
        describe(density, f"Density, {lines}", "share of products computed", "speed-up over torch")
        describe(rank, f"Rank, {lines}", "rank of the estimator", "speed-up over torch")
        _draw_densities(density, compared)
        _draw_ranks(rank, plan)
    layers = comparisons[0].plan.layers
    ranks = ["" if layer.rank is None else f", rank {layer.rank}" for layer in layers]
    names = [f"{layer.inputs}x{layer.units}{rank}" for layer, rank in zip(layers, ranks, strict=True)]
    others = [
        Line2D([], [], color=BLACK, linestyle="--", marker="o", label="no estimator", **_HOLLOW),
        Line2D([], [], linestyle="none", label="the whole network", **_NETWORK),
    ]
    legend(figure, names, others, loc="outside lower center", ncols=3)
    return save(figure, path)


def _draw_densities(axes: Axes, compared: Comparison) -> None:
    layers = compared.plan.layers
    lowest = min((x for layer in layers for _, x, _ in _points(layer)), default=1.0)
    shares = np.geomspace(lowest / 1.5, 1, 60)
    plot(axes, [(x, 1 / x) for x in shares], color=BLACK, linestyle="--")
    for i, layer in enumerate(layers):
        colour = style(i)
        if layer.rank is not None:
            plot(axes, _limits(layer, shares), color=colour["color"])
        for way, share, speedup in _points(layer):
            fill = _HOLLOW if way == INPUT_SPARSE else {}
            plot(axes, [(share, speedup)], **colour, **fill, **_POINT)
    work = [layer.inputs * layer.units for layer in layers]
    whole = float(np.average([layer.density for layer in layers], weights=work))
    plot(axes, [(whole, compared.speedup())], **_NETWORK, linestyle="none")
    logarithmic(axes, "x", _TICKS)
    logarithmic(axes, "y", _TICKS)


def _draw_ranks(axes: Axes, plan: Plan) -> None:
    for i, layer in enumerate(plan.layers):
        estimated = [(speedup, way) for way, _, speedup in _points(layer) if way != INPUT_SPARSE]
        if layer.rank is None or not estimated:
            continue
        speedup, way = max(estimated)
        ranks = np.geomspace(1, min(layer.inputs, layer.units), 60)
        costs = [(rank, LayerCost(layer.inputs, layer.units, rank, layer.unit_density)) for rank in ranks]
        line = [(rank, limit(way, cost, layer.input_density)) for rank, cost in costs]
        plot(axes, line, color=style(i)["color"])
        plot(axes, [(layer.rank, speedup)], **style(i), **_POINT)
    if not axes.lines:
        say(axes, "no estimator, no rank")
        return
    logarithmic(axes, "x", _TICKS)
    logarithmic(axes, "y", _TICKS)


def _points(layer: LayerPlan) -> list[tuple[str, float, float]]:
    """Each way in float32 that skips work and has some left: its density, its speed-up over dense."""
    took = layer.microseconds
    shares = {way: products(way, layer.input_density, layer.unit_density) for way in WAYS[1:] if way in took}
    return [(way, share, took[DENSE] / took[way]) for way, share in shares.items() if share > 0]


def _limits(layer: LayerPlan, shares: np.ndarray) -> Curve:
    """Theoretical speed-up of a layer with its estimator, by the share of products computed."""
    costs = [(share, LayerCost(layer.inputs, layer.units, layer.rank, share)) for share in shares]
    return [(share, limit(GATED, cost, layer.input_density)) for share, cost in costs]


def _threads(plan: Plan) -> str:
    return "1 thread" if plan.threads == 1 else f"{plan.threads} threads"
