"""What ``task=...`` can be; a task's module, and with it torch and MLflow, is imported when it is called."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ccsweep.config.schema import Config

Task = Callable[[Config, Path, list[str]], dict[str, Any]]
"""Called with the checked config, the run's folder and the command's overrides; returns the report."""

TASKS = {
    "train": "ccsweep.tasks.run:train",
    "evaluate": "ccsweep.tasks.run:evaluate",
    "benchmark": "ccsweep.tasks.run:benchmark",
    "sweep_status": "ccsweep.tasks.sweep_status:sweep_status",
    "export": "ccsweep.tasks.export:export",
}


def task(name: str) -> Task:
    """The function behind ``task=NAME``."""
    module, function = TASKS[name].split(":")
    found: Task = getattr(import_module(module), function)
    return found
