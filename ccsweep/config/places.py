"""Where configs lie, and studies: ``conf/``, ``sweeps/`` and ``outputs/sweeps/``."""

import os
from pathlib import Path

ADDED_GROUPS = ("experiment", "sweeps")  # not in the defaults list: chosen with a plus
STUDIES = Path("outputs") / "sweeps"


def root() -> Path:
    """The folder that holds ``conf/`` and ``sweeps/``: the package in a wheel, else the checkout."""
    package = Path(__file__).resolve().parents[1]
    return package if (package / "conf").is_dir() else package.parent


def is_installed() -> bool:
    """Whether the configs are a package's own, which is not the place for a user's."""
    return root() == Path(__file__).resolve().parents[1]


def groups() -> dict[str, list[str]]:
    """Config groups and their options, read from ``conf/`` and ``sweeps/``."""
    folders = [p for p in (root() / "conf").iterdir() if p.is_dir() and p.name != "hydra"]
    folders.append(root() / "sweeps")
    return {f.name: sorted(p.stem for p in f.glob("*.yaml")) for f in sorted(folders)}


def named(name: str) -> Path:
    """The folder of the study called ``name``, which may also be a path to it."""
    return Path(name).expanduser() if os.sep in name else STUDIES / name
