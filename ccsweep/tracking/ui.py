"""MLflow's web pages on the project's runs: ``python -m ccsweep.tracking.ui``.

``mlflow ui`` starts a job runner, four workers and a second interpreter first. One worker in this
process shows the same pages in about half the time of the quickest ``mlflow server`` command.
"""

import argparse
import os
import shlex
import socket
import sys
import warnings

from ccsweep.errors import UserError
from ccsweep.tracking.client import configure_mlflow
from ccsweep.tracking.mask import mask
from ccsweep.tracking.store import FOLDER, artifact_root, prepare, resolve_uri

_HOST = "127.0.0.1"
# Without this, MLflow 3.17 opens with its pages for language models.
_RUNS = "#/experiments?workflowType=machine_learning"


def command(uri: str) -> str:
    """Return the command that shows the store at ``uri``, to be printed after a run."""
    show = "python -m ccsweep.tracking.ui"
    return show if uri == resolve_uri(None) else f"{show} --uri {shlex.quote(mask(uri))}"


def serve(uri: str, port: int) -> None:
    """Show the store at ``uri`` on ``http://127.0.0.1:<port>`` until Ctrl-C.

    A store that is a server has pages of its own, whose address is printed instead.

    Raises:
        UserError: the port is taken, or the store cannot be used.
    """
    if uri.startswith("http"):
        print(f"The runs are on a server: {mask(uri)}")
        return
    _check_free(port)
    print(f"Runs in {mask(uri)}: http://{_HOST}:{port}/{_RUNS} (up in some seconds; Ctrl-C ends it)")
    sys.stdout.flush()
    prepare(uri)
    configure_mlflow()
    from mlflow.server import constants

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(artifact_root(uri)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    import uvicorn

    warnings.simplefilter("ignore")  # of MLflow's own code, no use to who looks at runs
    uvicorn.run("mlflow.server.fastapi_app:app", host=_HOST, port=port, log_level="warning")


def _check_free(port: int) -> None:
    """Find out in a millisecond what uvicorn would say after seconds of imports."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port: {port} cannot be used ({getattr(error, 'strerror', None) or error}); stop "
                "what runs there, or choose another: python -m ccsweep.tracking.ui --port 5001"
            ) from error


def main(arguments: list[str] | None = None) -> int:
    """Serve the store that the command line, MLFLOW_TRACKING_URI or this folder names."""
    parser = argparse.ArgumentParser(
        prog="python -m ccsweep.tracking.ui", description="Show the tracked runs in a browser."
    )
    parser.add_argument("--uri", help=f"the store (default: MLFLOW_TRACKING_URI, or in {FOLDER}/)")
    parser.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        serve(resolve_uri(chosen.uri), chosen.port)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
