"""What becomes of trials: how they are sorted, how they end, and when their points are tried again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, Trial, TrialState

from ccsweep.study.front import by_end
from ccsweep.study.notes import Kind, Notes, note, notes
from ccsweep.study.objectives import BadResult, Constraint, figure, flat
from ccsweep.study.space import Params

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Sorted:
    """The trials of a study by what became of them, each list in the order of their numbers."""

    complete: list[FrozenTrial] = field(default_factory=list)
    reused: list[FrozenTrial] = field(default_factory=list)
    """Points met again: told the result of the first time, and not counted."""
    pruned: list[FrozenTrial] = field(default_factory=list)
    failed: list[FrozenTrial] = field(default_factory=list)
    """For good: by their own fault, or by the machine's without another try."""
    retried: list[FrozenTrial] = field(default_factory=list)
    """Failed by the machine's fault, and tried again as another trial."""
    stopped: list[FrozenTrial] = field(default_factory=list)
    """By whoever stopped the sweep."""
    running: list[FrozenTrial] = field(default_factory=list)
    held: list[FrozenTrial] = field(default_factory=list)
    """Begun, and waiting for another worker's result of the same point."""
    waiting: list[FrozenTrial] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many count towards the target."""
        return len(self.complete) + len(self.pruned) + len(self.failed)

    @property
    def finished(self) -> list[FrozenTrial]:
        """Those that count, in the order in which they ended."""
        return by_end([*self.complete, *self.pruned, *self.failed])


def sort(trials: Iterable[FrozenTrial]) -> Sorted:
    """Sort the trials of a study by what became of them."""
    by_number = sorted(trials, key=lambda trial: trial.number)
    last = last_attempts(trial for trial in by_number if "retry_of" in trial.user_attrs)
    places = Sorted()
    for trial in by_number:
        getattr(places, _place(trial, last)).append(trial)
    return places


_PLACES = {state: state.name.lower() for state in TrialState}  # asking a state for its name takes its time


def _place(trial: FrozenTrial, last: Mapping[int, int]) -> str:
    """The list of :class:`Sorted` that a trial belongs to."""
    known = trial.user_attrs  # and not its notes: workers sort thousands of trials before each of theirs
    if known.get("reuses") is not None:
        return "reused"
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.RUNNING:
        return "running" if known.get("held") is None else "held"
    if trial.state != TrialState.FAIL:
        return _PLACES[trial.state]
    if known.get("kind") == Kind.STOPPED:
        return "stopped"
    return "failed" if last.get(first_attempt(trial), trial.number) == trial.number else "retried"


def first_attempt(trial: FrozenTrial) -> int:
    """The number of the trial that was the first at this one's point."""
    first: int | None = trial.user_attrs.get("retry_of")
    return trial.number if first is None else first


