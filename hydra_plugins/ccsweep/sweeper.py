"""The few lines that Hydra needs in order to find this project's sweeper."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CcsweepSweeper(Sweeper):
    """Hands over to :class:`ccsweep.sweep.sweeper.Sweeper`, imported only when a sweep runs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        from ccsweep.sweep.sweeper import Sweeper as Implementation

        self._sweeper = Implementation(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study that the command line's overrides describe, a grid by default."""
        return self._sweeper.sweep(arguments)


class CcsweepGuest(CcsweepSweeper):
    """Hands over to :mod:`ccsweep.worker`, which joins a study instead of sweeping it."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run trials of the study that the command line's overrides describe."""
        from ccsweep.worker import join

        sweeper = self._sweeper
        return join(sweeper.context, sweeper.task, sweeper.config, arguments)


@dataclass
class SweeperConfig:
    """``hydra/sweeper=ccsweep``; what a study is stands in the group ``sweep``."""

    _target_: str = "hydra_plugins.ccsweep.sweeper.CcsweepSweeper"


@dataclass
class GuestConfig:
    """``hydra/sweeper=ccsweep_guest``; what ``python -m ccsweep.worker`` types."""

    _target_: str = "hydra_plugins.ccsweep.sweeper.CcsweepGuest"


ConfigStore.instance().store(group="hydra/sweeper", name="ccsweep", node=SweeperConfig)
ConfigStore.instance().store(group="hydra/sweeper", name="ccsweep_guest", node=GuestConfig)
