"""What ``task=...`` can be: each task is the function of its name in the module of its name."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ccsweep.config.schema import Config
from ccsweep.study.folder import TrialFolder

Task = Callable[[Config, TrialFolder, list[str]], dict[str, Any]]
"""Called with the checked config, the run's folder and the command's overrides; returns the report."""


def task(name: str) -> Task:
    """The function behind ``task=NAME``; its module, and with it torch and MLflow, is imported here."""
    found: Task = getattr(import_module(f"{__name__}.{name}"), name)
    return found