def last_attempts(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """The number of the last attempt at each point, by the number of the first."""
    return {first_attempt(trial): trial.number for trial in trials}


@dataclass(frozen=True)
class Completed:
    """A trial that ran to its end."""

    report: Mapping[str, Any]


@dataclass(frozen=True)
class Reused:
    """A trial that another one was computed for."""

    twin: FrozenTrial


@dataclass(frozen=True)
class EndedEarly:
    """A trial that was ended early because it was not worth going on with."""

    cause: str


@dataclass(frozen=True)
class Failed:
    """A trial without a result."""

    kind: Kind
    cause: str
    """In one line."""
    excused: bool = False
    """This time does not count among its point's tries."""


Ending = Completed | Reused | EndedEarly | Failed
"""How a trial ended."""


@dataclass(frozen=True)
class Rules:
    """What a study asks of a result."""

    objectives: Mapping[str, str]
    constraints: Sequence[Constraint]
    retries: int
    """How often a point may be tried again because of the machine."""


def tell(trial: Trial, ending: Ending, rules: Rules) -> None:
    """Record how a trial ended; a result without usable figures is a failure of its own.

    Raises:
        ValueError, UpdateFinishedTrialError: the trial has ended already.
    """
    match ending:
        case Completed(report):
            _complete(trial, report, rules)
        case Reused(twin):
            _reuse(trial, twin)
        case EndedEarly(cause):
            note(trial, Notes(cause=cause, kind=Kind.PRUNED))
            trial.study.tell(trial, state=TrialState.PRUNED)
        case Failed():
            _fail(trial, ending, rules.retries)


def _complete(trial: Trial, report: Mapping[str, Any], rules: Rules) -> None:
    note(trial, Notes(report=flat(report), ranks=report.get("ranks"), run_id=report.get("run_id")))
    try:
        values = [figure(report, key) for key in rules.objectives]
        broken = {c.text: c.violation(figure(report, c.key)) for c in rules.constraints}
    except BadResult as bad:
        _fail(trial, Failed(Kind.TRIAL, str(bad)), rules.retries)
        return
    for name, value in broken.items():
        trial.set_constraint(name, value)
    trial.study.tell(trial, values)


def _reuse(trial: Trial, twin: FrozenTrial) -> None:
    known = notes(twin)
    result = Notes(
        report=known.report, ranks=known.ranks, run_id=known.run_id, cause=known.cause, kind=known.kind
    )
    note(trial, result)
    note(trial, Notes(reuses=twin.number))
    if twin.state == TrialState.PRUNED:
        trial.study.tell(trial, state=TrialState.PRUNED)
        return
    for name, value in twin.constraints.items():
        trial.set_constraint(name, value)
    trial.study.tell(trial, twin.values)


def _fail(trial: Trial, ending: Failed, retries: int) -> None:
    trials = trial.study.get_trials(deepcopy=False)
    frozen = trials[trial.number]
    kind = ending.kind
    if kind == Kind.MACHINE and not _is_known(frozen):
        kind = Kind.STOPPED  # nobody knows what it was to try
    note(trial, Notes(cause=ending.cause, kind=kind, excused=ending.excused))
    if kind == Kind.MACHINE and (ending.excused or _counted_attempts(frozen, trials) < retries):
        # First the new attempt, then the end of this one: who is killed in between loses nothing.
        try_again(trial.study, frozen, trials)
    trial.study.tell(trial, state=TrialState.FAIL)


def _counted_attempts(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> int:
    """How often the trial's point failed before because of the machine, without an excuse."""
    first = first_attempt(trial)
    before = [notes(t) for t in trials if first_attempt(t) == first and t.number < trial.number]
    return sum(known.kind == Kind.MACHINE and not known.excused for known in before)


def try_again(study: "Study", trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> None:
    """Put the point of a trial into the queue, unless that was done; a trial without one is let go."""
    first, known = first_attempt(trial), notes(trial)
    if last_attempts(trials)[first] != trial.number or not _is_known(trial):
        return
    again = {"retry_of": first, "resumes": trial.number, "attempt": known.attempt + 1}
    if known.point is not None:
        again["point"] = known.point  # type: ignore[assignment]
    study.enqueue_trial(params_of(trial), user_attrs=again)


def params_of(trial: FrozenTrial) -> Params:
    """What a trial tries, as far as it is known: one that waits has only what was fixed for it."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def enqueue_points(study: "Study", points: Iterable[Params]) -> None:
    """Put points that are not in the study yet into its queue."""
    known = {trial.user_attrs.get("point") for trial in study.get_trials(deepcopy=False)}
    for point in points:
        name = json.dumps(point, sort_keys=True)
        if name not in known:
            study.enqueue_trial(point, user_attrs={"point": name})


def handle(study: "Study", trial: FrozenTrial) -> Trial:
    """A handle on a trial that another process began."""
    return Trial(study, trial._trial_id)


def _is_known(trial: FrozenTrial) -> bool:
    """Whether it is known what a trial tries; a grid of one point has no parameters."""
    return bool(params_of(trial)) or notes(trial).point is not None
