"""A study that is killed, stopped and starved for a while, and must end with the right trials all the same.

    python -m benchmarks.chaos 3600 1      an hour of trainings on the embedded digits, seed 1

Workers and the sweeper are killed and stood still, the disk is full (a small one of its own, for root), and
the tracking server is away for ten seconds. A sweeper that was killed is started again with the same command.
At the end Optuna and MLflow have to agree: as many trials as were asked for, none running in either.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ccsweep.study.folder import StudyFolder
from ccsweep.study.notes import notes
from ccsweep.study.storage import open_study
from ccsweep.study.trials import sort
from ccsweep.sweep import lease
from ccsweep.tracking.find import FOLDER_TAG

if TYPE_CHECKING:
    from optuna import Study

PATIENCE = 1200  # seconds beyond those of chaos, in which what is left of the study has to be done
DISK = 64  # MB of the disk that is filled
TRAINING = ["training.epochs=1", "training.l1=interval(0,1e-3)", "sweep.sampler=random", "sweep.workers=2"]
TRAINING += ["+sweep.objectives.validation_error=minimize", "tracking.system_metrics=false"]
PROGRAM = [sys.executable, "-m", "ccsweep"]


class Wrong(Exception):  # noqa: N818 - what a study is not allowed to end as
    """The study did not come out as it must."""


@dataclass
class Chaos:
    """A study in ``folder/study``, and what is done to it.

    Args:
        folder: its disk is filled, so it should be a small one.
        aside: a folder on another disk, for what the sweeper says.
        program: to start.
        overrides: of the study, without its name, its number of trials and its store.
        trials: asked for.
        uri: of an HTTP server.
        seed: of what is done and when.
    """

    folder: Path
    aside: Path
    program: Sequence[str]
    overrides: Sequence[str]
    trials: int
    uri: str
    seed: int
    may_fill: bool
    server: "Server | None" = None
    done: Counter[str] = field(default_factory=Counter)
    """How often each thing was done."""

    def __post_init__(self) -> None:
        self.study = StudyFolder(self.folder.resolve() / "study")
        self.draw = random.Random(self.seed)
        self.log = self.aside / "sweeper.log"

    def run(self, seconds: float) -> None:
        """Do things to the study for so long, then let it come to its end.

        Raises:
            Wrong: it did not come out as it must.
        """
        events = self.events()
        stop = time.monotonic() + seconds
        sweeper = self.start()
        try:
            while time.monotonic() < stop:
                time.sleep(self.draw.uniform(1, 4))
                if sweeper.poll() is not None:
                    sweeper = self.start()
                    continue
                self.sweeper = sweeper
                self.draw.choice(events)()
            for _ in range(5):
                if sweeper.poll() is None and sweeper.wait(timeout=PATIENCE + seconds) == 0:
                    break
                sweeper = self.start()
        except subprocess.TimeoutExpired:
            raise Wrong(f"no end in {PATIENCE + seconds:.0f} s: {self.log.read_text()[-2000:]}") from None
        finally:
            if sweeper.poll() is None:
                sweeper.kill()
        self.check(sweeper.returncode)

    def events(self) -> list[Callable[[], None]]:
        """What may be done, as often as it stands here."""
        found: list[Callable[[], None]] = [self.kill_worker] * 2
        found += [self.kill_sweeper, self.stop_one]
        if self.may_fill:
            found.append(self.fill_disk)
        if self.server is not None:
            found.append(self.take_server_away)
        return found

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the sweeper, or start it again: the command is the same."""
        self.done["starts"] += 1
        words = [
            *self.program,
            "-m",
            *self.overrides,
            f"hydra.sweep.dir={self.study.path}",
            f"sweep.n_trials={self.trials}",
        ]
        words += [f"tracking.uri={self.uri}", "sweep.retries=100"]
        with self.log.open("ab") as log:
            return subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    def workers(self) -> list[int]:
        """Process numbers of the workers that live."""
        found = [lease.read(path) for path in self.study.leases()]
        return [each["pid"] for each in found if each is not None and lease.is_worker(each)]

    def opened(self) -> "Study":
        """The study in its storage."""
        return open_study(self.study)

    def kill_worker(self) -> None:
        """SIGKILL one."""
        if workers := self.workers():
            self.done["workers killed"] += 1
            with suppress(ProcessLookupError):
                os.kill(self.draw.choice(workers), signal.SIGKILL)

    def kill_sweeper(self) -> None:
        """SIGKILL it; its workers notice."""
        self.done["sweepers killed"] += 1
        self.sweeper.kill()
        self.sweeper.wait()

    def stop_one(self) -> None:
        """SIGSTOP the sweeper or a worker for some seconds."""
        self.done["stood still"] += 1
        pid = self.draw.choice([self.sweeper.pid, *self.workers()])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.draw.uniform(1, 5))
            os.kill(pid, signal.SIGCONT)

    def fill_disk(self) -> None:
        """Write until there is no room, and make room again some seconds later."""
        self.done["disks filled"] += 1
        filler = self.folder / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(2**16)):
                    pass
            time.sleep(self.draw.uniform(2, 6))
        finally:
            filler.unlink()

    def take_server_away(self) -> None:
        """For ten seconds."""
        assert self.server is not None
        self.done["servers away"] += 1
        self.server.stop()
        time.sleep(10)
        self.server.start()

    def check(self, status: int | None) -> None:
        """Compare what Optuna, MLflow and the sweeper say.

        Raises:
            Wrong: they do not agree, or anything is left running.
        """
        said = self.log.read_text()
        study = self.opened()
        trials = study.get_trials(deepcopy=False)
        now = sort(trials)
        if status != 0 or "Traceback" in said:
            raise Wrong(f"the last sweeper ended with {status}: {said[-2000:]}")
        if (len(now.complete), len(now.failed), len(now.running), len(now.waiting)) != (self.trials, 0, 0, 0):
            causes = Counter(notes(trial).cause for trial in now.failed)
            raise Wrong(f"{Counter(t.state.name for t in trials)}, failed for good: {causes}")
        if self.workers():
            raise Wrong(f"workers {self.workers()} are still there")
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=5000)
        states = {Path(run.data.tags[FOLDER_TAG]).name: run.info.status for run in runs}
        if "RUNNING" in states.values():
            raise Wrong(
                f"RUNNING in MLflow: {[name for name, state in states.items() if state == 'RUNNING']}"
            )
        for trial in now.complete:
            name = Path(str(notes(trial).folder)).name
            if states.get(name) != "FINISHED":
                raise Wrong(f"trial {trial.number} is complete, and its run in {name} is {states.get(name)}")
        self.done["trials"] = len(trials)
        self.done["runs"] = len(runs)


