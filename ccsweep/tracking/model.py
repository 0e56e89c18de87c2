"""A trained network among a run's outputs, as an MLflow model, and in the registry if it is to be there."""

import re
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ccsweep.errors import UserError
from ccsweep.tracking.client import store_errors
from ccsweep.tracking.mask import mask

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

_REFUSED = re.compile(r"""[/:.%"']""")  # characters of a name
_SOURCES = Path(__file__).parents[1]
_IMPORTED = ("torch", "numpy", "numba", "rich", "annotated-types", "filelock", "psutil", "scipy")
"""What the sources of a model that is served import."""


def log_model(
    client: "MlflowClient",
    uri: str,
    run_id: str,
    name: str,
    *,
    loader: str,
    data: Path,
    example: "np.ndarray",
    answers: "np.ndarray",
) -> str:
    """Log a model of MLflow's ``pyfunc`` kind, with this package's sources: who loads it needs no ccsweep.

    Args:
        client: of the store at ``uri``.
        uri: of the store.
        run_id: the run it is an output of.
        name: among the run's models; what MLflow takes in no name becomes ``_``.
        loader: module whose ``_load_pyfunc`` reads ``data``.
        data: a file, copied into the model.
        example: a few inputs (batch, in_features), kept with it.
        answers: to these inputs, (batch, outputs).

    Returns:
        The model's id.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints in MLflow's own code
        import mlflow.pyfunc

    def batches(array: "np.ndarray") -> Schema:
        return Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))])

    with store_errors(uri), tempfile.TemporaryDirectory() as scratch:
        experiment = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment, name=_REFUSED.sub("_", name), source_run_id=run_id)
        folder = Path(scratch) / "model"
        code = Path(scratch) / _SOURCES.name
        shutil.copytree(_SOURCES, code, ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
        mlflow.pyfunc.save_model(
            folder,
            loader_module=loader,
            data_path=str(data),
            code_paths=[str(code)],
            signature=ModelSignature(batches(example), batches(answers)),
            input_example=example,
            # Given, because MLflow would find them out by loading the model in another process.
            pip_requirements=_requirements(_IMPORTED),
            mlflow_model=Model(run_id=run_id, model_id=model.model_id, model_uuid=model.model_id),
        )
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model.model_id


def register(client: "MlflowClient", uri: str, run_id: str, model_id: str, name: str, text: str) -> int:
    """Make a logged model, described by ``text``, the next version of ``name``; returns its number."""
    from mlflow.exceptions import MlflowException

    with store_errors(uri):
        try:
            client.create_registered_model(name, description=text)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # By its place: a models:/ address is looked up in the store that the process calls its own.
        place = client.get_logged_model(model_id).artifact_location
        made = client.create_model_version(name, place, run_id=run_id, model_id=model_id, description=text)
    return int(made.version)


def check_registry(client: "MlflowClient", uri: str, name: str) -> None:
    """Ask the registry of a store that is ready for ``name``, which need not be there yet.

    Better before hours of training.

    Raises:
        UserError: the name is none that a registry takes, or the store has no registry.
    """
    from mlflow.exceptions import MlflowException

    with store_errors(uri):
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            reason = mask(error.message.strip().partition("\n")[0])
            raise UserError(
                f"tracking.register={name}: the registry refuses it ({reason}); choose another name, "
                "or tracking.register=null"
            ) from error


def _requirements(packages: Sequence[str]) -> list[str]:
    """Pinned; ``2.13.0+cpu`` without the build that only torch's own index has."""
    return [f"{package}=={version(package).partition('+')[0]}" for package in packages]
