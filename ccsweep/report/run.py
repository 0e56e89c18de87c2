"""What ends a run: report.json, one flat file that a sweep or a script can read, and a table."""

import json
from collections.abc import Callable
from math import inf, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ccsweep.config.schema import Config
from ccsweep.figures import (
    LAYERS,
    LOAD,
    MEASURED,
    SHARED,
    SPEEDUP,
    TEST_ERROR,
    TEST_ERROR_DEVIATION,
    TRAINING_SPEEDUP,
    VALIDATION_ERROR,
    Figure,
    ahead,
    high,
    measured,
)
from ccsweep.files import write_text
from ccsweep.report.canvas import terminal

if TYPE_CHECKING:  # torch, which a sweeper needs not in order to begin
    from ccsweep.data.dataset import Dataset
    from ccsweep.training.fit import Examined, Trained

THRESHOLDS = ("threshold", "energy_loss", "target_density")
"""Keys of a report, null or 0 where the gate is the plain sign."""


def summarise(
    config: Config,
    dataset: "Dataset",
    validated: "Examined",
    trained: "Trained | None",
    tested: "Examined | None",
) -> dict[str, Any]:
    """Collect the figures of one run; errors in percent, shares between 0 and 1.

    The figures are those of :mod:`ccsweep.figures`. ``layers`` and the theoretical speed-ups are of the split
    named by ``split``. ``test_error_deviation`` is the standard deviation that sampling the test images alone
    gives, ``sqrt(p (1 - p) / n)``; it says nothing of other seeds.
    """
    examined = validated if tested is None else tested
    report = describe(config, dataset) | {"validation_error": validated.error}
    if tested is not None:
        share, samples = tested.error / 100, len(dataset.test.labels)
        deviation = 100 * sqrt(share * (1 - share) / samples)
        report |= {"test_error": tested.error, "test_error_deviation": deviation}
    report |= _overall(validated) | {
        "split": "validation" if tested is None else "test",
        "samples": {split: len(getattr(dataset, split).labels) for split in ("train", "validation", "test")},
        "layers": [
            {"inputs": layer.inputs, "units": layer.units, "rank": layer.rank} | layer.statistics._asdict()
            for layer in examined.layers
        ],
        "theoretical_speedup": examined.theoretical_speedup,
        "theoretical_speedup_inference": examined.inference_speedup,
    }
    if trained is not None:
        report |= {"best_epoch": trained.best_epoch, "epochs": trained.epochs}
    return report


def _overall(examined: "Examined") -> dict[str, float]:
    """Share of all hidden units computed, and of all positive ones gated off."""
    layers = [(layer.units, layer.statistics) for layer in examined.layers]
    positive = sum(units * shares.true_density for units, shares in layers)
    missed = sum(units * shares.true_density * shares.false_off for units, shares in layers)
    computed = sum(units * shares.density for units, shares in layers)
    return {
        "density": computed / sum(units for units, _ in layers),
        "false_off": missed / positive if positive else 0.0,
    }


def describe(config: Config, dataset: "Dataset") -> dict[str, Any]:
    """What a report is about: data, network and estimator."""
    return {
        "task": config.task,
        "data": dataset.label,
        "data_digest": dataset.digest,
        "stand_in_for": dataset.stand_in_for,
        "notes": list(dataset.notes),
        "layer_sizes": config.layer_sizes,
        "ranks": config.rank_notation,
        "estimator": None if config.rank_notation == "control" else config.estimator.name,
        "threshold": config.estimator.threshold,
        "energy_loss": config.estimator.energy_loss,
        "target_density": config.estimator.density,
        "seed": config.training.seed,
    }


def write(report: dict[str, Any], path: Path) -> Path:
    """Write a report; returns ``path``."""
    write_text(path, json.dumps(report, indent=2) + "\n")
    return path


