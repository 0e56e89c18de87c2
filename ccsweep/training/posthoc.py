"""A trained network with another estimator: nothing is trained, and nothing computed twice.

The inner loop of post-hoc studies. What the layers of one checkpoint get on calibration images, and the
full decompositions of its weights, stay in memory from one evaluation of a process to the next.
"""

from pathlib import Path

from ccsweep.config.schema import Config
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.layer import LayerData
from ccsweep.training import checkpoint
from ccsweep.training.fit import Job, build_network

_seen: dict[tuple[object, ...], list[LayerData]] = {}
"""Of the last checkpoint looked at."""


def refit(job: Job, trained: Config, path: Path, digest: str) -> None:
    """Put a checkpoint's weights into the job's network and fit the network's own estimator to them.

    Factors are fitted to the inputs that the trained network gives its layers, gated as it was saved: they
    are the same for every estimator that is tried on it. Thresholds see the new gates of the layers before.

    Args:
        job: whose network gets weights and factors.
        trained: the settings that the checkpoint was trained with.
        path: the checkpoint.
        digest: of the data set that the calibration images are from.

    Raises:
        UserError: the checkpoint cannot be read, or the estimator cannot be fitted to it.
    """
    network = job.module.network.to(job.calibration.device)
    checkpoint.load_network(network, path, factors=False)
    key = (path, path.stat().st_mtime_ns, digest, len(job.calibration), job.calibration.device)
    if key not in _seen:
        saved = build_network(trained).to(job.calibration.device)
        checkpoint.load_network(saved, path)
        for layer in saved.hidden:
            layer.running = None  # its moments had dropout in them; the calibration images have none
        _seen.clear()
        _seen[key] = saved.layer_data(job.calibration)
    how = network.estimator
    for data in _seen[key][: sum(layer.gated for layer in network.hidden)]:
        ESTIMATORS[how.name].prepare(data, how.refresh)
    network.refresh(job.calibration, _seen[key])
