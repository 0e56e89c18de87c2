import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset, Split
from ccsweep.estimator.statistics import GateStatistics
from ccsweep.report.run import show, summarise, write
from ccsweep.training.fit import Examined, ExaminedLayer, Trained

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


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        return check(compose("config", overrides=["ranks=16-12", "training.seed=3", *overrides]))


def dataset(**changes: object) -> Dataset:
    def split(n: int) -> Split:
        return Split(torch.zeros(n, 4), torch.zeros(n, dtype=torch.int64))

    found = {
        "name": "digits",
        "label": "digits, all of them",
        "shape": (2, 2),
        "classes": 2,
        "train": split(8),
        "validation": split(5),
        "test": split(4),
        "digest": "0123",
        "notes": ("a note",),
    }
    return Dataset(**(found | changes))  # type: ignore[arg-type]


def examined(error: float, false_off: float = 0.5, density: float = 0.25) -> Examined:
    """Of two hidden layers: 256 units, half of them positive, and 128, a quarter of them."""
    first = GateStatistics(density, 0.5, false_off, 0.125, 0.75)
    second = GateStatistics(1.0, 0.25, 0.0, 1.0, None)
    layers = [ExaminedLayer(64, 256, 16, first), ExaminedLayer(256, 128, None, second)]
    return Examined(error, layers, theoretical_speedup=1.5, inference_speedup=2.0)


ABOUT = {
    "task": "train",
    "data": "digits, all of them",
    "data_digest": "0123",
    "stand_in_for": None,
    "notes": ["a note"],
    "layer_sizes": [64, 256, 128, 10],
    "ranks": "16-12",
    "estimator": "svd",
    "threshold": 0.0,
    "energy_loss": None,
    "target_density": None,
    "seed": 3,
}
SHARES = {
    "density": (256 * 0.25 + 128) / 384,
    "false_off": 256 * 0.5 * 0.5 / (256 * 0.5 + 128 * 0.25),
}
LAYERS = [
    {"inputs": 64, "units": 256, "rank": 16, "density": 0.25, "true_density": 0.5}
    | {"false_off": 0.5, "false_on": 0.125, "sign_agreement": 0.75},
    {"inputs": 256, "units": 128, "rank": None, "density": 1.0, "true_density": 0.25}
    | {"false_off": 0.0, "false_on": 1.0, "sign_agreement": None},
]
SAMPLES = {"train": 8, "validation": 5, "test": 4}


def test_the_report_of_a_run_that_was_tested() -> None:
    tested = examined(25.0, false_off=0.125, density=0.5)
    found = summarise(config(), dataset(), examined(20.0), Trained(20.0, 3, 4), tested)
    first = LAYERS[0] | {"density": 0.5, "false_off": 0.125}  # on the test images
    assert found == (
        ABOUT
        | SHARES  # on validation images
        | {
            "validation_error": 20.0,
            "test_error": 25.0,
            "test_error_deviation": pytest.approx(100 * (0.25 * 0.75 / 4) ** 0.5),
            "split": "test",
            "samples": SAMPLES,
            "theoretical_speedup": 1.5,
            "theoretical_speedup_inference": 2.0,
            "best_epoch": 3,
            "epochs": 4,
            "layers": [first, LAYERS[1]],
        }
    )


def test_the_report_of_a_run_that_was_neither_trained_nor_tested() -> None:
    found = summarise(config(), dataset(), examined(20.0), None, None)
    assert found == (
        ABOUT
        | SHARES
        | {
            "validation_error": 20.0,
            "split": "validation",
            "samples": SAMPLES,
            "theoretical_speedup": 1.5,
            "theoretical_speedup_inference": 2.0,
            "layers": LAYERS,
        }
    )


def test_a_network_without_a_positive_unit_misses_none() -> None:
    none = GateStatistics(0.0, 0.0, 0.0, 0.0, 1.0)
    found = summarise(
        config(), dataset(), Examined(90.0, [ExaminedLayer(64, 256, 16, none)], 1.0, 1.0), None, None
    )
    assert (found["density"], found["false_off"]) == (0.0, 0.0)


