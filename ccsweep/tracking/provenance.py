"""What made a run: code, packages, machine and command line."""

import json
import os
import platform
import shlex
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from ccsweep.files import write_text
from ccsweep.tracking import git
from ccsweep.tracking.mask import mask


def collect(*, threads: int | None = None) -> dict[str, object]:
    """Return the code's version, the packages, the machine and the command line.

    Takes about 50 ms. Torch is asked for GPUs only when it is imported already.

    Args:
        threads: how many torch computes with, from ``torch.get_num_threads()``.

    Returns:
        ``git`` (the fields of ``git.Checkout``, None for an installed wheel), ``packages`` (name
        to version), ``hardware`` (memory in bytes), ``hostname``, ``command`` (without passwords).
    """
    state = git.checkout()
    return {
        "git": asdict(state) if state else None,
        "packages": _versions(),
        "hardware": {
            "cpu": _cpu_model(),
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
    if environment["git"] is not None and (diff := git.uncommitted()):
        files.append(folder / "git.diff")
        write_text(files[1], diff)
    return files


def code_tags() -> dict[str, str]:
    """Return the tags that MLflow's UI shows as a run's version; none for an installed wheel."""
    state = git.checkout()
    if state is None or state.commit is None:
        return {}
    return {
        "mlflow.source.git.commit": state.commit,
        "mlflow.source.git.branch": state.branch or "(detached)",
        "ccsweep.dirty": "true" if state.dirty else "false",
    }


def _versions() -> dict[str, str]:
    """Return python and every installed package with its version."""
    from importlib import metadata

    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(installed.items()))}


def _cpu_model() -> str:
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
