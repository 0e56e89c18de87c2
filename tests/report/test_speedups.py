"""A table of times, and a picture whose points and lines are told by their colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccsweep.engine.benchmark import EAGER, ENGINE, Answers, Comparison, Timing
from ccsweep.engine.clock import Interval
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.report.speedups import draw, show
from tests.report.test_pictures import BLUE, VERMILLION, has
from tests.report.test_run import REPORT

EXACT = {DENSE: 100.0, INPUT_SPARSE: 40.0}
ALL = EXACT | {GATED: 50.0, TWO_SIDED: 25.0}


def compared(batch: int, rank: int | None = 8, density: float = 0.3) -> Comparison:
    """A network of a hidden and an output layer, the engine twice as fast as torch."""
    times, way = (EXACT, INPUT_SPARSE) if rank is None else (ALL, TWO_SIDED)
    layers = (
        LayerPlan(64, 256, rank, way, density, 1.0 if rank is None else 0.2, times),
        LayerPlan(256, 10, None, INPUT_SPARSE, density, 1.0, EXACT | {DENSE: 60.0}),
    )
    plan = Plan(batch, 1, "auto", layers, 60.0, 110.0, 0.0, 2, 1, ("a note",))
    timings = {EAGER: Timing(120.0, 110.0, 130.5, 9), ENGINE: Timing(60.0, 59.0, 62.0, 9)}
    gain, lead = Interval(2.0, 1.9, 2.1), Interval(0.5, 0.4, 0.6)
    timings = {EAGER: timings[EAGER], "torch int8": Timing(30.0, 29.0, 31.0, 9), ENGINE: timings[ENGINE]}
    answers = {EAGER: Answers(0.0125, 21.4), "torch int8": Answers(0.001, None), ENGINE: Answers(0.0, 20.0)}
    missing = {"ONNX Runtime": "not installed [yet]"}
    return Comparison(plan, timings, missing, answers, gain, lead)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT | {"cpu": "A CPU [x]", "instructions": ["AMX"], "images": 1000}, [compared(1), compared(256)])
    shown = capsys.readouterr().out
    assert "peer: speed-up over the fastest peer that changes at most 1% of the answers" in shown
    rows = [line.split() for line in shown.splitlines()]
    end = ["2.00x", "0.50x", "0.00%", "20.00"]
    assert ["256", "1", "ccsweep", "engine", "60.0", "59.0", "to", "62.0", *end] in rows
    assert [
        "1",
        "1",
        "torch",
        "float32",
        "120",
        "110",
        "to",
        "130",
        "1.00x",
        "0.25x",
        "1.25%",
        "21.40",
    ] in rows
    assert ["256", "1", "torch", "int8", "30.0", "29.0", "to", "31.0", "4.00x", "1.00x", "0.10%", "-"] in rows
    for text in (
        "SVHN sample (8,000 training digits)  4-3-2  ranks 2",
        "timed on A CPU [x], AMX: ",
        "ONNX Runtime is not available: not installed [yet]",
        "  batch 256, 1 thread: two-sided, input-sparse\n",
        "  note: a note",
        "folder  /tmp/[old] runs/x",
    ):
        assert text in shown
    assert shown.count("ONNX Runtime") == 1


def quarters(path: Path) -> list[np.ndarray]:
    """Densities and ranks of the first row, then of the second."""
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape[1] == 1200
    image = image[: int(0.9 * len(image))]  # without the legend
    return [half for rows in np.array_split(image, 2) for half in np.array_split(rows, 2, axis=1)]


def test_a_gated_network(tmp_path: Path) -> None:
    path = draw(tmp_path / "benchmark.png", "digits 8", [compared(1), compared(256)])
    for densities, ranks in zip(*[iter(quarters(path))] * 2, strict=True):
        assert has(densities, BLUE)
        assert has(densities, VERMILLION)  # the output layer: a hollow point
        assert has(ranks, BLUE)
        assert not has(ranks, VERMILLION)


@pytest.mark.parametrize("density", [0.3, 0.0, 1.0])
def test_a_control_has_no_ranks(density: float, tmp_path: Path) -> None:
    one = compared(1, rank=None, density=density)
    densities, ranks, *_ = quarters(draw(tmp_path / "benchmark.png", "digits control", [one, one]))
    assert has(densities, BLUE) == (density > 0)
    assert not has(ranks, BLUE)
