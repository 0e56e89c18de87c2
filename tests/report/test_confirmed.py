"""The picture of a front with fresh seeds: every point in view, every name by itself."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ccsweep.report import confirmed
from ccsweep.report.canvas import save

SPEED = "measured_speedup_batch1"


def spread(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "sd": half, "low": mean - half, "high": mean + half}


def found(places: list[tuple[float, float]], half: float) -> dict[str, Any]:
    points = {}
    for i, (gain, error) in enumerate(places):
        points[f"trial{i}" if i else "control"] = {
            "ranks": f"{10 + i}-8" if i else "control",
            "test_error": spread(error, half),
            SPEED: spread(gain, half),
            "front_probability": 0.5,
            "in_study": {SPEED: gain + 0.3, "validation_error": error - 0.4},
        }
    return {"study": "s", "seeds": [1, 2], "speed": SPEED, "points": points}


@pytest.mark.parametrize("half", [0.01, 50.0])  # two seeds may say nothing: 12.7 standard errors
def test_names_stand_apart_and_points_stay_in_view(
    half: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(confirmed, "save", lambda figure, path: (drawn.append(figure), save(figure, path))[1])
    close = [(4.0 + i / 100, 2.0 + i / 1000) for i in range(9)]
    content = found(close, half)
    assert confirmed.draw(tmp_path / "c.png", content).read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    canvas = drawn[0].canvas
    assert isinstance(canvas, FigureCanvasAgg)
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts]  # without its line
    assert len(boxes) == 9
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert {"control: 50 %", "trial3, 13-8: 50 %"} <= {text.get_text() for text in axes.texts}
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left <= 4.0 <= 4.38 <= right
    assert low <= 1.6 <= 2.008 <= high
    assert low >= 0.0
    assert right - left < 4  # an interval of 100 does not press them together
