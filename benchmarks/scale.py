"""How many workers a study's storage can bear: trials a second and storage calls a trial.

    python -m benchmarks.scale                       # all of it; under an hour, with nothing else running
    python -m benchmarks.scale storages=journal,grpc workers=4,16 seconds=0,1 trials=10

Real sweeps with real worker processes on this machine, whose trials do nothing, or sleep: what is measured
is what a trial costs beside its own work. PostgreSQL is brought up for it (benchmarks/services.py: root,
Debian), and Optuna's proxy stands in front of the same one. Each worker waits in its first trial until all
are there, and the clock runs from then to the end of the last trial, ``trials`` for each worker. Calls are
those of Optuna's storage interface that workers make, without the sweeper's own.
"""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.services import Missing, Services
from ccsweep.study import storage
from ccsweep.study.folder import StudyFolder
from ccsweep.study.storage import open_study
from ccsweep.sweep.lease import WORKER

ROOT = Path(__file__).parents[1]
HERE = "CCSWEEP_SCALE"
"""The variable that names the folder of a case, and how many workers meet there."""
calls = 0


def trial(cfg: Any) -> dict[str, Any]:
    """Do nothing, or sleep; the first time wait for the other workers."""
    folder, workers = os.environ[HERE].rsplit(":", 1)
    mine = Path(folder, f"here-{os.getpid()}")
    if not mine.exists():
        mine.touch()
        while len(list(Path(folder).glob("here-*"))) < int(workers):
            time.sleep(0.05)
    time.sleep(float(cfg.training.source))
    return {"validation_error": 1 + cfg.training.l1}


def main_of_sweep() -> None:
    """What ``python -m ccsweep`` does, with this task."""
    from ccsweep import app

    app.run_task = trial
    app.main()


def _count() -> None:
    """In a worker: count the calls of its storage, and leave the number behind."""
    patient = storage._patient

    def counting(inner: Any) -> Any:
        found = patient(inner)
        for name in [name for name in vars(type(found)) if name[0] != "_"]:
            setattr(type(found), name, _counted(getattr(type(found), name)))
        return found

    storage._patient = counting  # type: ignore[assignment]
    atexit.register(
        lambda: Path(os.environ[HERE].rsplit(":", 1)[0], f"calls-{os.getpid()}").write_text(str(calls))
    )


def _counted(method: Any) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        global calls
        calls += 1
        return method(*args, **options)

    return call


if HERE in os.environ and WORKER in os.environ:
    _count()


def case(url: str | None, workers: int, seconds: float, trials: int) -> tuple[float, float]:
    """Trials a second and calls a trial of one sweep.

    Args:
        url: of the storage; None: a journal in the study's folder.
        workers: at once.
        seconds: that a trial sleeps.
        trials: of each worker, beside the one in which it waits for the others.
    """
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        count = workers * (trials + 1)
        name = f"scale-{uuid.uuid4().hex[:8]}"  # cases may share a database
        words = ["-m", f"sweep.name={name}", f"sweep.n_trials={count}", f"sweep.workers={workers}"]
        words += ["training.l1=interval(0,1)", f"training.source='{seconds:g}'", "sweep.sampler=random"]
        words += ["+sweep.objectives.validation_error=minimize", "training.device=cpu"]
        where = None if url is None else url.format(folder=folder)
        if where is not None:
            words.append(f"sweep.storage={where}")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            HERE: f"{folder}:{workers}",
        }
        code = "from benchmarks.scale import main_of_sweep; main_of_sweep()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        place = Path(folder)
        met = max(path.stat().st_mtime for path in place.glob("here-*"))
        study = open_study(StudyFolder(place / "outputs" / "sweeps" / name), where)
        ended = [
            t.datetime_complete.timestamp() for t in study.get_trials() if t.datetime_complete is not None
        ]
        after = [end for end in ended if end > met]
        calls_made = sum(int(path.read_text()) for path in place.glob("calls-*"))
        return len(after) / (max(after) - met), calls_made / len(ended)


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """Optuna's, in front of a database, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from optuna.storages import get_storage, run_grpc_proxy_server as run; "
    code += "run(get_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
    command = [sys.executable, "-c", code, url, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None:
                sys.exit("Optuna's proxy has ended: pip install 'ccsweep[cluster]'")
            time.sleep(0.1)
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def urls(names: list[str]) -> Iterator[dict[str, str | None]]:
    """The addresses of storages by their names."""
    found: dict[str, str | None] = {"journal": None, "sqlite": "sqlite:///{folder}/studies.db"}
    with ExitStack() as stack:
        if {"postgresql", "grpc"} & {*names}:
            services = Services(
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="services-"))), True
            )
            stack.callback(services.down)
            services.up_database()
            found["postgresql"] = services.database
            found["grpc"] = stack.enter_context(proxy(services.database))
        yield {name: found[name] for name in names}


def main() -> None:
    """A line for each case, as a table of Markdown."""
    asked = dict(word.split("=") for word in sys.argv[1:])
    names = asked.get("storages", "journal,sqlite,postgresql,grpc").split(",")
    counts = [int(text) for text in asked.get("workers", "1,4,16,64").split(",")]
    lengths = [float(text) for text in asked.get("seconds", "0,1").split(",")]
    trials = int(asked.get("trials", "20"))
    print("| storage | workers | seconds of a trial | trials a second | storage calls a trial |")
    print("|---|---|---|---|---|", flush=True)
    try:
        with urls(names) as storages:
            for seconds, workers, (name, url) in product(lengths, counts, storages.items()):
                rate, each = case(url, workers, seconds, trials)
                print(f"| {name} | {workers} | {seconds:g} | {rate:.2f} | {each:.1f} |", flush=True)
    except Missing as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
