"""A front with fresh seeds and a quiet clock: a table, and a picture with what the study had said."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ccsweep.figures import VALIDATION_ERROR, of
from ccsweep.report.canvas import BLUE, GREY, VERMILLION, describe, new_figure, save, terminal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONTROL = "control"
_LONG = 1.5
"""Times the extent of all points: an interval that is longer, of two seeds say, leaves the picture."""


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    console, speed = terminal(width=140), found["speed"]
    seeds = ", ".join(map(str, found["seeds"]))
    console.print(
        f"\n[bold]{found['study']}[/], confirmed with seeds {seeds}; ± is the 95 % interval of a mean"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ("test error %", "sd", "minus control", "p", "validation %", "in the study", of(speed).name)
    for head in ("point", "ranks", *heads, "in the study", "on the front"):
        table.add_column(head, justify="left" if head in ("point", "ranks") else "right")
    for name, point in found["points"].items():
        table.add_row(name, point["ranks"], *_row(point, speed, name == _CONTROL))
    console.print(table)
    console.print(
        "p: of no difference to the control, by McNemar's test on the test answers; on the front: its "
        "probability, by a bootstrap over seeds and timings",
        soft_wrap=True,
    )
    if found["optimism"] is not None:
        console.print(
            f"picking by validation: with fresh seeds the validation errors are {found['optimism']:+.2f} "
            "percentage points beside those of the study"
        )
    if found["timing_load"] > 0.2:
        console.print(f"[yellow]others kept {found['timing_load']:.1f} cores busy while these were timed[/]")


def _row(point: dict[str, Any], speed: str, is_control: bool) -> list[str]:
    studied = point["in_study"]
    return [
        _mean(point["test_error"]),
        f"{point['test_error']['sd']:.2f}",
        "-" if is_control else _mean(point["test_error_minus_control"], "+"),
        "-" if is_control else f"{point['mcnemar']['p']:.2g}",
        _mean(point[VALIDATION_ERROR.key]),
        _figure(studied.get(VALIDATION_ERROR.key)),
        _mean(point[speed]),
        _figure(studied.get(speed)),
        f"{100 * point['front_probability']:.0f} %",
    ]


def _mean(spread: dict[str, float], sign: str = "") -> str:
    return f"{spread['mean']:{sign}.2f} ± {(spread['high'] - spread['low']) / 2:.2f}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw(path: Path, found: dict[str, Any]) -> Path:
    """Draw test error over speed-up with both intervals, and from what the study had said of each point.

    Args:
        path: of the PNG.
        found: as in confirmed.json.

    Returns:
        ``path``.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import AutoLocator

    speed = found["speed"]
    figure = new_figure(
        f"{found['study']}: what was confirmed with {len(found['seeds'])} fresh seeds", height=6
    )
    axes = figure.subplots()
    describe(axes, "filled: mean and 95 % interval; hollow: the study's own (validation error)", "", "")
    axes.set_xlabel(of(speed).label)
    axes.set_ylabel("error, %")
    axes.xaxis.set_major_locator(AutoLocator())
    for name, point in found["points"].items():
        error, gain, studied = point["test_error"], point[speed], point["in_study"]
        colour = VERMILLION if name == _CONTROL else BLUE
        if speed in studied and VALIDATION_ERROR.key in studied:
            before = (studied[speed], studied[VALIDATION_ERROR.key])
            axes.plot(*zip(before, (gain["mean"], error["mean"]), strict=True), color=GREY, linewidth=1)
            axes.plot(*before, marker="o", markerfacecolor="white", color=colour, linestyle="none")
        axes.errorbar(
            gain["mean"],
            error["mean"],
            xerr=[[gain["mean"] - gain["low"]], [gain["high"] - gain["mean"]]],
            yerr=[[error["mean"] - error["low"]], [error["high"] - error["mean"]]],
            color=colour,
            marker="o",
            capsize=3,
        )
    _frame(axes, found, speed)
    _name(axes, found["points"], speed)
    handles = [
        Line2D([], [], color=BLUE, marker="o", label="point; % is the probability that it is on the front"),
        Line2D([], [], color=VERMILLION, marker="o", label="control"),
    ]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=2)
    return save(figure, path)


def _frame(axes: "Axes", found: dict[str, Any], speed: str) -> None:
    """Limits that show every point, and of the intervals as much as leaves the points apart."""
    for key, of_study, limits in (
        (speed, speed, axes.set_xlim),
        ("test_error", VALIDATION_ERROR.key, axes.set_ylim),
    ):
        points = found["points"].values()
        places = [p[key]["mean"] for p in points]
        places += [p["in_study"][of_study] for p in points if of_study in p["in_study"]]
        low, high = min(places), max(places)
        reach = _LONG * ((high - low) or 1.0)
        least, greatest = min(p[key]["low"] for p in points), max(p[key]["high"] for p in points)
        low, high = max(0.0, min(low, max(least, low - reach))), max(high, min(greatest, high + reach))
        margin = 0.05 * (high - low)
        limits(max(0.0, low - margin), high + margin)


def _name(axes: "Axes", points: dict[str, Any], speed: str) -> None:
    """What each point is, in a column beside the picture that no two share a line of."""
    ordered = sorted(points.items(), key=lambda item: float(item[1]["test_error"]["mean"]))
    for i, (name, point) in enumerate(ordered):
        named = name if name == point["ranks"] else f"{name}, {point['ranks']}"
        axes.annotate(
            f"{named}: {100 * point['front_probability']:.0f} %",
            (point[speed]["mean"], point["test_error"]["mean"]),
            xytext=(1.03, (i + 0.5) / len(ordered)),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.8},
        )
