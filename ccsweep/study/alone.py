"""Speeds as they are alone; what a study measures while its other workers train only says who is a candidate.

At a study's end the candidates for its front are timed again, alone on the machine. A finished trial cannot
be changed in the storage, so these speeds are notes of the study, and everyone who looks at its trials takes
them from :func:`settled`.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial

from ccsweep.figures import MEASURED, ahead, high, in_study, low, measured
from ccsweep.study.front import Objectives, counted, is_feasible, pareto
from ccsweep.study.notes import StudyNotes, notes, study_notes

if TYPE_CHECKING:
    from optuna import Study

Speeds = Mapping[str, Sequence[float]]
"""By key of the report: the speed-up and the ends of its interval."""


def trials_of(study: "Study") -> list[FrozenTrial]:
    """All trials of a study, :func:`settled`."""
    known = study_notes(study)
    found = settled(study.get_trials(deepcopy=False), known.definition.aims, _alone(known))
    return [trial if is_comparable(trial, known) else _out(trial, known) for trial in found]


def is_comparable(trial: FrozenTrial, known: StudyNotes) -> bool:
    """Whether the trial's speeds are of the type of CPU that ``sweep.timing_on`` asks for."""
    return not _is_timed(known) or is_on(known.timing_on, timed_on(trial, known))


def is_on(asked: str | None, cpu: str | None) -> bool:
    """Whether a CPU is of the type that ``sweep.timing_on`` asks for: a part of its name, null any."""
    return asked is None or (cpu is not None and asked.lower() in cpu.lower())


def timed_on(trial: FrozenTrial, known: StudyNotes) -> str | None:
    """The type of CPU that the speeds of a trial are of; None for one that is not known."""
    number = str(trial.number)
    return known.alone_on.get(number) if number in _alone(known) else notes(trial).report.get("cpu")


def mixture(study: "Study") -> str | None:
    """One line, if speeds on the front were measured on several types of CPU, which compare little."""
    known = study_notes(study)
    if not _is_timed(known):
        return None
    best = pareto(trials_of(study), known.definition.aims)
    counts = Counter(cpu for trial in best if (cpu := timed_on(trial, known)) is not None)
    if len(counts) < 2:
        return None
    listed = ", ".join(f"{cpu} ({count} trials)" for cpu, count in counts.most_common())
    return (
        f"speeds on the front were measured on {len(counts)} types of CPU and compare little: {listed}; "
        "sweep.timing_on=TYPE keeps those of one"
    )


def _is_timed(known: StudyNotes) -> bool:
    """Whether the study aims at something that was measured by the clock."""
    return any(key in (measured(n).key, ahead(n).key) for key in known.definition.aims for n in MEASURED)


def _alone(known: StudyNotes) -> dict[str, dict[str, list[float]]]:
    """The speeds measured alone, on the type of CPU that is asked for."""
    on = known.alone_on
    return {n: speeds for n, speeds in known.alone.items() if is_on(known.timing_on, on.get(n))}


def _out(trial: FrozenTrial, known: StudyNotes) -> FrozenTrial:
    """A copy of a trial that keeps not one constraint more: that its speeds are of the right type of CPU."""
    changed = copy.copy(trial)
    changed.system_attrs = {**trial.system_attrs, f"constraints:timed on {known.timing_on}": 1.0}
    return changed


def settled(
    trials: Sequence[FrozenTrial], objectives: Objectives, alone: Mapping[str, Speeds]
) -> list[FrozenTrial]:
    """Copies of ``trials`` with the speeds that were measured alone in place of the study's.

    The study's own stay beside them in the report, as ``measured_speedup_batch1_in_study``. The busy machine
    flattered all trials or none: the others' speeds are taken down, or up, by the median of what those
    that were timed again lost.

    Args:
        trials: of the study.
        objectives: of the study.
        alone: speeds by the trials' numbers.
    """
    lost: dict[str, list[float]] = {}
    for trial in counted(trials):
        for key, (value, *_) in alone.get(str(trial.number), {}).items():
            if key in notes(trial).report:
                lost.setdefault(key, []).append(value / notes(trial).report[key])
    shares = {key: median(ratios) for key, ratios in lost.items()}
    return [_settled(trial, objectives, alone.get(str(trial.number)), shares) for trial in trials]


def _settled(
    trial: FrozenTrial, objectives: Objectives, own: Speeds | None, shares: Mapping[str, float]
) -> FrozenTrial:
    report = dict(notes(trial).report)
    for key, share in shares.items():
        if own is None and key in report:
            report[in_study(key)] = report[key]
            for name in (key, low(key), high(key)):
                if name in report:
                    report[name] *= share
    for key, (value, least, greatest) in (own or {}).items():
        if key in report:
            report[in_study(key)] = report[key]
        report |= {key: value, low(key): least, high(key): greatest}
    if report == notes(trial).report:
        return trial
    changed = copy.copy(trial)
    changed.user_attrs = {**trial.user_attrs, "report": report}
    if trial.values:
        changed.values = [
            report[key] if in_study(key) in report else value
            for key, value in zip(objectives, trial.values, strict=True)
        ]
    return changed


def reaching(trials: Sequence[FrozenTrial], objectives: Objectives) -> list[FrozenTrial]:
    """The front, and all trials whose intervals reach it.

    A trial is out only if another one at its worst is as good as it at its best, and better in something.

    Args:
        trials: settled.
        objectives: of the study.
    """
    feasible = [trial for trial in counted(trials) if is_feasible(trial)]
    if not feasible:
        return []
    ends = np.array([[ends_of(t, key, place) for place, key in enumerate(objectives)] for t in feasible])
    signs = np.array([1 if way == "minimize" else -1 for way in objectives.values()])
    losses = ends * signs[None, :, None]
    best, worst = losses.min(axis=2), losses.max(axis=2)
    kept = []
    for trial, at_best in zip(feasible, best, strict=True):
        beaten = ((worst <= at_best).all(axis=1) & (worst < at_best).any(axis=1)).any()
        if not beaten:
            kept.append(trial)
    return kept


def due(study: "Study") -> list[FrozenTrial]:
    """The trials that are yet to be timed alone, of those that trained a network."""
    known = study_notes(study)
    alone = _alone(known)
    now = settled(study.get_trials(deepcopy=False), known.definition.aims, alone)
    wanted = {
        t.number: t for t in (*reaching(now, known.definition.aims), *pareto(now, known.definition.aims))
    }
    return [t for number, t in sorted(wanted.items()) if str(number) not in alone and _ran(t)]


def _ran(trial: FrozenTrial) -> bool:
    known = notes(trial)
    return known.run_id is not None and known.folder is not None


def ends_of(trial: FrozenTrial, key: str, place: int) -> tuple[float, float]:
    """The interval of the objective ``key``, ``place`` of the values; else twice its value."""
    report, value = notes(trial).report, trial.values[place]
    return float(report.get(low(key), value)), float(report.get(high(key), value))
