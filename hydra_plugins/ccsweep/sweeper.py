"""The few lines that Hydra needs in order to find this project's sweeper."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CcsweepSweeper(Sweeper):
    """Hands over to :class:`ccsweep.search.grid.GridSweeper`, imported only when a sweep runs."""

    def __init__(self, params: dict[str, str] | None = None, paper: dict[str, float] | None = None) -> None:
        from ccsweep.search.grid import GridSweeper

        self._sweeper = GridSweeper(params=params, paper=paper)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self._sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination of the command line's overrides."""
        return self._sweeper.sweep(arguments)


@dataclass
class SweeperConfig:
    """``hydra/sweeper=ccsweep``, as a file under ``sweeps/`` sets it.

    ``params`` is the grid; ``paper`` holds the paper's test errors in percent, by ranks.
    """

    _target_: str = "hydra_plugins.ccsweep.sweeper.CcsweepSweeper"
    params: dict[str, str] | None = field(default_factory=dict)
    paper: dict[str, float] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="ccsweep", node=SweeperConfig)
