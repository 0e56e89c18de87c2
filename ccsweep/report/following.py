"""What to type next when a study or a grid has ended, word for word."""

import shlex
from typing import TYPE_CHECKING

from ccsweep.config.places import STUDIES
from ccsweep.study import front
from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import study_notes
from ccsweep.tracking import mask, resolve_uri
from ccsweep.tracking.find import run_id_of, store_of
from ccsweep.tracking.ui import command

if TYPE_CHECKING:
    from optuna import Study


def lines(study: "Study", folder: StudyFolder, uri: str | None) -> list[str]:
    """A command a line, each after what it is for.

    Args:
        study: that has ended.
        folder: of the study.
        uri: of the runs' store, unless the study's folder says so.
    """
    known = study_notes(study)
    best = front.pareto(trials_of(study), known.definition.aims)
    found = []
    if run_id_of(folder.path) is not None:
        found.append(("compare", command(store_of(folder.path) or resolve_uri(uri), folder.path)))
    if best:
        chosen = front.knee(best, known.definition.aims) or best[0]
        trains = not any(line.startswith(("task=", "run=")) for line in known.definition.base)
        if known.definition.objectives and trains:
            found.append(("confirm", command_about(study, folder, "task=confirm", "pick=front", "seeds=5")))
        found.append(("export", command_about(study, folder, "task=export", f"pick=trial:{chosen.number}")))
    if not known.definition.is_grid and known.n_trials is not None and known.command:
        words = [w for w in shlex.split(known.command) if not w.startswith("sweep.n_trials=")]
        found.append(("more", mask(shlex.join([*words, f"sweep.n_trials={2 * known.n_trials}"]))))
    return [f"{name:8}{line}" for name, line in found]


def command_about(study: "Study", folder: StudyFolder, task: str, *how: str) -> str:
    """The command of a task about the study, as it is typed here."""
    path = folder.path.absolute()
    name = path.name if path.parent == STUDIES.absolute() else str(path)
    line = shlex.join(["python", "-m", "ccsweep", task, f"sweep.name={name}", *how])
    return mask(line) if folder.journal.exists() else f"{mask(line)} {kept_at(study)}"


def kept_at(study: "Study") -> str:
    """What is typed to say where trials are kept that are not in the folder: a URL, or a profile with one."""
    typed = shlex.split(study_notes(study).command)
    url = [word for word in typed if word.startswith("sweep.storage=")]
    profile = [
        w for start in ("cluster=", "--config-dir=") for w in typed if w.startswith(start)
    ]  # flags last
    said = shlex.join(url or (profile if len(profile) == 2 else []))
    return said if said and "***" not in said else "sweep.storage=URL"  # a password is kept nowhere
