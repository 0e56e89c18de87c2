"""Who may look how far a study is: one at a time of all that share its trials; on PostgreSQL in tests/cluster."""

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from ccsweep.study.folder import StudyFolder
from ccsweep.study.storage import create
from ccsweep.sweep.cluster.turn import turn


def test_those_who_share_a_file_share_its_lock(tmp_path: Path) -> None:
    here, there = StudyFolder(tmp_path / "here" / "s"), StudyFolder(tmp_path / "there" / "s")
    url = f"sqlite:///{tmp_path}/studies.db"
    study = create(here, url, {"validation_error": "minimize"})
    with turn(study, here, url):
        other = turn(study, there, url)
        assert isinstance(other, FileLock)
        with pytest.raises(Timeout):
            other.acquire(timeout=0)


def test_a_study_in_its_folder_has_its_lock_there(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "s")
    folder.path.mkdir()
    study = create(folder, None, {"validation_error": "minimize"})
    with turn(study, folder, None), pytest.raises(Timeout):
        FileLock(folder.claim_lock).acquire(timeout=0)
