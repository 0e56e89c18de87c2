"""What ``task=...`` can be: each task is the function of its name in the module of its name."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ccsweep.config.check import check
from ccsweep.config.schema import Config
from ccsweep.study.folder import TrialFolder

Task = Callable[[Config, TrialFolder, list[str]], dict[str, Any]]
"""Called with the checked config, the run's folder and the command's overrides; returns the report."""


def task(name: str) -> Task:
    """The function behind ``task=NAME``; its module, and with it torch and MLflow, is imported here."""
    found: Task = getattr(import_module(f"{__name__}.{name}"), name)
    return found


def perform(cfg: DictConfig) -> dict[str, Any]:
    """Run the task that a config composed by Hydra names; returns its report.

    Raises:
        UserError: what the config says cannot be meant, or what the task found wrong.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    config = check(cfg)
    folder = TrialFolder(Path(hydra.runtime.output_dir))
    return task(config.task)(config, folder, list(hydra.overrides.task))
