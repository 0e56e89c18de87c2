"""The run that a sweep's runs belong under.

The first run of a sweep to start opens it, in its own experiment (only then is it known which
data set is really used); the sweeper closes it in every case. The sweep's folder is what they
share, so it works between processes and hosts alike.
"""

from pathlib import Path

from ccsweep.files import in_turn
from ccsweep.tracking.find import run_id_of
from ccsweep.tracking.outcome import Status
from ccsweep.tracking.run import Run


def open_parent(uri: str, experiment: str, folder: Path) -> str:
    """Return the id of the run that stands for the sweep in ``folder``; the first caller starts it.

    Args:
        uri: of the store.
        experiment: of the first caller, for children show under a parent of their own experiment.
        folder: the sweep's folder, shared by its runs.
    """
    with in_turn(folder / ".parent.lock"):
        if (run_id := run_id_of(folder)) is not None:
            return run_id
        return Run.start(
            uri,
            experiment=experiment,
            name=f"sweep {folder.name}",
            params={},
            tags={"ccsweep.task": "sweep"},
            folder=folder,
            system_metrics=False,
        ).id


def close_parent(uri: str, folder: Path, status: Status) -> None:
    """End the sweep's run, if any of its runs got as far as to open it."""
    if (run_id := run_id_of(folder)) is not None:
        Run.resume(uri, run_id, system_metrics=False).end(status)
