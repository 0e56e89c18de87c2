"""Processor, memory, disk, network and GPU use of the machine, logged to a run.

MLflow's own SystemMetricsMonitor samples as a run starts, when the processor's load since the last
sample means nothing yet, and drops the last interval: a run under 10 s gets no system metrics.
"""

import logging
from typing import TYPE_CHECKING, Protocol

from ccsweep.tracking.client import configure_mlflow

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_log = logging.getLogger(__name__)
_FINISH_SECONDS = 0.3


class Monitor(Protocol):
    """What a run needs of its monitor."""

    def finish(self) -> None:
        """Log the last interval and stop; takes at most about 0.3 s."""


def start_monitor(run_id: str, uri: str, *, resume: bool) -> Monitor:
    """Log the machine's load as ``system/...`` metrics of a run, every 10 s in the background.

    A resumed run goes on with the step after its last. Never raises once started and never keeps
    the process alive. MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL changes the interval.
    """
    monitor = _monitor_class()(run_id, resume_logging=resume, tracking_uri=uri)
    monitor.collect_metrics()  # from here on the processor's load is counted
    for part in monitor.monitors:
        part.clear_metrics()
    monitor.start()
    return monitor


def _monitor_class() -> "type[SystemMetricsMonitor]":
    """Derive the class late, since its base brings in the whole of mlflow."""
    configure_mlflow()
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class WholeRunMonitor(SystemMetricsMonitor):
        """Samples at the end of every interval, and once more at the end of the run."""

        def monitor(self) -> None:
            while not self._shutdown_event.wait(self.sampling_interval):
                self._log_interval()

        def finish(self) -> None:
            if self._process is None:
                return
            self._shutdown_event.set()
            self._process.join(_FINISH_SECONDS)
            if not self._process.is_alive():  # else a server hangs: do without the last sample
                self._log_interval()
            self._process = None

        def _log_interval(self) -> None:
            try:
                self.collect_metrics()
                self.publish_metrics(self.aggregate_metrics())
                self.mlflow_logger.flush()
            except Exception as error:  # the run matters more than its machine's load
                _log.debug("system metrics not logged: %s", error)

    return WholeRunMonitor
