"""Back to a run: from what a user types to its folder and its id, and to what it logged.

``run.json`` in a run's folder says which run it belongs to, and where the folder was then. A folder that was
moved keeps its run. A copy, whose original is still there, has none: what is done to it must not end up in
the run of the original.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.errors import UserError
from ccsweep.files import read_json_if_whole, user_cache, write_text
from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.mask import mask
from ccsweep.tracking.store import prepare, sqlite_path, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as StoredRun

FOLDER_TAG, HOST_TAG = "ccsweep.folder", "ccsweep.host"
RUN_FILE = "run.json"  # in a run's folder: which run it belongs to

_ID = re.compile(r"[0-9a-f]{6,32}")
_SHOWN = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundRun:
    """A run's folder on this machine, and its id; None for a folder that was never tracked."""

    folder: Path
    run_id: str | None


def find_run(uri: str, ref: str, cache: Path | None = None) -> FoundRun:
    """Find a run by its folder, or by its id or the first 6 or more characters of that.

    A run whose folder is not on this machine has its artifacts downloaded, once, to
    ``<cache>/<run id>``; the cache is ``~/.cache/ccsweep/runs`` unless given. A folder is found
    without asking the store.

    Raises:
        UserError: no such run, several runs, or a store that does not answer.
    """
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return FoundRun(folder.absolute(), run_id_of(folder))
    prepare(uri)
    client = connect(uri)
    with store_errors(uri):
        run = _by_id(client, uri, ref)
        run_id = run.info.run_id
        folder = Path(run.data.tags.get(FOLDER_TAG, ""))
        # The path alone could name another machine's folder; run.json says that it is the one.
        for place in [folder, *_moved(folder, uri)]:
            if place.is_absolute() and run_id_of(place) == run_id:
                return FoundRun(place, run_id)
        cache = cache or user_cache() / "runs"
        if run.info.status == "RUNNING":
            raise UserError(
                f"run: {run_id} is still running on {run.data.tags.get(HOST_TAG, 'another machine')}; "
                "its artifacts can be had when it has ended"
            )
        return FoundRun(_download(client, run_id, cache), run_id)


def stored_run(client: "MlflowClient", uri: str, run_id: str) -> "StoredRun":
    """Return MLflow's entity of the run ``run_id``.

    Raises:
        UserError: no such run, or it was deleted.
    """
    from mlflow.exceptions import MlflowException

    with store_errors(uri):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UserError(_unknown(client, uri, run_id)) from error
    if run.info.lifecycle_stage == "deleted":
        raise UserError(
            f"run: {run_id} was deleted; bring it back with: mlflow runs restore --run-id {run_id}"
        )
    return run


def is_stored(uri: str, run_id: str) -> bool:
    """Whether the store at ``uri`` holds the run.

    Raises:
        UserError: the store does not answer, or the run was deleted.
    """
    from mlflow.exceptions import MlflowException

    prepare(uri)
    client = connect(uri)
    with store_errors(uri):
        try:
            client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
    return True


def history(uri: str, run_id: str, prefix: str) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics whose names begin with ``prefix``, each as (step, value) in order of steps.

    Takes one query for the names and one per metric: 1 to 2 ms each in sqlite.

    Raises:
        UserError: no such run, it was deleted, or the store does not answer.
    """
    client = connect(uri)
    names = stored_run(client, uri, run_id).data.metrics
    with store_errors(uri):
        logged = {name: client.get_metric_history(run_id, name) for name in names if name.startswith(prefix)}
    # An epoch that a killed run did twice was logged twice; MLflow gives the later value last.
    return {name: sorted({m.step: m.value for m in values}.items()) for name, values in logged.items()}


def logged_json(uri: str, run_id: str, name: str) -> dict[str, Any] | None:
    """What a run has logged as the file ``name``, if that can be had."""
    with tempfile.TemporaryDirectory() as place:
        try:
            prepare(uri)
            with store_errors(uri):
                path = Path(connect(uri).download_artifacts(run_id, name, place))
            return read_json_if_whole(path, "it is as if it had not been logged")
        except Exception as error:  # MLflow raises a dozen kinds for a file that is not there
            log.debug("%s of run %s: %s", name, run_id, error)
            return None


def write_run_file(folder: Path, uri: str, run_id: str) -> None:
    """Note in ``folder`` which run it belongs to."""
    content = {"run_id": run_id, "uri": mask(uri), "folder": os.path.realpath(folder)}
    write_text(folder / RUN_FILE, json.dumps(content, indent=2) + "\n")


def run_id_of(folder: Path) -> str | None:
    """Return the id of the run that ``folder`` belongs to, None for a copy and when it was never tracked."""
    run_id = noted_run(folder)
    began = _noted(folder, "folder")
    if began is None or began == os.path.realpath(folder):
        return run_id
    return None if noted_run(Path(began)) == run_id else run_id


def noted_run(folder: Path) -> str | None:
    """Return the id in the ``run.json`` of ``folder``, a copy's too."""
    return _noted(folder, "run_id")


