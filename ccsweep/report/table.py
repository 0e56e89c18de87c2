"""The table that ends a run."""

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ccsweep.report.rows import THRESHOLDS


def show(report: dict[str, Any]) -> None:
    """Print what a run found, where it is stored and what to type next."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=100)
    heading(console, report)
    if "test_error" in report:
        console.print(
            f"test error [bold]{report['test_error']:.2f} %[/] ± {report['test_error_deviation']:.2f}"
            f"  (n = {report['samples']['test']:,}, seed {report['seed']}; ± from sampling alone)"
        )
    best = ""
    if "epochs" in report:
        best = f", best of {report['epochs']} epochs: epoch {report['best_epoch']}"
    console.print(f"validation error {report['validation_error']:.2f} %{best}")
    console.print(_layers(report["layers"]))
    console.print(
        f"theoretical speed-up of a forward pass: {report['theoretical_speedup_inference']:.2f}x,"
        f" {report['theoretical_speedup']:.2f}x with training's refreshes (counted, not timed)"
    )
    if measured := _measured(report):
        console.print(f"measured, 1 thread: {measured} (on the engine, over torch)")
    since = " since it was resumed" if report["resumed"] else ""
    console.print(f"took {report['seconds']:.0f} s{since}")
    for name, text in (("run", "run_id"), ("folder", "folder"), ("compare", "open_with")):
        console.print(f"{name:8}{escape(report[text])}", soft_wrap=True)


def heading(console: Console, report: dict[str, Any]) -> None:
    """Print what a report is about."""
    sizes = "-".join(map(str, report["layer_sizes"]))
    console.print(f"\n[bold]{escape(report['data'])}[/]  {sizes}  {_estimator(report)}")
    for note in report["notes"]:
        console.print(f"[yellow]note: {escape(note)}[/]")


def _measured(report: dict[str, Any]) -> str:
    """As in ``2.10x at batch 1, 1.31x at batch 256``; empty for a run that measured nothing."""
    start = "measured_speedup_batch"
    sizes = [key.removeprefix(start) for key in report if key.startswith(start)]
    return ", ".join(f"{report[start + size]:.2f}x at batch {size}" for size in sizes)


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
    for name in ("rank", "density", "true density", "false-off", "false-on", "sign agreement"):
        table.add_column(name, justify="right")
    for layer in layers:
        rank, agreement = layer["rank"], layer["sign_agreement"]
        shares = ("density", "true_density", "false_off", "false_on")
        table.add_row(
            f"{layer['inputs']}x{layer['units']}",
            "-" if rank is None else str(rank),
            *(f"{layer[name]:.3f}" for name in shares),
            "-" if agreement is None else f"{agreement:.3f}",
        )
    return table
