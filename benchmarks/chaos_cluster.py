"""The same on a cluster: jobs cancelled, nodes killed, the database and the tracking server away.

    python -m benchmarks.chaos_cluster 300 1      five minutes of it with 60 trials of a second or two, seed 1

Brings up PostgreSQL, SLURM with two nodes and an MLflow server (root on Debian), and takes them down. At
the end Optuna and MLflow agree: as many trials as were asked for, none twice, none running, no password in
any log.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optuna import Study

from benchmarks.chaos import Chaos, Wrong
from benchmarks.services import NODES, PASSWORD, Services
from ccsweep.study.storage import open_study
from ccsweep.study.trials import sort

TRIALS = 60
QUICK = [sys.executable, "-c", "from tests.sweep.tasks import main; main()"]
STUDY = ["+sweep.objectives.validation_error=minimize", "sweep.sampler=random", "training.l1=interval(0,1)"]
STUDY += ["training.source='1.5'", "sweep.workers=4", "cluster=slurm"]


@dataclass
class OnCluster(Chaos):
    """A study whose workers are jobs, and what is done to it."""

    services: Services | None = None

    def events(self) -> list[Callable[[], None]]:
        """What may be done, as often as it stands here."""
        self.away_once = False
        return [
            *[self.cancel_job] * 4,
            self.requeue_job,
            self.kill_node,
            self.restart_database,
            self.kill_sweeper,
            self.take_server_away,
        ]

    def opened(self) -> Study:
        """The study in its storage."""
        assert self.services is not None
        return open_study(self.study, self.services.database)

    def cancel_job(self) -> None:
        """One that runs or waits."""
        self._to_a_job("jobs cancelled", "scancel")

    def requeue_job(self) -> None:
        """SLURM refuses: a worker's job is not to be started again."""
        self._to_a_job("requeues asked for", "scontrol", "requeue")

    def kill_node(self) -> None:
        """With all that runs on it, for some seconds."""
        assert self.services is not None
        self.done["nodes killed"] += 1
        name = self.draw.choice(NODES)
        self.services.kill_node(name)
        time.sleep(self.draw.uniform(1, 5))
        self.services.start_node(name)

    def restart_database(self) -> None:
        """As a crash does, for some seconds."""
        assert self.services is not None
        self.done["databases away"] += 1
        with self.services.away("database"):
            time.sleep(self.draw.uniform(0, 4))

    def take_server_away(self) -> None:
        """For thirty seconds, once."""
        assert self.services is not None
        if not self.away_once:
            self.away_once = True
            self.done["servers away"] += 1
            with self.services.away("tracking"):
                time.sleep(30)

    def check(self, status: int | None) -> None:
        """Beside what any study must come to: nothing was computed twice, no job is left, no password shown.

        Raises:
            Wrong: that is not so.
        """
        assert self.services is not None
        super().check(status)
        hashes = [t.user_attrs["hash"] for t in sort(self.opened().get_trials(deepcopy=False)).complete]
        if len(set(hashes)) != len(hashes):
            raise Wrong("a point was computed twice")
        if left := self._jobs():
            raise Wrong(f"jobs {left} are still there")
        for path in [self.log, *self.study.path.rglob("*")]:
            if path.is_file() and PASSWORD.encode() in path.read_bytes():
                raise Wrong(f"{path} shows a password")

    def _jobs(self) -> list[str]:
        return subprocess.check_output(
            ["squeue", "-h", "-n", f"ccsweep-{self.study.name}", "-o", "%A"], text=True
        ).split()

    def _to_a_job(self, what: str, *words: str) -> None:
        if jobs := self._jobs():
            self.done[what] += 1
            subprocess.run([*words, self.draw.choice(jobs)], capture_output=True)


def main() -> None:
    """So many seconds of it, with the seed that the command names."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ccsweep-") as aside:
        services = Services(Path(aside) / "services")
        Path(aside).chmod(0o755)
        services.up()
        try:
            os.environ |= {**services.environment, "TRACKED": "1", "PYTHONPATH": os.getcwd()}
            folder = Path(aside) / "work"
            folder.mkdir()
            storage = f"sweep.storage={services.database}"
            made = OnCluster(
                folder,
                Path(aside),
                QUICK,
                [*STUDY, storage],
                TRIALS,
                services.tracking,
                seed,
                False,
                None,
                services=services,
            )
            made.run(seconds)
        finally:
            services.down()
    figures = ", ".join(f"{count} {what}" for what, count in made.done.items())
    print(f"{time.monotonic() - began:.0f} s, seed {seed}: {figures}")


if __name__ == "__main__":
    main()