class Server:
    """MLflow's own pages and interface, on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        words = [sys.executable, "-m", "ccsweep.tracking.ui", "--uri", f"sqlite:///{self.folder}/mlflow.db"]
        self._process = subprocess.Popen(
            [*words, "--port", str(self.port)],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            time.sleep(0.2)
        raise TimeoutError("the tracking server does not start")

    def stop(self) -> None:
        """At once, with all that it started."""
        for process in [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(True)]:
            with suppress(psutil.Error):
                process.kill()
        self._process.wait()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own at ``folder``, for root; whether it is one."""
    mounted = (
        os.getuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)], capture_output=True
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def chaos(
    program: Sequence[str], overrides: Sequence[str], trials: int, seconds: float, seed: int
) -> Counter[str]:
    """Run a study and do things to it; returns how often each was done.

    Raises:
        Wrong: it did not come out as it must.
    """
    with ExitStack() as stack:
        aside = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = aside / "disk"
        folder.mkdir()
        may_fill = stack.enter_context(small_disk(folder))
        server = Server(aside)
        server.start()
        stack.callback(server.stop)
        made = Chaos(folder, aside, program, overrides, trials, server.uri, seed, may_fill, server)
        made.run(seconds)
        return made.done


def main() -> None:
    """So many seconds of it, with the seed that the command names."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    done = chaos(PROGRAM, TRAINING, max(10, int(seconds / 12)), seconds, seed)
    figures = ", ".join(f"{count} {what}" for what, count in done.items())
    print(f"{time.monotonic() - began:.0f} s, seed {seed}: {figures}")


if __name__ == "__main__":
    main()
