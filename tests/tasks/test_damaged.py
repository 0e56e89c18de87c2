"""Every file of a run and of a study, damaged in every way: who reads it names it in one line, or does without."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna import Study

from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from tests.tasks.conftest import Place

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "rubbish": lambda whole: bytes(range(256)) * 4,
    "of another kind": lambda whole: b"[1]",
}
OF_A_RUN = (
    *("config.yaml", "overrides.yaml", "data.json", "report.json", "run.json", "environment.json"),
    *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
)
READERS = {
    "task=evaluate": ["task=evaluate", "run={folder}", "estimator.threshold=0.1"],
    "training.resume": ["training.resume={folder}", "training.epochs=3"],
}
NEEDED = {
    ("config.yaml", "task=evaluate"),
    ("config.yaml", "training.resume"),
    ("checkpoints/best.ckpt", "task=evaluate"),
    ("data.json", "training.resume"),
    ("checkpoints/last.ckpt", "training.resume"),
}
"""Files that a reader cannot do without."""
OF_A_STUDY = (
    *("study.journal", "study.json", "trials/0/report.json", "trials/0/run.json", "trials/0/config.yaml"),
    *("trials/0/overrides.yaml", "trials/0/checkpoints/best.ckpt", "workers/w1.json", "sweeper.json"),
)
OF_STUDIES = {
    "task=sweep_status": ["task=sweep_status", "sweep.name={folder}"],
    "task=export": ["task=export", "sweep.name={folder}", "pick=trial:0", "to={folder}/exported.yaml"],
    "task=sweep_finish": ["task=sweep_finish", "sweep.name={folder}"],
}


def refusal(place: Place, words: list[str], folder: Path) -> str | None:
    """What a command says of the damaged file; None where it does without."""
    try:
        place.run(f"{folder}-out", *(word.format(folder=folder) for word in words))
    except UserError as error:
        return str(error)
    return None


def copied(source: Path, folder: Path, file: str, how: str) -> Path:
    """A copy of ``source`` in ``folder``; returns its one file that is damaged."""
    shutil.copytree(source, folder)
    damaged = folder / file
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(DAMAGE[how](damaged.read_bytes() if damaged.exists() else b"{}"))
    return damaged


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", OF_A_RUN)
def test_of_a_run(
    file: str,
    how: str,
    place: Place,
    trained: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for reader, words in READERS.items():
        folder = tmp_path / reader.replace("=", "-")
        damaged = copied(place.folder / "trained", folder, file, how)
        said = refusal(place, words, folder)
        assert said is not None or (file, reader) not in NEEDED
        assert said is None or (said.startswith(f"{damaged}: ") and "; " in said and "\n" not in said)
        if said is None and file == "run.json":
            (named,) = [line for line in caplog.messages if line.startswith(f"{damaged}: ")]
            assert named.endswith("; its run is not known from here, only by its id")


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", OF_A_STUDY)
def test_of_a_study(
    file: str,
    how: str,
    place: Place,
    searched: tuple[StudyFolder, Study, list[dict[str, Any]]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for reader, words in OF_STUDIES.items():
        folder = tmp_path / reader.replace("=", "-")
        damaged = copied(searched[0].path, folder, file, how)
        said = refusal(place, words, folder)
        named = [said] if said is not None else [m for m in caplog.messages if m.startswith(str(damaged))]
        assert all(str(damaged) in line or damaged.name == "study.journal" for line in named), named
        assert not any("\n" in line for line in named)
        if file == "study.journal" and how != "cut off":  # up to there it can be read
            assert said is not None
