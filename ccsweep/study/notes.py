"""What a study notes of its trials and of itself, beside Optuna's own fields: user attributes, typed.

The names of the fields are the names in the storage.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from optuna.trial import FrozenTrial, Trial

from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.study.objectives import GRID

if TYPE_CHECKING:
    from optuna import Study


class Kind(StrEnum):
    """Why a trial has no result."""

    TRIAL = "trial"
    """Its own fault, which is final."""
    MACHINE = "machine"
    """The machine's fault: its point is tried again."""
    PRUNED = "pruned"
    """It was not worth going on with."""
    STOPPED = "stopped"
    """Someone stopped the sweep: its point is tried again when the study goes on."""


@dataclass(frozen=True)
class Notes:
    """What a study knows of a trial."""

    overrides: list[str] | None = None
    """Its own, without those of all trials."""
    hash: str | None = None
    """See :mod:`ccsweep.study.identity`."""
    worker: str | None = None
    folder: str | None = None
    """As ``trials/3``: a study is moved and copied with its trials."""
    run_id: str | None = None
    ranks: str | None = None
    """In the paper's notation."""
    report: dict[str, Any] = field(default_factory=dict)
    """Its scalars, flat."""
    seconds: float | None = None
    """That its worker was at it."""
    epochs: list[list[float]] = field(default_factory=list)
    """What the pruner compares: (epoch, metric, speedup_limit)."""
    cause: str | None = None
    """Why it has no result, in one line."""
    kind: str | None = None
    """One of :class:`Kind`."""
    excused: bool = False
    """Failed for no fault of its worker: not counted among its point's tries."""
    point: str | None = None
    """The point that the command asked for, as JSON."""
    retry_of: int | None = None
    """The first trial of its point, of which this is another try."""
    resumes: int | None = None
    """The try before this one, whose run it goes on with if there is a checkpoint."""
    attempt: int = 0
    """Tries of its point before this one."""
    held: int | None = None
    """The trial whose result it waits for, as it is the same."""
    reuses: int | None = None
    """The trial whose result it was given, as it is the same."""

    def place(self, study: StudyFolder) -> TrialFolder | None:
        """The folder in ``study`` of a trial that was really run, wherever the study was when it ran."""
        return None if self.folder is None else study.trial(Path(self.folder).name)


@dataclass(frozen=True)
class Definition:
    """What makes it this study and no other."""

    space: dict[str, str] = field(default_factory=dict)
    """Sweeps as typed, by key."""
    conditions: dict[str, str] = field(default_factory=dict)
    objectives: dict[str, str] = field(default_factory=dict)
    """Directions by figure of the report; none for a grid that aims at nothing."""
    constraints: list[str] = field(default_factory=list)
    sampler: str = "grid"
    pruning: str | None = None
    base: list[str] = field(default_factory=list)
    """Overrides of every trial, passwords masked."""
    seeds: int = 1

    @property
    def aims(self) -> dict[str, str]:
        """The objectives; of a study without any, what it is kept by."""
        return self.objectives or GRID

    @property
    def is_grid(self) -> bool:
        """Whether all points are known from the start."""
        return self.sampler == "grid"

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """From JSON; what it does not say is as in a plain grid."""
        return cls(**_known(cls, content))


@dataclass(frozen=True)
class StudyNotes:
    """What a study knows of itself."""

    definition: Definition = field(default_factory=Definition)
    settings: dict[str, Any] | None = None
    """What all trials begin from, passwords masked."""
    folder: str | None = None
    id: str | None = None
    """Drawn when it began, and in its folder, too: another host's folder may have the same path."""
    sweeper: dict[str, Any] | None = None
    """The lease of who runs it, see :mod:`ccsweep.sweep.cluster.claim`."""
    uri: str | None = None
    """Of the runs' store, masked."""
    commit: str | None = None
    command: str = ""
    """To go on with it."""
    host: str = ""
    n_trials: int | None = None
    """How many trials are asked for."""
    parent: str | None = None
    """Its run in MLflow."""
    alone: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By trial and figure the speed-up that was measured alone, and the ends of its interval."""
    alone_on: dict[str, str] = field(default_factory=dict)
    """By trial the type of CPU that this was on."""
    timing_on: str | None = None
    """A part of the name of the CPU whose speeds count alone."""
    logged: int = 0
    """How many completed trials the parent run has metrics of."""


def notes(trial: FrozenTrial | Trial) -> Notes:
    """What the study knows of a trial."""
    return Notes(**_known(Notes, trial.user_attrs))


def note(trial: Trial, new: Notes) -> None:
    """Keep what ``new`` says, the fields that are not as they are without a note."""
    _write(trial, new, Notes())


def let_go(trial: Trial) -> None:
    """Note that a trial waits for no other one any more."""
    trial.set_user_attr("held", None)


def study_notes(study: "Study") -> StudyNotes:
    """What a study knows of itself."""
    known = _known(StudyNotes, study.user_attrs)
    return StudyNotes(**known | {"definition": Definition.read(known.get("definition", {}))})


def note_study(study: "Study", new: StudyNotes) -> None:
    """Keep what ``new`` says and the storage does not, yet."""
    _write(study, new, StudyNotes(), study.user_attrs)


def _known(kind: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: content[f.name] for f in fields(kind) if content.get(f.name) is not None}


def _write(place: Any, new: Any, empty: Any, known: Mapping[str, Any] = {}) -> None:
    for f in fields(new):
        value = getattr(new, f.name)
        if value == getattr(empty, f.name):
            continue
        plain = json.loads(json.dumps(asdict(new)[f.name]))
        if known.get(f.name) != plain:
            place.set_user_attr(f.name, plain)
