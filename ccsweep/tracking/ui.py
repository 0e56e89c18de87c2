"""MLflow's web pages on the project's runs: ``python -m ccsweep.tracking.ui``.

``mlflow ui`` starts a job runner, four workers and a second interpreter first. One worker in this
process shows the same pages in about half the time of the quickest ``mlflow server`` command.
"""

import argparse
import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccsweep.errors import UserError
from ccsweep.figures import DENSITY, FALSE_OFF, MEASURED, TEST_ERROR, VALIDATION_ERROR, measured
from ccsweep.tracking.client import configure_mlflow, connect, store_errors
from ccsweep.tracking.find import run_id_of, store_of, stored_run
from ccsweep.tracking.mask import mask
from ccsweep.tracking.parent import OBJECTIVES_TAG
from ccsweep.tracking.store import FOLDER, artifact_root, prepare, resolve_uri

if TYPE_CHECKING:
    from mlflow.entities import Run as StoredRun

_HOST = "127.0.0.1"
_SHARED = "mlflow.sharedViewState."
_SHOWN = (DENSITY.key, FALSE_OFF.key, *(measured(size).key for size in MEASURED))
# Without this, MLflow 3.17 opens with its pages for language models.
_RUNS = "#/experiments?workflowType=machine_learning"


def command(uri: str, sweep: Path | None = None) -> str:
    """Return the command that shows the store at ``uri``, to be printed after a run.

    Args:
        uri: of the store.
        sweep: the folder of a study or grid, whose trials it is to compare.
    """
    show = "python -m ccsweep.tracking.ui"
    if sweep is not None:
        here = Path.cwd()
        place = sweep.relative_to(here) if sweep.is_relative_to(here) else sweep
        show += f" --study {shlex.quote(str(place))}"
    return show if uri == resolve_uri(None) else f"{show} --uri {shlex.quote(mask(uri))}"


def pages(uri: str, sweep: Path) -> dict[str, str]:
    """The addresses, after the server's, of the pages that compare the trials of a study.

    Args:
        uri: of the store.
        sweep: the study's folder.

    Returns:
        ``trials``, a table of them, and ``compare``, charts.

    Raises:
        UserError: the folder has no run, or none of its trials has ended well.
    """
    prepare(uri)
    parent = run_id_of(sweep)
    if parent is None:
        raise UserError(f"--study: {sweep} has no run in MLflow; expected the folder of a study or a grid")
    client = connect(uri)
    found = stored_run(client, uri, parent)
    experiment = found.info.experiment_id
    with store_errors(uri):
        query = f"tags.`mlflow.parentRunId` = '{parent}'"
        ended = f"{query} and attributes.status = 'FINISHED'"
        runs = list(client.search_runs([experiment], ended))
        if not runs:
            raise UserError(f"--study: no trial of {sweep} has ended well, so there is nothing to compare")
        key = f"ccsweep-{parent[:8]}"
        view = _view(query, json.loads(found.data.tags.get(OBJECTIVES_TAG, "{}")), runs)
        client.set_experiment_tag(experiment, _SHARED + key, json.dumps(view))
    page = f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    return {"trials": page, "compare": f"{page}&compareRunsMode=CHART"}


def _view(query: str, objectives: dict[str, str], runs: "list[StoredRun]") -> dict[str, Any]:
    """What MLflow's page of an experiment is to show: columns, order, filter and a chart.

    MLflow keeps this in a tag of the experiment when "Share" is pressed there.
    """
    metrics = {key for run in runs for key in run.data.metrics}
    sorted_by, way = next(iter(objectives.items()), (VALIDATION_ERROR.key, "minimize"))
    wanted = dict.fromkeys((sorted_by, *objectives, VALIDATION_ERROR.key, TEST_ERROR.key, *_SHOWN))
    figures = [key for key in wanted if key in metrics]
    tags = ("trial", "front", "study") if objectives else ("trial", "study")
    columns = [
        *(f"params.`{name}`" for name in ("ranks", *_ranks(runs, any))),
        *(f"metrics.`{key}`" for key in figures),
        *(f"tags.`{tag}`" for tag in tags),
    ]
    axes = dict.fromkeys((DENSITY.key, VALIDATION_ERROR.key, *objectives, measured(MEASURED[0]).key))
    chart = {
        "uuid": "ranks",
        "type": "PARALLEL",
        "metricSectionId": "study",
        "selectedParams": _ranks(runs, all),
        "selectedMetrics": [key for key in axes if key in metrics],  # the last one gives the colours
        "showAllRuns": True,
        "deleted": False,
        "isGenerated": False,
    }
    section = {"uuid": "study", "name": "Study", "display": True, "isReordered": True, "columns": 1}
    return {
        "searchFilter": query,
        "orderByKey": f"metrics.`{sorted_by}`",
        "orderByAsc": way == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: 30 + int(6.6 * len(column.partition(".")[2])) for column in columns},
        "isAccordionReordered": True,  # the section of these charts stays the first
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [section],
        "compareRunCharts": [chart],
    }


def _ranks(runs: "list[StoredRun]", which: Any) -> list[str]:
    """``rank1``, ``rank2``, ...: those that any, or all, of the runs that have a rank have."""
    own: list[Collection[str]] = [[key for key in run.data.params if key[:4] == "rank"] for run in runs]
    gated = [set(names) - {"ranks"} for names in own if len(names) > 1]
    return sorted(name for name in set().union(*gated) if which(name in names for names in gated))


def serve(uri: str, port: int, sweep: Path | None = None) -> None:
    """Show the store at ``uri`` on ``http://127.0.0.1:<port>`` until Ctrl-C.

    A store that is a server has pages of its own, whose address is printed instead.

    Args:
        uri: of the store.
        port: of this machine.
        sweep: the folder of a study or grid, whose trials it is to compare.

    Raises:
        UserError: the port is taken, the store cannot be used, or there is nothing to compare.
    """
    if not (on_server := uri.startswith("http")):
        _check_free(port)
    site = uri.rstrip("/") if on_server else f"http://{_HOST}:{port}"
    found = {} if sweep is None else pages(uri, sweep)
    if on_server:
        print(f"The runs are on a server: {mask(site)}")
    else:
        print(f"Runs in {mask(uri)}: {site}/{_RUNS} (up in some seconds; Ctrl-C ends it)")
    for name, page in found.items():
        print(f"{name:8}{mask(site)}/{page}")
    if on_server:
        return
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
    parser.add_argument("--study", type=Path, help="compare the trials of the study or grid in this folder")
    parser.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        uri = resolve_uri(chosen.uri or (chosen.study and store_of(chosen.study)))
        serve(uri, chosen.port, chosen.study)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
