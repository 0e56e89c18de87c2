"""What is noted of trials and studies: under these names, and no more than there is to say."""

from pathlib import Path

import optuna
import pytest
from optuna import Study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.notes import (
    Definition,
    Kind,
    Notes,
    StudyNotes,
    let_go,
    note,
    note_study,
    notes,
    study_notes,
)


@pytest.fixture
def study() -> Study:
    return optuna.create_study()


def test_a_trial_without_notes(study: Study) -> None:
    trial = study.ask()
    assert notes(trial) == Notes()
    assert notes(trial).place(StudyFolder(Path("s"))) is None


def test_what_is_noted_is_read_back_from_the_storage(study: Study) -> None:
    trial = study.ask()
    new = Notes(
        overrides=["training.l1=0.5"],
        hash="ab" * 32,
        folder="trials/0",
        report={"test_error": 1.5, "samples.validation": 100},
        seconds=1.5,
        epochs=[[1, 4.0, 20.0]],
        kind=Kind.MACHINE,
        excused=True,
        attempt=2,
        retry_of=0,
    )
    note(trial, new)
    (frozen,) = study.get_trials()
    assert frozen.user_attrs == {
        "overrides": ["training.l1=0.5"],
        "hash": "ab" * 32,
        "folder": "trials/0",
        "report": {"test_error": 1.5, "samples.validation": 100},
        "seconds": 1.5,
        "epochs": [[1, 4.0, 20.0]],
        "kind": "machine",
        "excused": True,
        "attempt": 2,
        "retry_of": 0,
    }
    assert type(frozen.user_attrs["kind"]) is str
    assert notes(frozen) == notes(trial) == new
    assert notes(frozen).place(StudyFolder(Path("/studies/s"))) == TrialFolder(Path("/studies/s/trials/0"))


def test_the_folder_of_a_trial_is_in_the_study_wherever_that_lies(study: Study) -> None:
    for known in ("trials/3-2", "/where/it/was/trials/3-2"):  # before, it was noted with the study's path
        assert Notes(folder=known).place(StudyFolder(Path("moved"))) == TrialFolder(Path("moved/trials/3-2"))


def test_a_note_adds_to_the_others_and_replaces_its_own(study: Study) -> None:
    trial = study.ask()
    note(trial, Notes(worker="w0", cause="first"))
    note(trial, Notes(cause="second", held=0))
    assert notes(trial) == Notes(worker="w0", cause="second", held=0)
    let_go(trial)
    assert trial.user_attrs == {"worker": "w0", "cause": "second", "held": None}
    assert notes(trial) == Notes(worker="w0", cause="second")


def test_the_notes_of_another_program_are_passed_over(study: Study) -> None:
    trial = study.ask()
    trial.set_user_attr("colour", "red")
    trial.set_user_attr("attempt", None)
    assert notes(trial) == Notes()


def test_kinds_are_what_the_storage_holds() -> None:
    assert [f"{kind}" for kind in Kind] == ["trial", "machine", "pruned", "stopped"]


def test_a_study_without_notes(study: Study) -> None:
    assert study_notes(study) == StudyNotes(
        definition=Definition(sampler="grid", seeds=1), command="", logged=0
    )


def test_notes_of_a_study(study: Study) -> None:
    definition = Definition(
        space={"training.l1": "interval(0,1)"}, objectives={"density": "minimize"}, sampler="gp"
    )
    note_study(study, StudyNotes(definition=definition, host="here", n_trials=4))
    note_study(study, StudyNotes(parent="ab", logged=3))
    assert study_notes(study) == StudyNotes(
        definition=definition, host="here", n_trials=4, parent="ab", logged=3
    )
    assert study.user_attrs["definition"] == {
        "space": {"training.l1": "interval(0,1)"},
        "conditions": {},
        "objectives": {"density": "minimize"},
        "constraints": [],
        "sampler": "gp",
        "pruning": None,
        "base": [],
        "seeds": 1,
    }
    note_study(study, StudyNotes(definition=definition, host="there", logged=4))
    assert (study_notes(study).host, study_notes(study).logged) == ("there", 4)


def test_what_a_study_knows_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))))
    new = StudyNotes(definition=Definition(space={"training.l1": "0,1"}), host="here")
    note_study(study, new)
    before = path.read_bytes()
    note_study(study, new)
    assert path.read_bytes() == before


def test_a_definition_of_which_not_all_was_written() -> None:
    read = Definition.read({"space": {"a": "0,1"}, "sampler": None, "objectives": {}, "colour": "red"})
    assert read == Definition(space={"a": "0,1"})
    assert read.is_grid
    assert read.aims == {"validation_error": "minimize"}
    read = Definition.read({"sampler": "tpe", "objectives": {"density": "minimize"}})
    assert not read.is_grid
    assert read.aims == {"density": "minimize"}
