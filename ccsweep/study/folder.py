"""Where a study lies, and what its files are called."""

import os
from pathlib import Path

from ccsweep.config.schema import Config
from ccsweep.errors import UserError

SWEEPS = Path("outputs") / "sweeps"
JOURNAL = "study.journal"
DEFINITION = "study.json"
SWEEPER = "sweeper.json"
TRIALS = "trials"
WORKERS = "workers"
SUBMITIT = "submitit"
RECORD = "trial.json"
"""In a trial's folder: what the study knows of it, for the day on which the storage is damaged."""


def named(name: str) -> Path:
    """The folder of the study called ``name``, which may also be a path to it."""
    return Path(name).expanduser() if os.sep in name else SWEEPS / name


def study_folder(config: Config) -> Path:
    """The folder of the study that ``sweep.name`` names.

    Raises:
        UserError: none is named.
    """
    if config.sweep.name is None:
        known = sorted(p.name for p in SWEEPS.glob("*") if p.is_dir())
        shown = f"; in {SWEEPS} there are {', '.join(known)}" if known else ""
        raise UserError(f"sweep.name=null: expected the name of a study, or its folder{shown}")
    return named(config.sweep.name)
