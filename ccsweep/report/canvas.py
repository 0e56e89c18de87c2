"""What reports are written on: one terminal, one palette, and paper and pens of every picture.

The colours are Okabe and Ito's, which colour-blind readers tell apart; markers and line styles say the same
again in a grey print. A picture is one PNG of 1200 pixels' width, drawn on a figure of its own, without
pyplot and its global state. matplotlib is imported by what draws: a terminal does without its half second.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from ccsweep.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Curve = Sequence[tuple[float, float]]
"""(x, value) in order of x."""

BLUE, VERMILLION, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, BLACK)
GREY = "#9a9a9a"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def terminal(width: int = 100) -> Console:
    """Standard output, taken to be ``width`` characters wide where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)


def new_figure(title: str, height: float) -> "Figure":
    """A figure of 10 by ``height`` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.02)  # pads in inches
    figure = Figure(figsize=(10, height), dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=13, fontweight="bold")
    return figure


def save(figure: "Figure", path: Path) -> Path:
    """Write it whole or not at all; returns ``path``."""
    with whole(path) as partial:
        figure.savefig(partial, format="png")
    return path


def describe(axes: "Axes", title: str, x: str, y: str) -> None:
    """Title and labels of a panel, and its grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def style(index: int) -> dict[str, Any]:
    """A colour and a marker: the first seven differ in both, the first 49 in one of the two."""
    turn, place = divmod(index, len(COLOURS))
    return {"color": COLOURS[place], "marker": _MARKERS[(place + turn) % len(_MARKERS)]}


def logarithmic(axes: "Axes", which: Literal["x", "y"], ticks: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are plain numbers, ``ticks`` of them in a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plot(axes: "Axes", curve: Curve, **style: Any) -> None:
    """A line with markers; nothing where the curve has no points."""
    if not curve:
        return
    every = max(1, len(curve) // 12)  # so many markers that the line still shows
    settings = {"markersize": 4.5, "linewidth": 1.5, "markevery": every} | style
    axes.plot([x for x, _ in curve], [y for _, y in curve], **settings)


def say(axes: "Axes", text: str) -> None:
    """Text in place of a panel that has nothing to show."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, color="0.4", horizontalalignment="center")


def legend(figure: "Figure", names: Sequence[str], others: Sequence["Line2D"] = (), **place: Any) -> None:
    """One legend for all panels: names in the styles of their numbers, then lines of other kinds."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], markersize=6, label=name, **style(i)) for i, name in enumerate(names)]
    if lines or others:
        figure.legend(handles=[*lines, *others], frameon=False, **place)
