"""Optuna's samplers by the names that a config may use."""

import hashlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # half a second
    from optuna.samplers import BaseSampler


def make(name: str, seed: int, begun: int, index: int) -> "BaseSampler":
    """The sampler of one worker.

    Neither two workers nor a study that is resumed draw the same points again: the seed is made of
    all three numbers.

    Args:
        name: tpe, nsgaii, gp, random or grid, whose points are all in the queue from the start.
        seed: of the study.
        begun: trials that there are when the worker starts.
        index: of the worker.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    text = f"{seed} {begun} {index}"
    own = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe":
            # Running trials count as bad ones, so that workers spread out; groups are for conditions.
            return samplers.TPESampler(seed=own, multivariate=True, group=True, constant_liar=True)
        if name == "nsgaii":
            return samplers.NSGAIISampler(seed=own)
        if name == "gp":
            return samplers.GPSampler(seed=own)
        return samplers.RandomSampler(seed=own)
