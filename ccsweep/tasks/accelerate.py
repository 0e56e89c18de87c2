"""``task=accelerate``: a model that others made, faster, saved, with what is promised of its answers."""

import json
import logging
import statistics
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ccsweep.config.schema import Config
from ccsweep.engine import served
from ccsweep.engine.accelerate import accelerate as made_fast
from ccsweep.engine.benchmark import split
from ccsweep.engine.clock import alone, race
from ccsweep.report import write
from ccsweep.report.run import closing
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.foreign import read
from ccsweep.tasks.run import begun, description, prepared
from ccsweep.tracking.ui import command

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 32, 256)
SECONDS = 1.0
"""For each of them, after the plans are made."""
EXAMPLES = 1
"""Inputs kept with a model."""


def accelerate(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Accelerate ``model`` with the data's validation inputs; count on its test inputs what changed.

    Args:
        config: this command's; ``model``, ``keep``, ``max_disagreement`` and ``data`` are read.
        folder: of this run; the result is ``accelerated.pt`` in it.
        overrides: what the command says.

    Returns:
        The report.

    Raises:
        UserError: no such model, or none that can be accelerated with these data.
    """
    assert config.model is not None, "config.check has seen it"
    model = read(config.model)
    with prepared(config) as dataset, begun(config, folder, overrides, dataset) as run:
        calibration, new = dataset.validation.images, dataset.test.images
        with alone():
            fast = made_fast(model, calibration, config.max_disagreement, BATCH_SIZES, keep=config.keep)
            took = {size: _raced(model, fast, split(new, size)) for size in BATCH_SIZES}
        path = folder.path / "accelerated.pt"
        fast.save(path)
        example = new[:EXAMPLES]
        logged = run.log_model(
            "accelerated",
            loader=served.__name__,
            data=path,
            example=example.numpy(),
            answers=fast(example).numpy(),
        )
        about = description(config, dataset, folder, str(fast.report).replace("\n", "; "))
        run.describe(about)
        if (register := config.tracking.register) is not None:
            version = run.register(logged, register, about)
            log.info("registered as models:/%s/%d", register, version)
        figures = {
            f"accelerated_speedup_batch{size}": before / after for size, (before, after) in took.items()
        }
        done = fast.report
        promise = {
            "observed": done.observed,
            "bound": done.bound,
            "confidence": done.confidence,
            "held_out": done.n,
        }
        run.log_metrics({**figures, **promise}, step=0)
        report = {
            "task": config.task,
            "model": config.model,
            "data": dataset.label,
            "kept": done.keep,
            "max_disagreement": config.max_disagreement,
            **promise,
            **figures,
            "microseconds": {str(size): {"torch": a, "accelerated": b} for size, (a, b) in took.items()},
            "cpu": json.loads(folder.environment.read_text())["hardware"]["cpu"],
            "threads": torch.get_num_threads(),
            "plans": [list(plan.ways) for plan in fast.plans],
            "path": str(path),
            "run_id": run.id,
            "folder": str(folder.path),
            "open_with": command(run.uri),
        }
        run.log_artifact(write(report, folder.report))
        _show(report, str(done), took)
        return report


@torch.inference_mode()
def _raced(model: nn.Module, fast: nn.Module, batches: Sequence[Tensor]) -> tuple[float, float]:
    """Microseconds of a call of both, by median, on inputs that the last call did not have."""

    def fresh(run: nn.Module) -> Callable[[], object]:
        coming = cycle(batches)
        return lambda: run(next(coming))

    took = race({"model": fresh(model), "fast": fresh(fast)}, SECONDS)
    return statistics.median(took["model"]), statistics.median(took["fast"])


def _show(report: dict[str, Any], done: str, took: dict[int, tuple[float, float]]) -> None:
    from rich import box
    from rich.table import Table

    from ccsweep.report.canvas import terminal

    console = terminal()
    console.print(
        f"\n{Path(report['model']).name} on {report['data']}, timed on {report['cpu']}",
        style="bold",
        markup=False,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("batch", "torch us", "accelerated us", "speed-up"):
        table.add_column(name, justify="right")
    for size, (before, after) in took.items():
        table.add_row(str(size), f"{before:.1f}", f"{after:.1f}", f"{before / after:.2f}x")
    console.print(table)
    console.print(done, markup=False, soft_wrap=True)
    console.print(f"{'saved':8}{report['path']} (open it with ccsweep.load)", markup=False, soft_wrap=True)
    closing(console, report)
