"""``task=sweep_status``: how far a study is, how fast, what failed and how long it will still take.

Reads the storage and the workers' leases only, so it can be asked while the sweep runs, from another
shell or another host, and afterwards.
"""

import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ccsweep.config.schema import Config
from ccsweep.study import front
from ccsweep.study.alone import mixture, trials_of
from ccsweep.study.folder import StudyFolder, TrialFolder, study_folder
from ccsweep.study.notes import notes, study_notes
from ccsweep.study.storage import open_study
from ccsweep.study.trials import sort
from ccsweep.sweep.cluster.claim import sweeping
from ccsweep.sweep.lease import Contents, at_work
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from ccsweep.report.study.standing import Standing

_HEIGHT = 60  # lines


def sweep_status(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Print how the study ``sweep.name`` stands; returns the same figures.

    For programs, with ``format``, it prints nothing but one JSON object of these figures and all ``trials``,
    or the trials alone as CSV with a header: see :mod:`ccsweep.report.study.rows`.

    Args:
        config: its ``sweep.name`` is a name in ``outputs/sweeps`` or a path, its ``sweep.storage`` the URL of
            a study that is kept elsewhere.
        folder: not needed.
        overrides: not needed.

    Raises:
        UserError: no such study, or its storage does not answer.
    """
    from ccsweep.report.study.standing import standing

    place, study = existing(config)
    trials, known = trials_of(study), study_notes(study)
    workers = at_work(place) or _elsewhere(study, trials)
    now = standing(trials, known.definition.aims, known.n_trials, len(workers))
    found = _figures(config, place, study, now, workers)
    if config.format is None:
        _show(place, study, now, workers, config.tracking.uri)
    else:
        _print(config.format, found, trials, known.definition.aims)
    return found


def _show(
    place: StudyFolder, study: "Study", now: "Standing", workers: list[Contents], uri: str | None
) -> None:
    """For people."""
    from ccsweep.report import following
    from ccsweep.report.canvas import terminal
    from ccsweep.report.study.live import render
    from ccsweep.report.study.standing import cause_of

    known = study_notes(study)
    console = terminal(width=120)

    def say(text: str, style: str = "") -> None:
        console.print(text, markup=False, style=style, soft_wrap=True)

    say(f"\n{study.study_name}", style="bold")
    console.print(render(now, console.width, _HEIGHT, workers), soft_wrap=True)
    for trial in now.failed:
        say(f"trial {trial.number} failed: {cause_of(trial)}")
    if (mixed := mixture(study)) is not None:
        say(mixed)
    target = known.n_trials
    is_grid = known.definition.is_grid  # where a point may stand twice
    if not workers and now.running:
        say(f"nobody is at work on {len(now.running)} trials that were begun; the command below mends that")
    if workers:
        say(f"at work: {', '.join(str(lease.get('id')) for lease in workers)}")
    elif (host := sweeping(study)) is not None:
        say(f"at work: a sweeper on {host}")
    elif target is not None and now.done + (len(now.reused) if is_grid else 0) < target:
        say(f"not running; go on with: {mask(known.command)}")
    else:
        for line in following.lines(study, place, uri):
            say(line)
    if place.path.exists():
        say(f"{'folder':8}{place.path.absolute()}" + (f" ({place.page.name})" if place.page.exists() else ""))
    else:
        say(f"{'folder':8}{known.folder} on {known.host}")


def _elsewhere(study: "Study", trials: "Sequence[FrozenTrial]") -> list[Contents]:
    """Workers that only the storage knows: its sweeper is at work on another host, whose disk is not seen."""
    if sweeping(study) is None:
        return []
    names = {str(notes(trial).worker) for trial in sort(trials).running}
    return [{"id": name} for name in sorted(names)]


def _print(kind: str, found: dict[str, Any], trials: "Sequence[FrozenTrial]", aims: front.Objectives) -> None:
    """For programs."""
    from ccsweep.report.study.rows import rows

    listed = rows(trials, aims)
    if kind == "json":
        print(json.dumps({**found, "trials": listed}, indent=2))
        return
    table = csv.DictWriter(sys.stdout, list(listed[0]) if listed else ["trial"], lineterminator="\n")
    table.writeheader()
    table.writerows(listed)


def _figures(
    config: Config, place: StudyFolder, study: "Study", now: "Standing", workers: list[Contents]
) -> dict[str, Any]:
    return {
        "task": config.task,
        "study": study.study_name,
        "folder": str(place.path.absolute()),
        "target": now.target,
        "done": now.done,
        "complete": len(now.complete),
        "failed": len(now.failed),
        "pruned": len(now.pruned),
        "reused": len(now.reused),
        "running": len(now.running),
        "workers": len(workers),
        "seconds_per_trial": now.mean_seconds,
        "seconds_left": now.seconds_left if workers else None,
        "front": [trial.number for trial in front.pareto(now.complete, now.objectives)],
        "causes": dict(now.causes),
    }


def existing(config: Config) -> tuple[StudyFolder, "Study"]:
    """Folder and study that the config names.

    Raises:
        UserError: no such study, or its storage does not answer.
    """
    place = study_folder(config)
    return place, open_study(place, config.sweep.storage)
