"""A worker that no sweeper started: it reads the study's command, joins the study, and leaves it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna import Study

from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import StudyNotes, note_study, notes
from ccsweep.study.storage import create, open_study
from ccsweep.worker import LEFT, USAGE, words
from tests.conftest import ROOT
from tests.sweep.conftest import Shell

COMMAND = (
    "python -m ccsweep -m training.l1=0,1 cluster=slurm sweep.workers=9 tracking.uri=http://h sweep.name=s"
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def study(url: str) -> Study:
    """In a database."""
    study = create(StudyFolder(Path("s")), url, {"validation_error": "minimize"})
    note_study(study, StudyNotes(command=COMMAND, uri="http://h:5000"))
    return study


def test_the_words_of_a_studys_command(study: Study, url: str) -> None:
    here = ["sweep.name='s'", f"sweep.storage='{url}'", "sweep.cluster=local", "sweep.workers=1"]
    here.append("hydra/sweeper=ccsweep_guest")
    typed = ["-m", "training.l1=0,1", "tracking.uri=http://h"]
    assert words(url, "s") == [*typed, "tracking.uri='http://h:5000'", *here]
    own = "tracking.uri=http://here"
    assert words(url, "s", own, "data.dir=/data") == [*typed[:2], *here, own, "data.dir=/data"]
    note_study(study, StudyNotes(uri="sqlite:////elsewhere/mlflow.db"))
    assert words(url, "s") == [*typed, *here]  # a file of another machine


@pytest.mark.parametrize("typed", ["--config-dir=profiles", "--config-dir profiles", "-cd profiles"])
def test_a_folder_of_profiles_need_not_be_here(
    typed: str, study: Study, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_study(study, StudyNotes(command=COMMAND.replace("ccsweep ", f"ccsweep {typed} ")))
    monkeypatch.chdir(tmp_path)
    assert words(url, "s")[:2] == ["-m", "training.l1=0,1"]
    Path("profiles").mkdir()
    assert words(url, "s")[:3] == ["--config-dir=profiles", "-m", "training.l1=0,1"]


def test_a_password_has_to_be_given_anew(study: Study, url: str) -> None:
    note_study(study, StudyNotes(uri="http://ann:***@h:5000"))
    with pytest.raises(UserError) as caught:
        words(url, "s")
    assert str(caught.value) == (
        "tracking.uri: holds a password, which a study keeps nowhere; add tracking.uri=VALUE"
    )
    words(url, "s", "tracking.uri=http://ann:secret@h:5000")


def test_no_such_study(study: Study, url: str) -> None:
    with pytest.raises(UserError) as caught:
        words(url, "other")
    assert str(caught.value) == f"sweep.name=other: {url} holds no study of that name"


class Lab:
    """A sweep in one folder, and machines in folders of their own that reach its database."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.url = f"sqlite:///{folder}/studies.db"
        self.shell = Shell(self.home, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")

    def sweep(self, *overrides: str) -> "subprocess.Popen[str]":
        study = ["sweep.name=s", f"sweep.storage={self.url}", *overrides]
        return self.shell.start(*study)

    def join(self, name: str, *own: str) -> "subprocess.Popen[str]":
        folder = self.home.with_name(name)
        folder.mkdir(exist_ok=True)
        code = "from tests.sweep.tasks import joined; joined()"
        return subprocess.Popen(
            [sys.executable, "-c", code, self.url, "s", *own],
            cwd=folder,
            env=self.shell.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def computed(self, name: str) -> list[str]:
        path = self.home.with_name(name) / "computed"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def study(self) -> Study:
        return open_study(StudyFolder(self.home / "outputs" / "sweeps" / "s"), self.url)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_machine_joins_a_study_and_leaves_it(lab: Lab) -> None:
    with lab.sweep("training.l1=range(0,12)", "training.source='1.5'") as sweep:
        until(lambda: len(lab.computed("home")) > 0)
        with lab.join("away") as guest:
            until(lambda: len(lab.computed("away")) > 1)
            guest.send_signal(signal.SIGTERM)
            said = guest.communicate(timeout=60)[0]
        assert guest.returncode == 130, said
        assert said.splitlines()[-1] == "ccsweep: stopped"
        with lab.join("later") as other:
            out = sweep.communicate(timeout=200)[0]
            said = other.communicate(timeout=60)[0]
        assert other.returncode == 0, said
    assert sweep.returncode == 0, out
    trials = lab.study.get_trials()
    (left,) = [trial for trial in trials if trial.state.name == "FAIL"]
    assert (notes(left).cause, notes(left).excused) == (LEFT, True)
    assert len([trial for trial in trials if trial.state.name == "COMPLETE"]) == 12
    everywhere = [line for name in ("home", "away", "later") for line in lab.computed(name)]
    assert len(everywhere) == 13  # the one that was handed back, twice
    assert len(set(everywhere)) == 12
    assert all(lab.computed(name) for name in ("home", "away", "later"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ((), "sweep.name=s: nobody sweeps it; begin with: python -m ccsweep -m sweep.name=s "),
        (
            ("training.l2=0.5",),
            "sweep.name=s: began with training.l2=0.0005, found 0.5; choose another sweep.name",
        ),
    ],
)
def test_who_cannot_join(own: Any, complaint: str, lab: Lab) -> None:
    with lab.sweep("training.l1=choice(0)") as sweep:
        sweep.communicate(timeout=100)
    with lab.join("away", *own) as guest:
        said = guest.communicate(timeout=60)[0]
    assert guest.returncode == 2
    assert said.splitlines()[-1].startswith(f"ccsweep: {complaint}")
    assert not (lab.home.with_name("away") / "outputs").exists()


def test_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ccsweep.worker"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, f"{USAGE}\n")
