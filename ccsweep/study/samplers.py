"""Optuna's samplers by the names that a config may use."""

import copy
import hashlib
import warnings
from collections.abc import Container
from typing import Any

from optuna import Study, samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ccsweep.study.front import Objectives, pareto

NEWEST = 1000
"""Trials that TPE learns from, with the front of those before: at every ask each of them takes its time."""
STEP = 100
"""By so many trials at a time they grow old, which is when that front is looked for."""


def make(name: str, seed: int, begun: int, index: int) -> samplers.BaseSampler:
    """The sampler of one worker.

    Neither two workers nor a study that is resumed draw the same points again: the seed is made of
    all three numbers.

    Args:
        name: tpe, nsgaii, gp, random or grid, whose points are all in the queue from the start.
        seed: of the study.
        begun: trials that there are when the worker starts.
        index: of the worker.
    """
    text = f"{seed} {begun} {index}"
    own = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe":
            # Running trials count as bad ones, so that workers spread out; groups are for conditions.
            return _Tpe(seed=own, multivariate=True, group=True, constant_liar=True)
        if name == "nsgaii":
            return samplers.NSGAIISampler(seed=own)
        if name == "gp":
            return samplers.GPSampler(seed=own)
        return samplers.RandomSampler(seed=own)


class _Tpe(samplers.TPESampler):
    """Optuna's, which is not shown all trials of a long study."""

    _seen: "_Newest | None" = None
    _view: Study

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._seen is None or self._seen.storage is not study._storage:
            directions = [direction.name.lower() for direction in study.directions]
            self._seen = _Newest(study._storage, {str(i): name for i, name in enumerate(directions)})
        self._view = Study(study.study_name, self._seen, self)  # type: ignore[arg-type]
        return super().infer_relative_search_space(self._view, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return super().sample_relative(self._view, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, *parameter: Any) -> Any:
        return super().sample_independent(self._view, trial, *parameter)


class _Newest:
    """A storage as TPE is shown it."""

    def __init__(self, storage: BaseStorage, objectives: Objectives) -> None:
        self.storage, self._objectives = storage, objectives
        self._old, self._front = 0, list[FrozenTrial]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The newest trials of the study, and the front of those before."""
        trials = self.storage.get_all_trials(study_id, deepcopy=False)
        old = max(0, len(trials) - NEWEST) // STEP * STEP
        if old != self._old:
            front = pareto(trials[:old], self._objectives)
            self._old, self._front = old, sorted(front, key=lambda trial: trial.number)
        shown = [t for t in (*self._front, *trials[old:]) if states is None or t.state in states]
        return copy.deepcopy(shown) if deepcopy else shown
