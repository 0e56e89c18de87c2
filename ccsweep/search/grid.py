"""The sweeper behind ``-m``: every combination of the overrides, one run each, under one parent.

Differs from Hydra's own where its users were hurt: all configs are checked before the first run
starts, a run that fails does not end the others, and the parent run is closed in every case. With
``seeds=N`` every combination runs N times, and the table at the end has one row for the N.
"""

import logging
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ccsweep.config import check
from ccsweep.errors import UserError
from ccsweep.report import multirun
from ccsweep.report.rows import SEED, Entry, Row, grouped, rows
from ccsweep.schema import Config
from ccsweep.tracking import Run, close_parent, resolve_uri
from ccsweep.tracking.find import run_id_of, store_of
from ccsweep.tracking.history import history
from ccsweep.tracking.outcome import Status, describe

if TYPE_CHECKING:  # matplotlib
    from ccsweep.report.figures import Curve

log = logging.getLogger(__name__)


class GridSweeper:
    """Runs the product of all swept overrides through Hydra's launcher.

    Args:
        params: swept overrides from a file under ``sweeps/``; the command line's win over them.
        paper: test errors in percent by ranks, as that file recalls them from the paper.
    """

    def __init__(
        self, params: Mapping[str, str] | None = None, paper: Mapping[str, float] | None = None
    ) -> None:
        self.params = params or {}
        self.paper = paper

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
        grid = self._grid(arguments)
        jobs = [[*job, f"tracking.sweep='{folder}'"] for job in grid]
        configs = [self._checked(job) for job in jobs]
        if (other := run_id_of(folder)) is not None:
            raise UserError(f"hydra.sweep.dir={folder}: holds run {other} already; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        status: Status = "KILLED"
        try:
            results = self.launcher.launch(jobs, initial_job_idx=0)
            failed = [r for r in results if r.status != JobStatus.COMPLETED]
            status = "FAILED" if failed else "FINISHED"
            for result in failed:
                _tell(result)
            self._conclude(folder, list(map(_entry, grid, configs, results)))
        finally:
            close_parent(self._uri(folder), folder, status)
        if failed:
            raise UserError(f"{len(failed)} of {len(jobs)} runs failed; see above")
        return list(results)

    def _grid(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each run: all combinations, each with every seed that ``seeds`` asks for."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parser = OverridesParser.create(config_loader=self.context.config_loader)
        lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        swept = []
        for override in parser.parse_overrides(lines):
            if override.key_or_group != "seeds":
                swept.append(override)
            elif override.is_sweep_override():
                raise UserError(f"{override.input_line}: expected one number; seeds=3 is seeds 0, 1 and 2")
        (grid,) = BasicSweeper.split_arguments(swept, max_batch_size=None)
        seeds: int = self.config.seeds
        if seeds == 1:
            return grid
        if self.config.task != "train":
            raise UserError(f"seeds={seeds}: repeats training, and task={self.config.task} trains nothing")
        if seeds < 1:
            raise UserError(f"seeds={seeds}: expected 1 or more")
        for override in swept:
            if override.key_or_group == SEED:
                line = override.input_line
                raise UserError(f"{line}: seeds={seeds} gives 0 to {seeds - 1}; leave one of the two out")
        return [[*job, f"{SEED}={seed}"] for job in grid for seed in range(seeds)]

    def _checked(self, job: Sequence[str]) -> Config:
        cfg = self.context.config_loader.load_sweep_config(self.config, list(job))
        with open_dict(cfg):
            del cfg["hydra"]
        return check(cfg)

    def _uri(self, folder: Path) -> str:
        """The store that the runs went to, which an evaluated run may have chosen."""
        return store_of(folder) or resolve_uri(self.config.tracking.uri)

    def _conclude(self, folder: Path, entries: Sequence[Entry]) -> None:
        """Show the table, write it and the picture, and add both to the parent run."""
        found = rows(entries, self.paper)
        multirun.show(entries, found)
        command = shlex.join(["python", "-m", "ccsweep", *sys.argv[1:]])
        files = multirun.write(folder, command, entries, found)
        if (run_id := run_id_of(folder)) is not None:  # some run got as far as to open it
            uri = self._uri(folder)
            files += _draw(uri, folder, entries, found)
            parent = Run.resume(uri, run_id, system_metrics=False)
            for file in files:
                parent.log_artifact(file)
        print(f"{'folder':8}{folder} ({', '.join(file.name for file in files)})")


def _draw(uri: str, folder: Path, entries: Sequence[Entry], found: Sequence[Row]) -> list[Path]:
    """Draw ``rows.png``, if there are two rows that were trained and can be compared."""
    name = "validation/error"
    curves: dict[str, list[Curve]] = {}
    tests: dict[str, list[float]] = {}
    for row, group in zip(found, grouped(entries), strict=True):
        reports = [entry.report for entry in group if entry.report is not None]
        reports = [report for report in reports if "epochs" in report]  # an evaluation has one point
        if reports:
            logged = [history(uri, report["run_id"], name) for report in reports]
            curves[row.label] = [metrics.get(name, []) for metrics in logged]
            tests[row.label] = [report["test_error"] for report in reports]
    if len(curves) < 2:
        return []
    from ccsweep.report.figures import draw_rows

    title = "Error by row: " + "; ".join(multirun.about(entries))
    return [draw_rows(folder / "rows.png", title, curves, tests)]


def _entry(overrides: list[str], config: Config, result: JobReturn) -> Entry:
    if result.status == JobStatus.COMPLETED:
        return Entry(overrides, config.rank_notation, result.return_value)
    return Entry(overrides, config.rank_notation, None, describe(result._return_value))


def _tell(result: JobReturn) -> None:
    overrides = " ".join(result.overrides or [])
    error = result._return_value  # .return_value would raise it
    if isinstance(error, UserError):
        log.error("failed: %s: %s", overrides, error)
    else:
        text = "".join(traceback.format_exception(error))
        log.error("failed: %s\n%s", overrides, text)
