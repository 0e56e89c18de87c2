import pytest

from ccsweep.report.run import show

REPORT = {
    "data": "SVHN sample (8,000 training digits)",
    "notes": ["checksums not verified [really]"],
    "layer_sizes": [4, 3, 2],
    "ranks": "2",
    "estimator": "svd",
    "threshold": 0.0,
    "energy_loss": None,
    "target_density": None,
    "seed": 7,
    "test_error": 1.5,
    "test_error_deviation": 0.125,
    "samples": {"train": 8000, "validation": 800, "test": 1000},
    "validation_error": 1.25,
    "best_epoch": 3,
    "epochs": 4,
    "layers": [
        {
            "inputs": 4,
            "units": 3,
            "rank": 2,
            "density": 0.25,
            "true_density": 0.2,
            "false_off": 0.1,
            "false_on": 0.05,
            "sign_agreement": 0.9,
        },
        {
            "inputs": 3,
            "units": 3,
            "rank": None,
            "density": 1.0,
            "true_density": 0.2,
            "false_off": 0.0,
            "false_on": 1.0,
            "sign_agreement": None,
        },
    ],
    "theoretical_speedup": 1.5,
    "theoretical_speedup_inference": 2.0,
    "seconds": 12.3,
    "resumed": False,
    "run_id": "abc",
    "folder": "/tmp/[old] runs/x",
    "open_with": "python -m ccsweep.tracking.ui",
}


def test_everything_a_reader_needs_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    shown = capsys.readouterr().out
    for text in (
        "SVHN sample (8,000 training digits)  4-3-2  ranks 2",
        "note: checksums not verified [really]",
        "test error 1.50 % ± 0.12  (n = 1,000, seed 7; ± from sampling alone)",
        "validation error 1.25 %, best of 4 epochs: epoch 3",
        "2.00x, 1.50x with training's refreshes (counted, not timed)",
        "took 12 s",
        "folder  /tmp/[old] runs/x",
        "compare python -m ccsweep.tracking.ui",
    ):
        assert text in shown
    rows = [line.split() for line in shown.splitlines() if line.lstrip().startswith(("4x3", "3x3"))]
    assert rows == [
        ["4x3", "2", "0.250", "0.200", "0.100", "0.050", "0.900"],
        ["3x3", "-", "1.000", "0.200", "0.000", "1.000", "-"],
    ]


def test_measured_speedups(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    assert "measured" not in capsys.readouterr().out
    show(REPORT | {"measured_speedup_batch1": 2.1, "measured_speedup_batch256": 1.349})
    line = "measured, 1 thread: 2.10x at batch 1, 1.35x at batch 256 (on the engine, over torch)"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"threshold": 0.1}, "ranks 2, threshold 0.1"),
        ({"estimator": "whitened", "energy_loss": 0.01}, "ranks 2, whitened, energy loss 0.01"),
        ({"estimator": "learned", "target_density": 0.2}, "ranks 2, learned, target density 0.2"),
        ({"ranks": "control", "estimator": None}, "ranks control"),
    ],
)
def test_the_estimator_is_named(
    capsys: pytest.CaptureFixture[str], settings: dict[str, object], line: str
) -> None:
    show(REPORT | settings)
    assert capsys.readouterr().out.splitlines()[1].endswith(f"4-3-2  {line}")
