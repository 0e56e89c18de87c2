"""The GPUs of this machine, found without importing torch, and how many workers they make."""

import os
import re
import subprocess

from ccsweep.config.schema import SweepConfig
from ccsweep.errors import UserError

AUTO = "auto"
_UUID = re.compile(r"\(UUID: ([^)]+)\)")


def visible() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES: those it has, else UUIDs, of the parts where a GPU is in parts."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip() not in ("", "-1")]
    try:
        shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[list[str]] = []  # of each GPU its own name, and those of its parts
    for line in shown.stdout.splitlines():
        name = _UUID.search(line)
        if line.startswith("GPU "):
            found.append([name[1] if name else str(len(found))])
        elif line.lstrip().startswith("MIG ") and name and found:
            found[-1].append(name[1])
    return [device for own, *parts in found for device in (parts or [own])]


def workers(sweep: SweepConfig, device: str) -> int:
    """How many workers a sweep has.

    Args:
        sweep: ``workers=auto`` is one for each GPU, or as many as ``workers_per_gpu`` says; without GPUs one.
        device: ``training.device``.

    Raises:
        UserError: they would have to share GPUs, and nobody asked for that.
    """
    if sweep.cluster != "local":
        if sweep.workers == AUTO:
            raise UserError("sweep.workers=auto: is for the GPUs of this machine; expected a number of jobs")
        return int(sweep.workers)
    devices = [] if device == "cpu" else visible()
    places = len(devices) * sweep.workers_per_gpu
    if sweep.workers == AUTO:
        return max(1, places)
    count = int(sweep.workers)
    if devices and count > places:
        raise UserError(
            f"sweep.workers={count}: {places} can have a GPU here; expected {places} or less, "
            f"sweep.workers_per_gpu={-(-count // len(devices))} for several on each, or training.device=cpu"
        )
    return count