def store_of(folder: Path) -> str | None:
    """Return the URI of the store that the run of ``folder`` is in, None if unknown or masked.

    A store in a file that was moved or copied with the folder is the one that is beside it now.
    """
    uri, began = _noted(folder, "uri"), _noted(folder, "folder")
    if uri is None or "***" in uri:
        return None
    if began is not None and (path := sqlite_path(uri)) is not None:
        beside = Path(os.path.normpath(Path(os.path.realpath(folder), os.path.relpath(path, began))))
        if beside.is_file():
            return sqlite_uri(beside)
        return uri if path.is_file() else None
    return uri


def _noted(folder: Path, what: str) -> str | None:
    content = read_json_if_whole(folder / RUN_FILE, "its run is not known from here, only by its id")
    found = (content or {}).get(what)
    return found if isinstance(found, str) else None


def _moved(folder: Path, uri: str) -> Iterator[Path]:
    """Where ``folder`` is if it was moved with the store that is beside it: the end of its path counts."""
    store = sqlite_path(uri)
    if store is not None:
        for start in range(len(folder.parts) - 1, 0, -1):
            yield store.absolute().parent.joinpath(*folder.parts[start:])


def _by_id(client: "MlflowClient", uri: str, ref: str) -> "StoredRun":
    """Return the one run whose id begins with ``ref``."""
    if not _ID.fullmatch(ref):
        raise UserError(_unknown(client, uri, ref))
    if len(ref) == 32:
        return stored_run(client, uri, ref)
    matches = _search(client, f"attributes.run_id LIKE '{ref}%'", limit=2)
    if not matches:
        raise UserError(_unknown(client, uri, ref))
    if len(matches) > 1:
        raise UserError(f"run: {ref} fits several runs ({_listed(matches)}, ...); give more of the id")
    return matches[0]


def _unknown(client: "MlflowClient", uri: str, ref: str) -> str:
    last = _search(client, "", limit=_SHOWN)
    shown = f"the last runs are {_listed(last)}" if last else "it has no runs yet"
    return (
        f"run: {ref} is no run folder and no run id (6 or more characters) in {mask(uri)}; "
        f"{shown}; see all with python -m ccsweep.tracking.ui"
    )


def _listed(runs: "list[StoredRun]") -> str:
    return ", ".join(f"{run.info.run_id[:8]} ({run.info.run_name})" for run in runs)


def _search(client: "MlflowClient", query: str, limit: int) -> "list[StoredRun]":
    """Return the latest ``limit`` runs of all experiments that fit ``query``."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, query, max_results=limit, order_by=order))


def _download(client: "MlflowClient", run_id: str, cache: Path) -> Path:
    """Download the artifacts of a run to ``cache/<run id>``, whole or not at all."""
    target = cache.absolute() / run_id
    if not _holds_something(target):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as parts:
            folder = Path(parts) / run_id
            folder.mkdir()
            client.download_artifacts(run_id, "", str(folder))
            if not _holds_something(folder):  # MLflow finds nothing, too, where it can reach nothing
                run = client.get_run(run_id)
                place, tags = mask(run.info.artifact_uri), run.data.tags
                folder_there = f"{tags.get(FOLDER_TAG, 'its folder')} on {tags.get(HOST_TAG, 'its machine')}"
                raise UserError(
                    f"run: {run_id} has no artifacts that can be reached at {place}, and is not on this "
                    f"machine; mount or mend that place, or go on with {folder_there} (of a search, MLflow "
                    "has the networks of the front only)"
                )
            shutil.rmtree(target, ignore_errors=True)  # an empty one
            folder.rename(target)
    return target


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
