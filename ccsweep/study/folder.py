"""Where a study and its runs lie: every file, who writes it -> who reads it, and who is right.

A study's, ``outputs/sweeps/NAME`` (:class:`StudyFolder`):

    study.journal    the storage, unless sweep.storage names another    Optuna; JSON lines
    study.json       definition and command                             recover -> recover, storage
    sweeper.json     lease of the sweeper                               sweeper -> workers
    environments/    code, packages, hardware of its trials, once each  tasks -> people, sweep_finish
    workers/wN.json  lease of a worker, its output beside it in .log    worker -> crew, recover, status
    submitit/        what workers are started from; its owner's alone   crew -> submitit
    run.json         the parent run in MLflow                           tracking -> tracking
    table.md, table.json, rows.png    the end of a grid                 report -> people, scripts
    report.html, front.png            the end of a study                report -> people
    confirmed.json, confirmed.png     its points with fresh seeds       task=confirm -> people, scripts
    confirm/NAME/    the study that trains these, its points beside it in points/
    trials/N/        the folder of a trial

A run's, a trial or a command that ran once (:class:`TrialFolder`):

    config.yaml      settings it ran with, passwords masked             tasks -> tasks, to go on
    overrides.yaml   what was typed                                     tasks -> people
    data.json        label and digest of the data set                   tasks -> tasks, to go on
    report.json      what it came to                                    tasks -> study, report, people
    trial.json       the study's account of the trial                   record -> recover
    run.json         the run in MLflow                                  tracking -> tracking
    environment.json code, packages, hardware; git.diff beside it       tracking -> task=benchmark
    checkpoints/     best.ckpt and last.ckpt                            training -> training
    figures.png, benchmark.json, benchmark.png                          report -> people
                     (environment.json and figures.png of a search's trial: at its end, on the front)
    run.log          its log                                            logging -> people

No file says where the study lies, but for leases: one that lies elsewhere than it says is another study's, of
which this one is a copy, or of before it was moved.

What became of a trial is said three times, and in this order of truth: ``report.json`` (a run that wrote one
has its result, whatever was told afterwards), then the storage, then MLflow. JSON and YAML files are written
whole or not at all.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccsweep.config.places import STUDIES, named
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.files import read_json_if_whole, write_text


class _File:
    """The path of a file in the folder that it is asked of."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: "TrialFolder | StudyFolder", owner: type) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one run; the table above says what is in it."""

    path: Path

    settings = _File("config.yaml")
    overrides = _File("overrides.yaml")
    data = _File("data.json")
    report = _File("report.json")
    record = _File("trial.json")
    environment = _File("environment.json")
    checkpoints = _File("checkpoints")
    last_checkpoint = _File("checkpoints/last.ckpt")  # to go on from
    figures = _File("figures.png")
    benchmark = _File("benchmark.json")
    log = _File("run.log")
    lock = _File(".lock")  # held while a process works on the run

    def read_report(self) -> dict[str, Any] | None:
        """What the run left as its report, if it got that far."""
        return read_json_if_whole(self.report, "the run counts as one that has not ended")

    def write_report(self, report: Mapping[str, Any]) -> Path:
        """Write ``report.json``; returns its path."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.report, json.dumps(report, indent=2, default=str) + "\n")
        return self.report


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study; the table above says what is in it."""

    path: Path

    journal = _File("study.journal")
    definition = _File("study.json")
    sweeper = _File("sweeper.json")
    sweeper_lock = _File(".sweeper.lock")  # held by the sweeper at work
    claim_lock = _File(".claim.lock")  # held while a worker looks how far the study is, and takes a trial
    submitit = _File("submitit")
    environments = _File("environments")
    workers = _File("workers")
    table = _File("table.md")
    table_data = _File("table.json")
    rows = _File("rows.png")
    confirmations = _File("confirm")
    confirmed = _File("confirmed.json")
    confirmed_picture = _File("confirmed.png")
    page = _File("report.html")
    picture = _File("front.png")

    def read_confirmed(self) -> dict[str, Any] | None:
        """What task=confirm found, if it was given."""
        return read_json_if_whole(self.confirmed, "task=confirm writes it anew")

    @property
    def name(self) -> str:
        """The study's, also in its storage."""
        return self.path.name

    def lease(self, worker: str) -> Path:
        """``workers/wN.json``; the worker's log is the same with ``.log``."""
        return self.workers / f"{worker}.json"

    def leases(self) -> list[Path]:
        """Leases of all workers there ever were."""
        return sorted(self.workers.glob("w*.json"))

    def new_trial(self, number: int) -> TrialFolder:
        """A folder that no other trial has had, not even in a storage that was lost."""
        found, attempt = self.trial(str(number)), 1
        while found.path.exists() and any(found.path.iterdir()):
            attempt += 1
            found = self.trial(f"{number}-{attempt}")
        return found

    def trial(self, name: str) -> TrialFolder:
        """``trials/NAME``."""
        return TrialFolder(self.path / "trials" / name)

    def trials(self) -> list[TrialFolder]:
        """The folders of all trials."""
        return [TrialFolder(path) for path in sorted((self.path / "trials").glob("*"))]


def study_folder(config: Config) -> StudyFolder:
    """The folder of the study that ``sweep.name`` names.

    Raises:
        UserError: none is named.
    """
    if config.sweep.name is None:
        known = sorted(p.name for p in STUDIES.glob("*") if p.is_dir())
        shown = f"; in {STUDIES} there are {', '.join(known)}" if known else ""
        raise UserError(f"sweep.name=null: expected the name of a study, or its folder{shown}")
    return StudyFolder(named(config.sweep.name))
