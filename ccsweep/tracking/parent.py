"""The run that a sweep's runs belong under.

The first run of a sweep to start opens it, in its own experiment (only then is it known which
data set is really used); the sweeper closes it in every case. The sweep's folder is what they
share, so it works between processes and hosts alike.
"""

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ccsweep.files import in_turn
from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.find import run_id_of, stored_run
from ccsweep.tracking.outcome import Status
from ccsweep.tracking.run import ERROR_TAG, NOTE_TAG, Run
from ccsweep.tracking.store import prepare

if TYPE_CHECKING:
    from mlflow.entities import Run as StoredRun


OBJECTIVES_TAG = "ccsweep.objectives"
"""Of a study's run: directions by figure, as JSON."""


def open_parent(uri: str, experiment: str, folder: Path, objectives: Mapping[str, str] = {}) -> str:
    """Return the id of the run that stands for the sweep in ``folder``; the first caller starts it.

    Args:
        uri: of the store.
        experiment: of the first caller, for children show under a parent of their own experiment.
        folder: the sweep's folder, shared by its runs.
        objectives: of a search.
    """
    with in_turn(folder / ".parent.lock"):
        if (run_id := run_id_of(folder)) is not None:
            return run_id
        return Run.start(
            uri,
            experiment=experiment,
            name=f"sweep {folder.name}",
            params={},
            tags={
                "ccsweep.task": "sweep",
                "study": folder.name,
                OBJECTIVES_TAG: json.dumps(dict(objectives)),
                NOTE_TAG: f"The study or grid in `{folder}`: its trials are the runs below "
                "this one. They are compared by\n\n    python -m ccsweep.tracking.ui --study "
                f"{shlex.quote(str(folder))}",
            },
            folder=folder,
            system_metrics=False,
        ).id


def settle(uri: str, run_id: str, status: Status) -> None:
    """Give a run that nobody is at the status ``status``, if it has another one.

    Raises:
        UserError: no such run, or the store does not answer.
    """
    prepare(uri)
    client = connect(uri)
    run = stored_run(client, uri, run_id)
    with store_errors(uri):
        if run.info.status != status:
            client.set_terminated(run_id, status)
        if status == "FINISHED" and ERROR_TAG in run.data.tags:
            client.delete_tag(run_id, ERROR_TAG)


def amend(uri: str, run: "StoredRun", metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Give a run that nobody is at those of the metrics and tags that it has otherwise, or not.

    Raises:
        UserError: the store does not answer.
    """
    from mlflow.entities import Metric, RunTag

    now, known = int(time.time() * 1000), run.data
    new = {key: value for key, value in metrics.items() if known.metrics.get(key) != value}
    changed = [Metric(key, value, now, 0) for key, value in new.items()]
    said = [RunTag(key, value) for key, value in tags.items() if known.tags.get(key) != value]
    if changed or said:
        client = connect(uri)
        with store_errors(uri):
            client.log_batch(run.info.run_id, metrics=changed, tags=said)


def children(uri: str, parent: str) -> "list[StoredRun]":
    """The runs under a parent, in one query for each thousand."""
    prepare(uri)
    client = connect(uri)
    found: list[StoredRun] = []
    token = None
    with store_errors(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        while token != "":
            query = f"tags.`mlflow.parentRunId` = '{parent}'"
            page = client.search_runs(experiments, query, max_results=1000, page_token=token)
            found += page
            token = page.token or ""
    return found


def close_parent(uri: str, folder: Path, status: Status) -> None:
    """End the sweep's run, if any of its runs got as far as to open it."""
    if (run_id := run_id_of(folder)) is not None:
        Run.resume(uri, run_id, system_metrics=False).end(status)
