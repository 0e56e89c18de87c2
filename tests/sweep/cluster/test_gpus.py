"""GPUs as nvidia-smi names them, a script here, and as workers get to see them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.sweep.cluster.gpus import visible
from tests.sweep.conftest import Command, Sweep

TWO = "GPU 0: H100 (UUID: GPU-a)\nGPU 1: H100 (UUID: GPU-b)"
PARTS = "GPU 0: H100 (UUID: GPU-a)\n  MIG 1g.10gb Device 0: (UUID: MIG-a)\n  MIG 1g.10gb Device 1: (UUID: MIG-b)\nGPU 1: H100 (UUID: GPU-b)"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a machine with these GPUs, by its nvidia-smi."""

    def machine(listed: str, status: int = 0) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        (place / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<END\n{listed}\nEND\nexit {status}\n")
        (place / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(place), prepend=":")

    return machine


@pytest.mark.parametrize(
    ("listed", "status", "names"),
    [
        (TWO, 0, ["GPU-a", "GPU-b"]),
        (PARTS, 0, ["MIG-a", "MIG-b", "GPU-b"]),
        ("GPU 0: old\nGPU 1: old", 0, ["0", "1"]),
        ("No devices were found", 6, []),
    ],
)
def test_gpus_that_nvidia_names(
    listed: str, status: int, names: list[str], machine: Callable[..., None]
) -> None:
    machine(listed, status)
    assert visible() == names


@pytest.mark.parametrize(
    ("given", "names"), [("0, 2,", ["0", "2"]), ("GPU-ab", ["GPU-ab"]), ("", []), ("-1", [])]
)
def test_gpus_that_may_be_seen(given: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible() == names


@pytest.mark.parametrize(
    ("listed", "words", "count"),
    [
        (TWO, ["sweep.workers=auto"], 2),
        (TWO, ["sweep.workers=auto", "sweep.workers_per_gpu=3"], 6),
        (TWO, ["sweep.workers=auto", "training.device=cpu"], 1),
        (TWO, ["sweep.workers=4", "training.device=cpu"], 4),
        (TWO, ["sweep.workers=4", "sweep.workers_per_gpu=2"], 4),
        ("", ["sweep.workers=auto"], 1),
        ("", ["sweep.workers=7"], 7),
    ],
)
def test_how_many_workers_there_are(
    listed: str,
    words: list[str],
    count: int,
    machine: Callable[..., None],
    command: Callable[..., Command],
) -> None:
    machine(listed)
    assert command("training.l1=0,1", *words).plan.workers == count


def test_nobody_shares_a_gpu_unasked(machine: Callable[..., None], command: Callable[..., Command]) -> None:
    machine(TWO)
    with pytest.raises(UserError) as caught:
        command("training.l1=0,1", "sweep.workers=5")
    assert str(caught.value) == (
        "sweep.workers=5: 2 can have a GPU here; expected 2 or less, sweep.workers_per_gpu=3 for several on "
        "each, or training.device=cpu"
    )


def test_each_worker_sees_a_gpu_of_its_own(machine: Callable[..., None], sweep: Sweep) -> None:
    machine(TWO)
    sweep("training.l1=range(0,6)", "training.source=gpu", "sweep.workers=auto")
    seen = {path.read_text() for path in Path(".").glob("gpu-*")}
    assert seen == {"GPU-a", "GPU-b"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
