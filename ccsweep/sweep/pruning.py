"""When a trial is not worth going on with, also where a study has several objectives.

Optuna prunes by one objective only. Here the rule is the study's own, on one declared metric. After epoch
``e`` (3 or later) a trial ends if at least two complete trials

- were better by that metric at the same epoch ``e``, by more than chance: by two standard deviations of the
  difference of two errors on the validation images, ``sqrt(p (1 - p) / n + q (1 - q) / n)``; for a metric
  that is no error, by 10 % of this trial's value;
- and had as little left to compute: their ``speedup_limit`` at epoch ``e``, what the cheapest of the engine's
  four ways leaves to do in each layer (``ccsweep.estimator.cost``), was at least this trial's. A network
  without gates may be fast too, by its zeros; so the limit and not the gates' speed-up.

Before training, the bound ``1 / rank cost``, the theoretical speed-up with no unit computed at all, ends a
trial that cannot keep a constraint on a theoretical speed-up, whatever it learns.
"""

import logging
from collections.abc import Mapping, Sequence
from math import sqrt

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState

from ccsweep.errors import Pruned
from ccsweep.figures import SPEEDUP, TRAINING_SPEEDUP, VALIDATION_ERROR
from ccsweep.study.front import is_feasible
from ccsweep.study.notes import Notes, note, notes
from ccsweep.study.objectives import Constraint
from ccsweep.tracking.outcome import describe

log = logging.getLogger(__name__)

FIRST_EPOCH = 3
BETTER_TRIALS = 2
_DEVIATIONS = 2.0
_SHARE = 0.1
_BOUNDED = (SPEEDUP.key, TRAINING_SPEEDUP.key)
_LIMIT = "speedup_limit"


class Pruner:
    """Listens to a trial's epochs (:mod:`ccsweep.watch`), keeps them and ends the trial where it should.

    Args:
        trial: the one that runs.
        metric: as training logs it, ``validation/error``; None: nothing is kept, only the bound is looked at.
        constraints: of the study.
        before: the epochs that it had behind it when an earlier worker lost it.
        is_objective: whether the metric is the study's only objective: then its sampler and optuna-dashboard
            learn from each epoch (Optuna takes no intermediate values where there are several).
    """

    def __init__(
        self,
        trial: Trial,
        metric: str | None,
        constraints: Sequence[Constraint],
        before: Sequence[list[float]] = (),
        is_objective: bool = False,
    ) -> None:
        self._trial = trial
        self._metric = metric
        self._constraints = constraints
        self._epochs = list(before)
        self._is_objective = is_objective

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Take in the figures of an epoch.

        Raises:
            Pruned: the trial is to end here.
        """
        if "bound" in figures:
            self._check(float(figures["bound"]))
        if self._metric is None or self._metric not in figures:
            return
        value = float(figures[self._metric])
        limit = next((float(figures[k]) for k in figures if k.rpartition("/")[2] == _LIMIT), 1.0)
        self._epochs.append([epoch, value, limit])
        self._keep_epochs()
        try:
            trials = self._trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        except (StorageInternalError, OSError):
            return
        better = dominating(trials, self._metric, epoch, value, limit)
        if epoch >= FIRST_EPOCH and len(better) >= BETTER_TRIALS:
            numbers = ", ".join(str(trial.number) for trial in better[:3])
            raise Pruned(
                f"{self._metric} {value:.4g} at epoch {epoch}: worse than trials {numbers}, "
                "which had no more left to compute"
            )

    def _keep_epochs(self) -> None:
        epoch, value, _ = self._epochs[-1]
        try:
            note(self._trial, Notes(epochs=self._epochs))
            if self._is_objective:
                self._trial.report(value, int(epoch))
        except (StorageInternalError, OSError) as error:  # no reason to end a training
            log.warning("the storage failed: %s", describe(error))

    def _check(self, bound: float) -> None:
        for constraint in self._constraints:
            if constraint.key in _BOUNDED and not constraint.at_most and constraint.limit > bound:
                raise Pruned(f"cannot keep {constraint.text}: these ranks give {bound:.3g} at most")


def dominating(
    trials: Sequence[FrozenTrial], metric: str, epoch: int, value: float, limit: float
) -> list[FrozenTrial]:
    """The trials that were clearly better at the same epoch, with no more left to compute.

    Args:
        trials: complete ones; those that break a constraint beat nobody.
        metric: the name of what ``value`` is, which is in percent if it is the validation error's.
        epoch: at which to compare.
        value: of the trial in question.
        limit: its ``speedup_limit`` then.
    """
    better = []
    for trial in trials:
        known = notes(trial)
        same = next((entry for entry in known.epochs if entry[0] == epoch), None)
        if same is None or known.reuses is not None or same[2] < limit or not is_feasible(trial):
            continue
        theirs = same[1]
        images = known.report.get("samples.validation")
        if value - theirs > _margin(metric, value, theirs, images):
            better.append(trial)
    return better


def _margin(metric: str, value: float, theirs: float, images: int | None) -> float:
    if metric == VALIDATION_ERROR.metric and images:
        p, q = value / 100, theirs / 100
        return _DEVIATIONS * 100 * sqrt(max(p * (1 - p) + q * (1 - q), 0.0) / images)
    return _SHARE * abs(value)
