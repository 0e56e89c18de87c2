"""What becomes of trials: how they are counted, ended, tried again and reused.

User attributes of a trial, beside Optuna's own fields: ``overrides``, ``hash``, ``folder``, ``worker``,
``run_id``, ``ranks``, ``report``, ``seconds``; ``cause`` and ``kind`` of one that did not complete;
``retry_of`` and ``attempt`` of one that repeats another; ``reuses`` of one that another was computed for;
``point`` of one that the command asked for; ``excused`` of one that its worker was not to blame for.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, Trial, TrialState

from ccsweep.study.objectives import BadResult, Constraint, figure, flat
from ccsweep.study.space import Params

if TYPE_CHECKING:
    from optuna import Study

TRIAL, MACHINE, PRUNED, STOPPED = "trial", "machine", "pruned", "stopped"
"""Kinds of ends: its own fault (final), the machine's (tried again), pruned, or stopped by someone."""

_RESULTS = ("report", "ranks", "run_id")


@dataclass(frozen=True)
class Tally:
    """How far a study is."""

    done: int
    """Trials that count: complete, pruned or failed for good; not those that reused a result."""
    running: int
    waiting: int
    reused: int
    failed: int
    """Failed for good."""


def tally(trials: Sequence[FrozenTrial]) -> Tally:
    """Count the trials of a study."""
    last = last_attempts(trials)
    done = running = waiting = reused = failed = 0
    for trial in trials:
        attrs = trial.user_attrs
        if "reuses" in attrs:
            reused += 1
        elif trial.state == TrialState.RUNNING:
            running += attrs.get("held") is None
        elif trial.state == TrialState.WAITING:
            waiting += 1
        elif trial.state != TrialState.FAIL:
            done += 1
        elif is_final(trial, last):
            done += 1
            failed += 1
    return Tally(done, running, waiting, reused, failed)


def last_attempts(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """The number of the last attempt at each point, by the number of the first."""
    last: dict[int, int] = {}
    for trial in trials:
        last[trial.user_attrs.get("retry_of", trial.number)] = trial.number
    return last


def is_final(trial: FrozenTrial, last: Mapping[int, int]) -> bool:
    """Whether a failed trial stays failed: it was not stopped, and nothing was tried after it."""
    attrs = trial.user_attrs
    return attrs.get("kind") != STOPPED and last[attrs.get("retry_of", trial.number)] == trial.number


def failed_for_good(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that failed and are not tried again."""
    last = last_attempts(trials)
    return [t for t in trials if t.state == TrialState.FAIL and is_final(t, last)]


def complete(
    trial: Trial, report: Mapping[str, Any], objectives: Mapping[str, str], constraints: Sequence[Constraint]
) -> bool:
    """Record the result of a trial; one without usable figures has failed. Whether it is complete."""
    trial.set_user_attr("report", flat(report))
    for key in ("ranks", "run_id"):
        if report.get(key) is not None:
            trial.set_user_attr(key, report[key])
    try:
        values = [figure(report, key) for key in objectives]
        broken = {c.text: c.violation(figure(report, c.key)) for c in constraints}
    except BadResult as bad:
        fail(trial, TRIAL, str(bad))
        return False
    for name, value in broken.items():
        trial.set_constraint(name, value)
    trial.study.tell(trial, values)
    return True


def prune(trial: Trial, cause: str) -> None:
    """Record that a trial was ended early because it was not worth going on."""
    trial.set_user_attr("cause", cause)
    trial.set_user_attr("kind", PRUNED)
    trial.study.tell(trial, state=TrialState.PRUNED)


def reuse(trial: Trial, twin: FrozenTrial) -> None:
    """Give a trial the result of an earlier one with the same settings."""
    for key in (*_RESULTS, "cause", "kind"):
        if key in twin.user_attrs:
            trial.set_user_attr(key, twin.user_attrs[key])
    trial.set_user_attr("reuses", twin.number)
    if twin.state == TrialState.PRUNED:
        trial.study.tell(trial, state=TrialState.PRUNED)
        return
    for name, value in twin.constraints.items():
        trial.set_constraint(name, value)
    trial.study.tell(trial, twin.values)


def fail(trial: Trial, kind: str, cause: str, retries: int = 0, excused: bool = False) -> None:
    """Record why a trial failed, and try its point again where that is due.

    Args:
        trial: a running one.
        kind: ``TRIAL``, ``MACHINE`` or ``STOPPED``.
        cause: one line.
        retries: how often a point may be tried again because of the machine.
        excused: this time is not counted.
    """
    trials = trial.study.get_trials(deepcopy=False)
    if kind == MACHINE and not _is_known(trials[trial.number]):
        kind = STOPPED  # nobody knows what it was to try
    trial.set_user_attr("cause", cause)
    trial.set_user_attr("kind", kind)
    if excused:
        trial.set_user_attr("excused", True)
    if kind == MACHINE:
        first = trial.user_attrs.get("retry_of", trial.number)
        before = [t for t in trials if t.user_attrs.get("retry_of", t.number) == first]
        counted = [t for t in before if _counts(t) and t.number < trial.number]
        if excused or len(counted) < retries:
            # First the new attempt, then the end of this one: who is killed in between loses nothing.
            try_again(trial.study, trials[trial.number], trials)
    trial.study.tell(trial, state=TrialState.FAIL)


def try_again(study: "Study", trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
    """Put the point of a trial into the queue, unless that was done; a trial without one is let go."""
    attrs = trial.user_attrs
    first = attrs.get("retry_of", trial.number)
    if last_attempts(trials)[first] != trial.number:
        return
    again = {"retry_of": first, "attempt": attrs.get("attempt", 0) + 1}
    if "point" in attrs:
        again["point"] = attrs["point"]
    if _is_known(trial):
        study.enqueue_trial(params_of(trial), user_attrs=again)


def params_of(trial: FrozenTrial) -> Params:
    """What a trial tries, as far as it is known: one that waits has only what was fixed for it."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def enqueue_points(study: "Study", points: Iterable[Params]) -> None:
    """Put points that are not in the study yet into its queue."""
    known = {t.user_attrs["point"] for t in study.get_trials(deepcopy=False) if "point" in t.user_attrs}
    for point in points:
        name = json.dumps(point, sort_keys=True)
        if name not in known:
            study.enqueue_trial(point, user_attrs={"point": name})


def running(study: "Study", trial: FrozenTrial) -> Trial:
    """A handle on a trial that another process began."""
    return Trial(study, trial._trial_id)


def _is_known(trial: FrozenTrial) -> bool:
    """Whether it is known what a trial tries; a grid of one point has no parameters."""
    return bool(params_of(trial)) or "point" in trial.user_attrs


def _counts(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("kind") == MACHINE and "excused" not in trial.user_attrs
