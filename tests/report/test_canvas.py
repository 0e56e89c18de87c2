"""The terminal and the palette that all reports share."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from ccsweep.report.canvas import (
    COLOURS,
    describe,
    legend,
    logarithmic,
    new_figure,
    plot,
    save,
    style,
    terminal,
)


def test_what_is_no_terminal_has_a_width_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for width in (100, 120):
        terminal(width).print("word " * 30)
        assert max(map(len, capsys.readouterr().out.splitlines())) in range(width - 5, width + 1)


def test_a_terminal_is_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal(120).width == 77


def test_a_table_on_the_terminal_imports_nothing_that_draws() -> None:
    code = (
        "import sys, ccsweep.report.grid, ccsweep.report.run, ccsweep.report.study.live; "
        "print({'matplotlib', 'plotly', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_forty_nine_curves_are_told_apart() -> None:
    pens = [style(i) for i in range(49)]
    assert len({(pen["color"], pen["marker"]) for pen in pens}) == 49
    for key in ("color", "marker"):
        assert len({pen[key] for pen in pens[:7]}) == 7
    grey = [sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(c), strict=True)) for c in COLOURS]
    assert len({round(level, 2) for level in grey}) == 7


def test_a_picture_is_1200_pixels_wide_and_alone_in_its_folder(tmp_path: Path) -> None:
    figure = new_figure("a title", height=3)
    axes = figure.subplots()
    describe(axes, "panel", "x", "y")
    plot(axes, [(x, x) for x in range(1, 101)], **style(1))
    plot(axes, [])
    logarithmic(axes, "x", (1, 2, 5))
    legend(figure, ["first", "second"], loc="outside lower center")
    assert save(figure, tmp_path / "a.png") == tmp_path / "a.png"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert image.shape == (360, 1200, 3)
    assert (image == (0xD5, 0x5E, 0x00)).all(axis=-1).sum() > 100
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]
    figure.draw_without_rendering()
    ticks = {label.get_text() for label in axes.get_xticklabels()}
    assert {"1", "2", "5", "10", "20", "50", "100"} <= ticks
    assert axes.lines[0].get_markevery() == 8
