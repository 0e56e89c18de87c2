"""``python -m ccsweep.worker STORAGE_URL STUDY``: join a study that is swept elsewhere, and leave it.

For a machine that reaches the study's storage, a database, and needs neither its scheduler nor its disk. The
study's command, which its storage knows, says what its trials are; it is read anew, with the configs of this
machine. What is another here, as the address of the runs' store or the folder of the data, is added as
KEY=VALUE. Ctrl-C or SIGTERM ends it, and its trial is handed back.
"""

import logging
import os
import shlex
import socket
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ccsweep import app
from ccsweep.config.places import named
from ccsweep.config.quoting import quoted
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import Kind, notes, study_notes
from ccsweep.study.storage import open_study
from ccsweep.study.trials import Failed, sort
from ccsweep.sweep import mlflow, recover
from ccsweep.sweep.cluster.claim import Host, joined, leave
from ccsweep.sweep.crew import kill_tree
from ccsweep.sweep.plan import make_plan, unchecked
from ccsweep.sweep.worker import Payload, Worker, remaining
from ccsweep.tracking import resolve_uri
from ccsweep.tracking.find import noted_run, write_run_file
from ccsweep.tracking.mask import mask
from ccsweep.tracking.store import sqlite_path

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

USAGE = "usage: python -m ccsweep.worker STORAGE_URL STUDY [KEY=VALUE ...]"
LEFT = "its worker left the study"
PLACED = ("sweep.name=", "hydra.sweep.dir=", "sweep.storage=", "cluster=", "sweep.cluster=", "sweep.workers=")
"""Words of a study's command that say where it runs."""
PATIENCE = 60.0
"""Seconds to wait for the study's own run, which its first trial opens."""

log = logging.getLogger(__name__)


def main() -> None:
    """Console entry point."""
    if len(sys.argv) < 3 or "=" in sys.argv[2]:
        sys.exit(USAGE)
    try:
        sys.argv[1:] = words(*sys.argv[1:])
    except UserError as error:
        print(f"ccsweep: {error}", file=sys.stderr)
        sys.exit(2)
    app.main()


def words(url: str, name: str, *own: str) -> list[str]:
    """What is typed to read the study's command on this machine.

    Raises:
        UserError: no such study, or a password would have to be known.
    """
    if url.startswith("grpc:"):
        raise UserError(
            f"{url}: a proxy has no lock for hosts without a common disk; give its database's URL"
        )
    known = study_notes(open_study(StudyFolder(named(name)), url))
    given = {word.partition("=")[0] for word in own}
    kept = [word for word in _with_places_here(shlex.split(known.command)[3:]) if not word.startswith(PLACED)]
    if known.uri is not None and sqlite_path(known.uri) is None:
        kept.append(f"tracking.uri={quoted(known.uri)}")
    kept = [word for word in kept if word.partition("=")[0] not in given]
    for word in kept:
        if "***" in word:
            key = word.partition("=")[0]
            raise UserError(f"{key}: holds a password, which a study keeps nowhere; add {key}=VALUE")
    here = [f"sweep.name={quoted(name)}", f"sweep.storage={quoted(url)}", "sweep.cluster=local"]
    return [*kept, *here, "sweep.workers=1", "hydra/sweeper=ccsweep_guest", *own]


def _with_places_here(typed: list[str]) -> list[str]:
    """Without --config-dir where no such folder is here: as a rule it has the profile of a cluster."""
    found, coming = [], iter(typed)
    for word in coming:
        flag, _, place = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            found.append(word)
        elif Path(place := place or next(coming)).is_dir():
            found.append(f"--config-dir={place}")
    return found


def join(context: HydraContext, task: TaskFunction, config: DictConfig, arguments: list[str]) -> None:
    """Run trials of a study until it has what it is to have, or its sweeper is gone.

    Raises:
        UserError: nobody sweeps it, or this machine would make other trials of it.
        KeyboardInterrupt: it was ended; its trial is handed back.
    """
    plan = make_plan(arguments, config, context.config_loader)
    study = open_study(plan.folder, plan.sweep.storage)
    known = study_notes(study)
    if recover.id_of(plan.folder) not in (None, known.id):
        raise UserError(f"{plan.folder.path}: holds another study of that name; join from another folder")
    recover.refuse_change_of(plan, known)
    if known.sweeper is None or known.sweeper["ended"]:
        raise UserError(f"sweep.name={study.study_name}: nobody sweeps it; begin with: {mask(known.command)}")
    recover.look_up(unchecked(config), {d.key.lstrip("+") for d in plan.space.dimensions}, plan.run)
    plan.began = known.sweeper["began"]
    payload = Payload(plan, context, config, task, Singleton.get_state(), known.sweeper["id"])
    plan.folder.workers.mkdir(parents=True, exist_ok=True)
    name = f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"
    with joined(study, name):
        _take_up_parent(study, plan.folder, plan.uri)
        guest = _Guest(payload, name, 10**6 + uuid.uuid4().int % 10**6, study)
        log.info("worker %s has joined %s", name, study.study_name)
        how = "failed"
        try:
            guest.prepare()
            how = guest.work()
        except KeyboardInterrupt:
            how = LEFT
            raise
        finally:
            guest.end(how)
            log.info("worker %s: %s", name, how)


class _Guest(Worker):
    """A worker of no crew: it knows its sweeper from the storage, and leaves the front to others."""

    def __init__(self, payload: Payload, name: str, index: int, study: "Study") -> None:
        self._study, self._host = study, Host(study, payload.sweeper)
        super().__init__(payload, name, index)

    def look(self) -> None:
        super().look()
        trial = self._trial
        if trial is not None and (cause := self._host.has_ended(trial.number)) is not None:
            self._begin_anew(trial, cause)

    def is_sweeper_there(self) -> bool:
        return self._host.is_there()

    def ended_by_others(self, trial: "Trial") -> Failed:
        return Failed(Kind.MACHINE, LEFT, excused=True)

    def finish(self) -> None:
        pass

    def _begin_anew(self, trial: "Trial", cause: str) -> None:
        """Leave a trial that may not listen, as if this worker were replaced: its process becomes another.

        It joins the study again, unless nothing is left to do.
        """
        with suppress(Exception):  # a storage that is away does not keep it
            log.warning("trial %d: %s", trial.number, cause)
            trials = self._study.get_trials(deepcopy=False)
            if (place := notes(trials[trial.number]).place(self.folder)) is not None:
                mlflow.settle_run(place, self.plan.uri)
            leave(self._study, self.name)
            self.lease.set_if_possible(ended=cause, trial=None)
            if remaining(self.plan, sort(trials)) <= 0:
                os._exit(0)
        for child in psutil.Process().children(recursive=True):
            kill_tree(child.pid)
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], app.ENVIRONMENT)


def _take_up_parent(study: "Study", folder: StudyFolder, uri: str | None) -> None:
    """Have this machine's trials be tracked under the study's own run."""
    if noted_run(folder.path) is not None or sqlite_path(resolve_uri(uri)) is not None:
        return
    deadline = time.monotonic() + PATIENCE
    while (parent := study_notes(study).parent) is None and time.monotonic() < deadline:
        if any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
            return  # its trials are not tracked
        time.sleep(0.5)
    if parent is not None:
        write_run_file(folder.path, resolve_uri(uri), parent)


if __name__ == "__main__":
    main()