def test_what_a_report_says_of_data_and_estimator() -> None:
    found = summarise(
        config("estimator=whitened", "estimator.energy_loss=0.01"),
        dataset(stand_in_for="mnist"),
        examined(20.0),
        None,
        None,
    )
    assert (found["stand_in_for"], found["estimator"], found["energy_loss"]) == ("mnist", "whitened", 0.01)
    control = summarise(config("ranks=control"), dataset(), examined(20.0), None, None)
    assert (control["ranks"], control["estimator"]) == ("control", None)


def test_a_report_is_written_for_programs_and_people(tmp_path: Path) -> None:
    path = write(REPORT, tmp_path / "report.json")
    assert json.loads(path.read_text()) == REPORT
    assert path.read_text().startswith('{\n  "data": "SVHN')
    assert path.read_text().endswith("}\n")


def test_everything_a_reader_needs_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "",
        "SVHN sample (8,000 training digits)  4-3-2  ranks 2",
        "note: checksums not verified [really]",
        "test error 1.50 % ± 0.12  (n = 1,000, seed 7; ± from sampling alone)",
        "validation error 1.25 %, best of 4 epochs: epoch 3",
        "",
        " layer   rank   density   true density   false-off   false-on   sign agreement",
        " ─────────────────────────────────────────────────────────────────────────────",
        " 4x3        2     0.250          0.200       0.100      0.050            0.900",
        " 3x3        -     1.000          0.200       0.000      1.000                -",
        "",
        "theoretical speed-up of a forward pass: 2.00x, 1.50x with training's refreshes (counted, not timed)",
        "took 12 s",
        "run     abc",
        "folder  /tmp/[old] runs/x",
        "compare python -m ccsweep.tracking.ui",
    ]


def test_long_paths_are_not_broken_and_a_resumed_run_says_since_when(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = "/tmp/" + 50 * "long " + "path"
    show(REPORT | {"folder": folder, "resumed": True})
    shown = capsys.readouterr().out.splitlines()
    assert f"folder  {folder}" in shown
    assert "took 12 s since it was resumed" in shown


def test_a_run_that_was_not_trained_has_no_best_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    show({key: value for key, value in REPORT.items() if key not in ("epochs", "best_epoch", "test_error")})
    shown = capsys.readouterr().out.splitlines()
    assert "validation error 1.25 %" in shown
    assert not any(line.startswith("test error") for line in shown)


def test_measured_speedups(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    assert "measured" not in capsys.readouterr().out
    show(REPORT | {"measured_speedup_batch1": 2.1, "measured_speedup_batch256": 1.349})
    shown = capsys.readouterr().out
    assert "measured, 1 thread, engine over torch: 2.10x at batch 1, 1.35x at batch 256\n" in shown
    assert "over the fastest" not in shown
    show(REPORT | {"measured_speedup_batch1": 2.1, "timing_load": 1.27})
    line = "engine over torch: 2.10x at batch 1 (shared: others kept 1.27 cores busy)\n"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(("lead", "counts"), [(1.7, True), (2.15, True), (6.8, False)])
def test_a_peer_that_changes_answers_does_not_count(
    lead: float, counts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the gates torch may change more than that, and then the slower ones are all there is."""
    torch_in_float32 = {"measured_speedup_batch1": 2.1, "measured_speedup_batch1_high": 2.2}
    show(REPORT | torch_in_float32 | {"engine_over_best_peer_batch1": lead})
    shown = " ".join(capsys.readouterr().out.split())
    line = "over the fastest of torch and ONNX Runtime, float32, bfloat16 or int8, that changes at most 1% of the answers"
    assert f"{line}: {lead:.2f}x at batch 1 " in shown
    note = "(torch as above does not count at batch 1: without gates it changes more)"
    assert (note in shown) is not counts


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
