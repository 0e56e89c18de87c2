"""The git checkout that this package runs from, if it runs from one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ccsweep.tracking.mask import mask

DIFF_LIMIT = 1_000_000  # characters

_PACKAGE = Path(__file__).parents[1]
_SECONDS = 5.0


@dataclass(frozen=True)
class Checkout:
    """A checkout's state; ``commit`` is None before the first, ``branch`` when detached."""

    commit: str | None
    branch: str | None
    dirty: bool
    untracked: list[str]  # as git names them, from the package's folder


def checkout(package: Path = _PACKAGE) -> Checkout | None:
    """Return the state of the checkout that tracks the folder ``package``; takes about 10 ms.

    None for an installed wheel, and when there is no git or it does not answer within 5 s.
    """
    # A wheel in .venv lies inside a checkout that does not track it.
    if not _git(package, "ls-files", "--", "__init__.py"):
        return None
    status = _git(package, "status", "--porcelain=v2", "--branch", "-z")
    if status is None:
        return None
    entries = [entry for entry in status.split("\0") if entry]
    head = dict(entry[2:].split(" ", 1) for entry in entries if entry.startswith("# "))
    commit, branch = head["branch.oid"], head["branch.head"]
    return Checkout(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        dirty=any(not entry.startswith("# ") for entry in entries),
        untracked=[entry[2:] for entry in entries if entry.startswith("? ")],
    )


def uncommitted(package: Path = _PACKAGE) -> str:
    """Return the diff of what is not committed, without passwords, cut at 1,000,000 characters."""
    diff = mask(_git(package, "diff", "--no-ext-diff", "--no-color", "HEAD") or "")
    if len(diff) <= DIFF_LIMIT:
        return diff
    return f"{diff[:DIFF_LIMIT]}\n[cut here: {len(diff) - DIFF_LIMIT} more characters]\n"


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints in ``folder``, None when it fails, hangs or is not installed."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
