"""``task=evaluate``: test a trained run again, with the ranks or the estimator that the overrides name."""

import time
from typing import Any

from ccsweep.config.schema import Config
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.earlier import taken_up


def evaluate(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Test the network of ``run``; returns the report.

    Args:
        config: this command's, read on top of the settings of ``run``.
        folder: of this run.
        overrides: what the command says.

    Raises:
        UserError: no such run, or an override that a trained run cannot take.
    """
    with taken_up(config, folder, overrides) as (run, job, dataset):
        began = time.perf_counter()
        from ccsweep.tasks.result import conclude

        return conclude(run, job, job.validate(run), None, dataset, began, resumed=False)