def show(report: dict[str, Any]) -> None:
    """Print what a run found, where it is stored and what to type next."""
    console = terminal()

    def told(figure: Figure) -> str:
        return figure.cell(report[figure.key])

    heading(console, report)
    if TEST_ERROR.key in report:
        console.print(
            f"test error [bold]{told(TEST_ERROR)} %[/] ± {told(TEST_ERROR_DEVIATION)}"
            f"  (n = {report['samples']['test']:,}, seed {report['seed']}; ± from sampling alone)"
        )
    best = ""
    if "epochs" in report:
        best = f", best of {report['epochs']} epochs: epoch {report['best_epoch']}"
    console.print(f"validation error {told(VALIDATION_ERROR)} %{best}")
    console.print(_layers(report["layers"]))
    console.print(
        f"theoretical speed-up of a forward pass: {told(SPEEDUP)},"
        f" {told(TRAINING_SPEEDUP)} with training's refreshes (counted, not timed)"
    )
    if times := _measured(report, measured):
        shared = report.get(LOAD.key, 0.0) > SHARED
        beside = f" (shared: others kept {LOAD.text(report[LOAD.key])} cores busy)" if shared else ""
        console.print(f"measured, 1 thread, engine over torch: {times}{beside}")
    if times := _measured(report, ahead):
        from ccsweep.engine.benchmark import HONEST

        console.print(
            "over the fastest of torch and ONNX Runtime, float32, bfloat16 or int8, that changes at most "
            f"{HONEST:.0%} of the answers: {times}"
        )
        if sizes := [f"batch {size}" for size in MEASURED if _is_no_peer(report, size)]:
            console.print(
                f"(torch as above does not count at {' and '.join(sizes)}: without gates it changes more)"
            )
    since = " since it was resumed" if report["resumed"] else ""
    console.print(f"took {report['seconds']:.0f} s{since}")
    closing(console, report)


def heading(console: Console, report: dict[str, Any]) -> None:
    """Print what a report is about."""
    sizes = "-".join(map(str, report["layer_sizes"]))
    console.print(f"\n[bold]{escape(report['data'])}[/]  {sizes}  {_estimator(report)}")
    for note in report["notes"]:
        console.print(f"[yellow]note: {escape(note)}[/]")


def closing(console: Console, report: dict[str, Any]) -> None:
    """Print where a run is kept, and what shows it beside others."""
    for name, text in (("run", "run_id"), ("folder", "folder"), ("compare", "open_with")):
        console.print(f"{name:8}{escape(report[text])}", soft_wrap=True)


def _measured(report: dict[str, Any], which: Callable[[int], Figure]) -> str:
    """As in ``2.10x at batch 1, 1.31x at batch 256``; empty for a run that measured nothing."""
    timed = [(size, which(size)) for size in MEASURED]
    return ", ".join(
        f"{figure.cell(report[figure.key])} at batch {size}" for size, figure in timed if figure.key in report
    )


def _is_no_peer(report: dict[str, Any], size: int) -> bool:
    """Whether torch without gates is faster than all that count: it changes too many answers."""
    key = measured(size).key
    return bool(report.get(ahead(size).key, 0.0) > report.get(high(key), report.get(key, inf)))


def _estimator(report: dict[str, Any]) -> str:
    """As in ``ranks 10-10-5, whitened, energy loss 0.01``; the paper's own goes without saying."""
    words = [f"ranks {report['ranks']}"]
    if report["estimator"] not in (None, "svd"):
        words.append(report["estimator"])
    if report["estimator"] is not None:
        words += [f"{key.replace('_', ' ')} {report[key]:g}" for key in THRESHOLDS if report[key]]
    return ", ".join(words)


def _layers(layers: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    for figure in LAYERS:
        table.add_column(figure.column, justify="right")
    for layer in layers:
        table.add_row(f"{layer['inputs']}x{layer['units']}", *(_cell(layer[f.key]) for f in LAYERS))
    return table


def _cell(value: float | None) -> str:
    """A rank, or a share with as many digits as those above and below it."""
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
