"""The few lines that Hydra needs in order to find this project's sweeper and its sweeps/ folder."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ccsweep.config import root


class SweepsSearchPath(SearchPathPlugin):
    """Makes ``+sweeps=NAME`` a config group: ``sweeps/`` lies beside ``conf/``, not in it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder that holds ``sweeps/``, for this program only."""
        conf = str(root() / "conf")
        if any(entry.path.removeprefix("file://") == conf for entry in search_path.get_path()):
            search_path.append("ccsweep", f"file://{root()}")


class CcsweepSweeper(Sweeper):
    """Hands over to :class:`ccsweep.search.grid.GridSweeper`, imported only when a sweep runs."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        from ccsweep.search.grid import GridSweeper

        self._sweeper = GridSweeper(params=params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self._sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination of the command line's overrides."""
        return self._sweeper.sweep(arguments)


@dataclass
class SweeperConfig:
    """``hydra/sweeper=ccsweep``; ``params`` is the grid that a file under ``sweeps/`` sets."""

    _target_: str = "hydra_plugins.ccsweep.plugins.CcsweepSweeper"
    params: dict[str, str] | None = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="ccsweep", node=SweeperConfig)
