"""Every trial of a study as a row of plain values: for its page, for scripts and for notebooks."""

from collections.abc import Sequence
from dataclasses import fields
from math import isfinite
from typing import Any, TypeAlias

from optuna.trial import FrozenTrial

from ccsweep.report.study.standing import cause_of
from ccsweep.study import front
from ccsweep.study.front import Objectives
from ccsweep.study.notes import Notes, notes
from ccsweep.study.trials import params_of, sort
from ccsweep.tracking.mask import mask

Row: TypeAlias = "dict[str, str | int | float | bool | None]"
RANKS = "ranks.layers."


def rows(trials: Sequence[FrozenTrial], objectives: Objectives) -> list[Row]:
    """One a trial, in the order of their numbers, all with the same keys.

    A key is an objective, a number of the report, a parameter as the space names it, or one of ``trial``,
    ``state`` (a list of :class:`~ccsweep.study.trials.Sorted`), ``front``, ``ranks`` (the paper's
    notation; each layer's number is under ``ranks.layers.0`` and so on), ``run``, ``folder`` and ``cause``.

    Args:
        trials: of the study, settled.
        objectives: of the study.
    """
    kinds = sort(trials)
    states = {trial.number: f.name for f in fields(kinds) for trial in getattr(kinds, f.name)}
    best = {trial.number for trial in front.pareto(trials, objectives)}
    ordered = sorted(trials, key=lambda trial: trial.number)
    found = [_row(t, states[t.number], t.number in best, objectives) for t in ordered]
    keys = dict.fromkeys(key for row in found for key in row)
    return [{key: row.get(key) for key in keys} for row in found]


def _row(trial: FrozenTrial, state: str, is_best: bool, objectives: Objectives) -> Row:
    known = notes(trial)
    values = dict(zip(objectives, trial.values or (), strict=False))
    numbers = {**{key: value for key, value in known.report.items() if _is_number(value)}, **values}
    params = {key.lstrip("+"): _plain(value) for key, value in params_of(trial).items()}
    return {
        "trial": trial.number,
        "state": state,
        "front": is_best,
        **{key: numbers[key] for key in (*objectives, *numbers) if key in numbers and isfinite(numbers[key])},
        "seconds": numbers.get("seconds", known.seconds),
        **params,
        "ranks": known.ranks,
        **_ranks(known),
        "run": known.run_id,
        "folder": known.folder,
        "cause": None if known.cause is None else cause_of(trial),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str | int | float | bool | None:
    return mask(value) if isinstance(value, str) else value


def _ranks(known: Notes) -> dict[str, int]:
    """``50-35-25`` as numbers; none for the control, nor for ranks that are a share."""
    parts = (known.ranks or "").split("-")
    return {f"{RANKS}{i}": int(part) for i, part in enumerate(parts) if part.isdigit()}
