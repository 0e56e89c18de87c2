"""How a study stands: what became of its trials, its pace, and trials in words.

What the live table, the page and ``task=sweep_status`` share; pure functions over Optuna's trials.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from optuna.trial import FrozenTrial

from ccsweep.study.front import Objectives
from ccsweep.study.notes import notes
from ccsweep.study.trials import Sorted, params_of, sort
from ccsweep.tracking.mask import mask

_LONG = re.compile(r"\d+\.\d{4,}(?:e[+-]?\d+)?")
_RECENT = 20  # trials that time left is reckoned from: pace changes where a sampler finds larger networks


@dataclass(frozen=True, kw_only=True)
class Standing(Sorted):
    """Trials by what became of them, and how fast they come."""

    objectives: Objectives
    target: int | None
    """How many trials are asked for; None for a grid whose size is not known here."""
    workers: int
    """At work, at least one."""
    now: datetime

    @property
    def mean_seconds(self) -> float | None:
        """Of the last finished trials; None before the first."""
        times = [seconds_of(trial) for trial in self.finished[-_RECENT:]]
        known = [seconds for seconds in times if seconds is not None]
        return fmean(known) if known else None

    @property
    def hourly(self) -> float | None:
        """Trials an hour with all workers busy; None before the first has finished."""
        mean = self.mean_seconds
        return 3600 * self.workers / mean if mean else None

    @property
    def seconds_left(self) -> float | None:
        """Until the target, from the mean time of a trial and the number of workers; None if unknown."""
        if self.target is None or (mean := self.mean_seconds) is None:
            return None
        missing = max(0, self.target - self.done)
        under_way = self.running[:missing]
        began = [trial.datetime_start or self.now for trial in under_way]
        spent = sum(min((self.now - start).total_seconds(), mean) for start in began)
        # The last ones run side by side: no end is nearer than the mean of what one still needs.
        longest = max((mean - (self.now - start).total_seconds() for start in began), default=0.0)
        if missing > len(under_way):
            longest = mean
        return max((missing * mean - spent) / max(1, min(self.workers, missing)), longest, 0.0)

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Why trials failed, the most frequent cause first, with how often."""
        return Counter(map(cause_of, self.failed)).most_common()


def standing(
    trials: Sequence[FrozenTrial],
    objectives: Objectives,
    target: int | None,
    workers: int,
    now: datetime | None = None,
) -> Standing:
    """Sort ``trials`` by what became of them.

    Args:
        trials: all of the study.
        objectives: of the study.
        target: how many are asked for.
        workers: how many are at work.
        now: the present, unless it is another time that is looked at.
    """
    return Standing(
        **vars(sort(trials)),
        objectives=objectives,
        target=target,
        workers=max(1, workers),
        now=now or datetime.now(),
    )


def counts(now: Standing) -> str:
    """As in ``14 of 30 trials done, 2 running, 1 failed, 1 pruned, 1 reused``; what is zero goes unsaid."""
    target = "" if now.target is None else f" of {now.target}"
    words = {
        "running": now.running,
        "failed": now.failed,
        "pruned": now.pruned,
        "reused": now.reused,
        "retried": now.retried,
        "stopped": now.stopped,
    }
    others = [f"{len(those)} {word}" for word, those in words.items() if those]
    return ", ".join([f"{now.done}{target} trials done", *others])


def pace(now: Standing, running: bool = True) -> str:
    """As in ``152 s a trial, 47 an hour with 2 workers, about 23 min left``.

    Args:
        now: how the study stands.
        running: whether someone is at work; what is left needs a worker.
    """
    if (mean := now.mean_seconds) is None:
        return "no trial has finished yet"
    words = [f"{duration(mean)} a trial"]
    if running and (hourly := now.hourly) is not None:
        several = "worker" if now.workers == 1 else "workers"
        words.append(f"{_rate(hourly)} with {now.workers} {several}")
    if (
        running
        and (left := now.seconds_left) is not None
        and now.target is not None
        and now.done < now.target
    ):
        words.append(f"about {duration(left)} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """As in ``0.4 s``, ``42 s``, ``4 min 10 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        big, small = f"{days} d", f"{hours % 24} h"
    elif hours:
        big, small = f"{hours} h", f"{minutes % 60} min"
    else:
        big, small = f"{minutes} min", f"{whole % 60} s"
    return big if small.startswith("0 ") else f"{big} {small}"


def seconds_of(trial: FrozenTrial) -> float | None:
    """How long the trial ran; None while it runs."""
    if (noted := notes(trial).seconds) is not None:
        return noted
    return None if trial.duration is None else trial.duration.total_seconds()


def settings_of(trial: FrozenTrial) -> str:
    """The trial's own overrides on one line, without passwords."""
    overrides = notes(trial).overrides
    if overrides is None:  # not drawn yet
        overrides = [f"{key}={value}" for key, value in params_of(trial).items()]
    return mask(" ".join(overrides))


def shortened(settings: str) -> str:
    """Settings to look at, not to run again: four digits of each long number.

    >>> shortened("training.l1=2.1544346900318823e-05 ranks=50-35-25")
    'training.l1=2.154e-05 ranks=50-35-25'
    """
    return _LONG.sub(lambda number: f"{float(number[0]):.4g}", settings)


def cause_of(trial: FrozenTrial) -> str:
    """Why it failed, was pruned or was stopped: one line without passwords."""
    return mask(" ".join((notes(trial).cause or "no cause was recorded").split()))


def ranks_of(trial: FrozenTrial) -> str:
    """In the paper's notation; ``-`` for a trial that never got as far."""
    return notes(trial).ranks or "-"


def run_of(trial: FrozenTrial) -> str:
    """The first characters of its run's id, enough to name it; ``-`` for none."""
    return (notes(trial).run_id or "-")[:8]


def _rate(hourly: float) -> str:
    return f"{hourly / 60:.1f} a minute" if hourly >= 120 else f"{hourly:.3g} an hour"
