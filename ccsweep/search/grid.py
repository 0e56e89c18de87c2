"""The sweeper behind ``-m``: every combination of the overrides, one run each, under one parent.

Differs from Hydra's own where its users were hurt: all configs are checked before the first run
starts, a run that fails does not end the others, and the parent run is closed in every case.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from rich import box
from rich.console import Console
from rich.table import Table

from ccsweep.config import check
from ccsweep.errors import UserError
from ccsweep.tracking import close_parent, resolve_uri
from ccsweep.tracking.find import run_id_of
from ccsweep.tracking.outcome import Status

log = logging.getLogger(__name__)


class GridSweeper:
    """Runs the product of all swept overrides through Hydra's launcher.

    Args:
        params: swept overrides from a file under ``sweeps/``; the command line's win over them.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.context = hydra_context
        self.config = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run the grid; returns one result per run.

        Raises:
            UserError: a config of the grid is wrong (nothing has run), or runs failed.
        """
        folder = Path(self.config.hydra.sweep.dir).resolve()
        jobs = [[*job, f"tracking.sweep='{folder}'"] for job in self._grid(arguments)]
        self._check(jobs)
        if (other := run_id_of(folder)) is not None:
            raise UserError(f"hydra.sweep.dir={folder}: holds run {other} already; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        status: Status = "KILLED"
        try:
            results = self.launcher.launch(jobs, initial_job_idx=0)
            failed = [r for r in results if r.status != JobStatus.COMPLETED]
            status = "FAILED" if failed else "FINISHED"
            _show(jobs, results)
        finally:
            close_parent(resolve_uri(self.config.tracking.uri), folder, status)
        for result in failed:
            _tell(result)
        if failed:
            raise UserError(f"{len(failed)} of {len(jobs)} runs failed; see above")
        return list(results)

    def _grid(self, arguments: list[str]) -> list[list[str]]:
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parser = OverridesParser.create(config_loader=self.context.config_loader)
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        (grid,) = BasicSweeper.split_arguments(parser.parse_overrides(given), max_batch_size=None)
        return grid

    def _check(self, jobs: Sequence[Sequence[str]]) -> None:
        for job in jobs:
            cfg = self.context.config_loader.load_sweep_config(self.config, list(job))
            with open_dict(cfg):
                del cfg["hydra"]
            check(cfg)


def _show(jobs: Sequence[Sequence[str]], results: Sequence[JobReturn]) -> None:
    """One row per run: what differs, and the errors and shares that came out, layer by layer."""
    varying = [[o for o in job if any(o not in other for other in jobs)] for job in jobs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run")
    for name in ("validation %", "test %", "density", "false-off", "theoretical speed-up"):
        table.add_column(name, justify="right")
    for overrides, result in zip(varying, results, strict=True):
        table.add_row(" ".join(overrides) or "(the only one)", *_figures(result))
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)


def _figures(result: JobReturn) -> list[str]:
    if result.status != JobStatus.COMPLETED:
        return ["failed", "", "", "", ""]
    report: dict[str, Any] = result.return_value
    layers = report["layers"]

    def by_layer(name: str) -> str:
        return "/".join(f"{layer[name]:.2f}" for layer in layers)

    validation = report.get("validation_error")  # choose by this one, not by the test
    return [
        "-" if validation is None else f"{validation:.2f}",
        f"{report['test_error']:.2f}",
        by_layer("density"),
        by_layer("false_off"),
        f"{report['theoretical_speedup']:.2f}x",
    ]


def _tell(result: JobReturn) -> None:
    overrides = " ".join(result.overrides or [])
    error = result._return_value  # .return_value would raise it
    if isinstance(error, UserError):
        log.error("failed: %s: %s", overrides, error)
    else:
        text = "".join(traceback.format_exception(error))
        log.error("failed: %s\n%s", overrides, text)
