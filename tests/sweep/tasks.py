"""A task for studies that costs nothing and does what its overrides ask for; workers import it.

``training.source`` names what happens: a number of seconds to sleep, or one of the words below. Every call
leaves a line in ``computed`` in the working directory.
"""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ccsweep import app
from ccsweep.errors import Pruned, UserError
from ccsweep.study.folder import TrialFolder
from ccsweep.tracking import Run, open_parent, resolve_uri
from tests.report.test_grid import report


def computed() -> list[str]:
    """What was computed so far, one line a call."""
    path = Path("computed")
    return path.read_text().splitlines() if path.exists() else []


def task(cfg: DictConfig) -> dict[str, Any]:
    """A run without work; it fails at a learning rate of 9."""
    if cfg.task == "sweep_finish":  # what its trials are is not what they did
        return {}
    line = f"{cfg.training.l1:g} {cfg.training.l2:g} {cfg.training.seed}"
    before = computed().count(line)
    with open("computed", "a") as file:
        file.write(f"{line}\n")
    if os.environ.get("TRACKED"):
        folder = Path(HydraConfig.get().runtime.output_dir)
        uri = resolve_uri(cfg.tracking.uri)
        parent = open_parent(uri, "tests", Path(cfg.tracking.sweep))
        with Run.start(
            uri,
            experiment="tests",
            name=line,
            params={},
            tags={},
            folder=folder,
            parent_id=parent,
            system_metrics=False,
            patience=60 * cfg.tracking.patience,
        ) as run:
            result = _result(cfg, before) | {"run_id": run.id}
            run.log_metrics({"validation/error": result["validation_error"]}, step=1)
            run.log_artifact(TrialFolder(folder).write_report(result))
            return result
    return _result(cfg, before)


def _result(cfg: DictConfig, before: int) -> dict[str, Any]:
    ranks = "-".join(map(str, cfg.ranks.layers)) if cfg.ranks.layers else "control"
    found = report(ranks, cfg.training.seed, 2.0 + cfg.training.seed)
    found |= {
        "validation_error": 1 + cfg.training.l1,
        "measured_speedup_batch1": 1 + cfg.training.l2,
        "false_off": 0.1,
    }
    if cfg.training.learning_rate == 9:
        raise UserError("nothing was learned")
    match cfg.training.source:
        case "raise":
            raise ValueError("a bug in the task")
        case "nan":
            found["validation_error"] = float("nan")
        case "pruned":
            raise Pruned("not worth it")
        case "no memory":
            raise MemoryError
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "killed once" if before == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        case "gpu":
            Path(f"gpu-{os.getpid()}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
            time.sleep(1)
        case "until told":
            while not Path("told").exists():
                time.sleep(0.05)
        case "no end":
            time.sleep(600)
        case "no end at first, elsewhere" if socket.gethostname() == "other" and len(computed()) == 1:
            time.sleep(600)
        case "no end at first, elsewhere":
            time.sleep(2)
        case seconds if seconds.replace(".", "").isdigit():
            time.sleep(float(seconds))
    return found


def main() -> None:
    """What ``python -m ccsweep`` does, with this task."""
    app.run_task = task  # type: ignore[assignment]
    app.main()


def joined() -> None:
    """What ``python -m ccsweep.worker`` does, with this task."""
    from ccsweep import worker

    app.run_task = task  # type: ignore[assignment]
    worker.main()
