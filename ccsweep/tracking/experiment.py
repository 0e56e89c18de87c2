"""The MLflow experiment that a run belongs to, made on first use."""

import re
from typing import TYPE_CHECKING

from ccsweep.errors import UserError
from ccsweep.tracking.store import artifact_root

if TYPE_CHECKING:
    from mlflow import MlflowClient


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the id of the experiment ``name``; any number of processes may ask at once.

    In a database its artifacts go where ``artifact_root`` says: MLflow's default is ``./mlruns``
    under whichever folder the process happens to be in. An HTTP server chooses for itself.

    Raises:
        UserError: the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=_artifact_location(uri, name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
        assert found is not None
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {name} was deleted; bring it back with: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return found.experiment_id


def _artifact_location(uri: str, name: str) -> str | None:
    """Return a URI for the artifacts of ``name``, None to leave it to the server."""
    root = artifact_root(uri)
    if root is None:
        return None
    # Two names may share a folder: each run has its own in it.
    folder = re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
    return (root / folder).as_uri()
