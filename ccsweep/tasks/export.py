"""``task=export``: a trial of a study as an experiment file that runs on its own."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.config.places import groups, is_installed, root
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.files import write_text
from ccsweep.study import front
from ccsweep.study.alone import trials_of
from ccsweep.study.folder import TrialFolder
from ccsweep.study.notes import notes, study_notes
from ccsweep.tasks.experiment import experiment, settings_in
from ccsweep.tasks.sweep_status import existing
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_NAME = re.compile(r"\w[\w.+-]*")  # what Hydra takes as an option without quotes


def export(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Write the trial that ``pick`` asks for as an experiment file; returns its number, path and command.

    ``to`` is the name of an experiment, or a path (with a slash, or ending in .yaml); null: the study's
    name and the trial's number. A file that exists is left alone.

    Args:
        config: ``sweep.name``, ``sweep.storage``, ``pick`` and ``to`` are read.
        folder: not needed.
        overrides: not needed.

    Raises:
        UserError: no such study, a pick that nothing satisfies, or a path that cannot be written.
    """
    place, study = existing(config)
    definition = study_notes(study).definition
    objectives = definition.aims
    trial = front.pick(trials_of(study), config.pick, objectives, place.read_confirmed())
    path = _path(config.to, f"{study.study_name}-trial{trial.number}")
    known = notes(trial)
    trained = known.place(place)
    ran = None if trained is None else settings_in(trained)
    found = experiment(definition.base, known.overrides or [], ran)
    command = command_of(path)
    text = found.text([*_comment(study, trial, objectives, command), *_origin(study, trial, config.pick)])
    if path.exists():
        raise UserError(f"to={path}: exists already; give another name with to=NAME, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"to={path}: cannot be written ({error.strerror}); choose another path") from error
    print(f"trial {trial.number} of {study.study_name}: {_figures(trial, objectives)}")
    print(f"{'file':8}{path}")
    print(f"{'run it':8}{command}")
    return {"task": config.task, "trial": trial.number, "path": str(path), "command": command}


def command_of(path: Path) -> str:
    """The command that runs the file at ``path``; outside ``conf/`` its folder is a group of its own."""
    if path.parent == root() / "conf" / "experiment":
        return shlex.join(["python", "-m", "ccsweep", f"+experiment={path.stem}"])
    place, group = path.parent.parent, path.parent.name
    return shlex.join(["python", "-m", "ccsweep", "--config-dir", str(place), f"+{group}={path.stem}"])


def _experiments() -> Path:
    """Where exported experiments go: to the others in a checkout, beside the user's work otherwise."""
    return (Path.cwd() if is_installed() else root()) / "conf" / "experiment"


def _path(to: str | None, otherwise: str) -> Path:
    name = otherwise if to is None else to
    path = _experiments() / f"{name}.yaml"
    if to is not None and ("/" in to or to.endswith(".yaml")):
        path = Path(to).expanduser().absolute()
        path = path if path.suffix == ".yaml" else path.parent / f"{path.name}.yaml"  # also of /
        group = path.parent.name
        if not group:
            raise UserError(f"to={to}: a file at the top of the disk has no group to run as; choose a folder")
        if path.parent != _experiments() and group in {*groups(), "hydra"}:
            raise UserError(
                f"to={to}: it would run as +{group}={path.stem}, and +{group}= means something else here; "
                "choose another folder"
            )
    if not _NAME.fullmatch(path.stem):
        shown = path.stem if to is None else to or repr(to)
        raise UserError(f"to={shown}: expected a name of letters, digits, '-', '_' and '.', or a path")
    return path


def _comment(study: "Study", trial: "FrozenTrial", objectives: front.Objectives, command: str) -> list[str]:
    return [
        f"Trial {trial.number} of the study {study.study_name}: {_figures(trial, objectives)}.",
        f"  {command}",
    ]


def _origin(study: "Study", trial: "FrozenTrial", pick: str) -> list[str]:
    known = study_notes(study)
    facts = {"run": notes(trial).run_id, "code": known.commit, "study": known.command}
    origin = "; ".join(
        f"{key}: {mask(' '.join(str(value).split()))}"
        for key, value in facts.items()
        if value not in (None, "", "unknown")
    )
    return [f"Written by task=export pick={pick}. {origin}".rstrip()]


def _figures(trial: "FrozenTrial", objectives: front.Objectives) -> str:
    """As in ``validation_error 1.39, measured_speedup_batch1 4.8 (n = 10,000 validation images, seed 0)``."""
    report = notes(trial).report
    figures = ", ".join(f"{key} {value:.6g}" for key, value in zip(objectives, trial.values, strict=True))
    asides = []
    if isinstance(n := report.get("samples.validation"), int):
        asides.append(f"n = {n:,} validation images")
    if "seed" in report:
        asides.append(f"seed {report['seed']}")
    return figures + (f" ({', '.join(asides)})" if asides else "")
