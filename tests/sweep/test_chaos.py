"""About a minute of chaos: a study that is killed, stopped and starved ends with the right trials all the same."""

import sys
from pathlib import Path

import pytest

from benchmarks.chaos import chaos

QUICK = [sys.executable, "-c", "from tests.sweep.tasks import main; main()"]
STUDY = ["+sweep.objectives.validation_error=minimize", "sweep.sampler=random", "training.l1=interval(0,1)"]
STUDY += ["training.source='0.5'", "sweep.workers=2"]


@pytest.mark.slow
def test_a_minute_of_chaos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKED", "1")
    done = chaos(QUICK, STUDY, trials=20, seconds=60, seed=7)
    assert done["trials"] >= 20
    assert (
        sum(done[what] for what in ("workers killed", "sweepers killed", "stood still", "disks filled")) >= 5
    )
