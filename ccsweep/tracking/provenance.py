"""What made a run: the git checkout that the package runs from, packages, machine and command line."""

import hashlib
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ccsweep.files import write_text
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


def collect(*, threads: int | None = None) -> dict[str, object]:
    """Return the code's version, the packages, the machine and the command line.

    Takes about 50 ms the first time; the code that runs is the one that was imported, so a process looks
    once. Torch is asked for GPUs only when it is imported already.

    Args:
        threads: how many torch computes with, from ``torch.get_num_threads()``.

    Returns:
        ``git`` (the fields of :class:`Checkout`, None for an installed wheel), ``packages`` (name
        to version), ``hardware`` (memory in bytes), ``hostname``, ``command`` (without passwords).
    """
    state = _own_checkout()
    return {
        "git": asdict(state) if state else None,
        "packages": _versions(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": threads,
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": _gpus(),
        },
        "hostname": socket.gethostname(),
        "command": mask(shlex.join(sys.orig_argv)),
    }


def write(folder: Path, *, threads: int | None = None) -> list[Path]:
    """Write what ``collect`` finds to ``environment.json``, and ``git.diff`` if code was changed.

    Returns:
        The files written, to be logged as artifacts.
    """
    environment = collect(threads=threads)
    files = [folder / "environment.json"]
    write_text(files[0], json.dumps(environment, indent=2) + "\n")
    if environment["git"] is not None and (diff := _own_changes()):
        files.append(folder / "git.diff")
        write_text(files[1], diff)
    return files


def write_once(folder: Path, *, threads: int | None = None) -> Path:
    """Write the same as :func:`write` under a name made of the content; returns the path.

    Of all trials with the same code, packages and hardware one file is kept, and the changes beside it
    in ``.diff``.
    """
    environment = collect(threads=threads) | {"command": None}  # a worker's own, which says nothing
    text = json.dumps(environment, indent=2) + "\n"
    diff = _own_changes() if environment["git"] is not None else ""
    path = folder / f"{hashlib.sha256((text + diff).encode()).hexdigest()[:8]}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if diff:
            write_text(path.with_suffix(".diff"), diff)
        write_text(path, text)
    return path


@cache
def _own_checkout() -> Checkout | None:
    return checkout()


@cache
def _own_changes() -> str:
    return uncommitted()


def code_tags() -> dict[str, str]:
    """Return the tags that MLflow's UI shows as a run's version; none for an installed wheel."""
    state = _own_checkout()
    if state is None or state.commit is None:
        return {}
    return {
        "mlflow.source.git.commit": state.commit,
        "mlflow.source.git.branch": state.branch or "(detached)",
        "ccsweep.dirty": "true" if state.dirty else "false",
    }


@cache
def _versions() -> dict[str, str]:
    """Return python and every installed package with its version."""
    from importlib import metadata

    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(installed.items()))}


def processors() -> dict[str, str]:
    """``cpu``, and ``gpu`` where torch was imported and sees one: what times hold for."""
    return {"cpu": cpu_model()} | ({"gpu": gpus[0]} if (gpus := _gpus()) else {})


@cache
def cpu_model() -> str:
    """As in ``AMD EPYC 7763 64-Core Processor``."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints in ``folder``, None when it fails, hangs or is not installed."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
