"""What a cluster has, for real and on one machine: PostgreSQL, SLURM with two nodes, an MLflow server.

    python -m benchmarks.services up        bring all of it up and print how to use it
    python -m benchmarks.services down      take it down, and its folder with it

Debian's packages, for root, on 127.0.0.1 only, all files in one folder below the temporary one. The nodes are
two daemons that have hostnames of their own and share this machine's disk, as nodes share a file server.
Packages that are missing are installed by apt; where that cannot be, the one-line reason is what is raised.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("postgresql", "slurm-wlm", "munge")
NODES = ("n1", "n2")
PASSWORD = "s3cret"
DATABASE_PORT, TRACKING_PORT, CONTROL_PORT = 25432, 25000, 26817
SECONDS = 120.0
"""To wait for a daemon."""
_SLURM = """
ClusterName=ccsweep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName=n1 NodeAddr=127.0.0.1 Port=17001 CPUs=64 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 Port=17002 CPUs=64 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n1,n2 MaxTime=5 State=UP
"""
_GPUS = "NodeName=n[1-2] Name=gpu File=/dev/tty[0-1]\n"  # files that are there and that nobody uses


class Missing(Exception):  # noqa: N818 - why the services cannot be had here
    """What this machine lacks."""


class Services:
    """The services in ``folder``; each can be stopped and started again.

    Args:
        folder: theirs alone, and one that every user of this machine may enter.
        fsync: whether the database waits for the disk, which tests need not.
    """

    def __init__(self, folder: Path, fsync: bool = False) -> None:
        self.folder, self._fsync = folder, "on" if fsync else "off"
        self.database = f"postgresql+psycopg://lab:{PASSWORD}@127.0.0.1:{DATABASE_PORT}/studies"
        self.tracking = f"http://127.0.0.1:{TRACKING_PORT}"

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs in order to use SLURM."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def up(self) -> None:
        """Bring everything up.

        Raises:
            Missing: one line saying why that cannot be done here.
        """
        install()
        try:
            self.up_database()
            self._make_slurm()
            self.start_tracking()
        except BaseException:
            self.down()  # half of it would stand in the way of the next
            raise

    def up_database(self) -> None:
        """Bring PostgreSQL up, alone.

        Raises:
            Missing: one line saying why that cannot be done here.
        """
        install()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._make_database()

    def down(self) -> None:
        """Take everything down, and remove the folder."""
        self._slurm("scancel", "--full", "--user=root", check=False)
        for file in sorted(self.folder.glob("*.pid")):
            self._end(file)
        with suppress(subprocess.CalledProcessError):
            self.stop_database()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_database(self) -> None:
        """Returns when it takes connections."""
        options = f"-p {DATABASE_PORT} -h 127.0.0.1 -k {self.folder}/pg"
        options += f" -c fsync={self._fsync} -c max_connections=300"
        self._postgres("pg_ctl", f"-D {self.folder}/pg -l {self.folder}/pg/log -w -o '{options}' start")

    def stop_database(self) -> None:
        """At once, as a crash does."""
        self._postgres("pg_ctl", f"-D {self.folder}/pg -m immediate -w stop")

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """What the database answers its administrator."""
        commands = [word for statement in statements for word in ("-c", statement)]
        words = ["psql", "-qtA", "-h", "127.0.0.1", "-p", str(DATABASE_PORT), "-U", "postgres", database]
        return subprocess.check_output(
            [*words, *commands], env={**os.environ, "PGPASSWORD": "admin"}, text=True
        )

    def start_tracking(self) -> None:
        """Returns when the MLflow server answers; artifacts go through it."""
        store = self.database.replace("/studies", "/mlflow")
        variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": store}
        words = [
            "--artifacts-destination",
            f"{self.folder}/artifacts",
            "--host",
            "127.0.0.1",
            "--workers",
            "1",
        ]
        command = [sys.executable, "-m", "mlflow", "server", *words, "--port", str(TRACKING_PORT)]
        self._start("mlflow", command, variables)
        until(self._tracking_answers, "the MLflow server")

    def stop_tracking(self) -> None:
        """At once, with all of its processes."""
        self._end(self.folder / "mlflow.pid")

    @contextmanager
    def away(self, what: str) -> Iterator[None]:
        """Without ``database`` or ``tracking`` inside."""
        stop, start = {
            "database": (self.stop_database, self.start_database),
            "tracking": (self.stop_tracking, self.start_tracking),
        }[what]
        stop()
        try:
            yield
        finally:
            start()

    def start_node(self, name: str) -> None:
        """Returns when SLURM may give it a job."""
        daemon = f"hostname {name}; exec slurmd -D -N {name} -f {self.folder}/slurm.conf"
        self._start(f"slurmd.{name}.daemon", ["unshare", "--uts", "bash", "-c", daemon], self.environment)
        until(
            lambda: self._slurm("sinfo", "-hn", name, "-o", "%T").strip() in ("idle", "mixed"), f"node {name}"
        )

    def kill_node(self, name: str) -> None:
        """Its daemon and all that runs on it, as if its power were gone."""
        jobs = self._slurm("squeue", "-hw", name, "-o", "%A").split()
        self._end(self.folder / f"slurmd.{name}.daemon.pid")
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                known = (process / "environ").read_bytes().split(b"\0")
                if any(f"SLURM_JOB_ID={job}".encode() in known for job in jobs):
                    os.kill(int(process.name), signal.SIGKILL)
        self._slurm("scontrol", "update", f"nodename={name}", "state=down", "reason=killed", check=False)

    def _make_database(self) -> None:
        place, password = self.folder / "pg", self.folder / "pw"
        password.write_text("admin\n")
        place.mkdir(mode=0o700)
        for path in (place, password):
            shutil.chown(path, "postgres")
        self._postgres("initdb", f"-D {place} -A scram-sha-256 --pwfile={password} -E UTF8 --no-sync")
        self.start_database()
        made = [f"CREATE DATABASE {name} OWNER lab" for name in ("studies", "mlflow")]
        self.sql(f"CREATE ROLE lab LOGIN PASSWORD '{PASSWORD}'", *made)

    def _make_slurm(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        places = [f"--{what}-file={munge}/{what}" for what in ("key", "log", "seed")]
        pid, address = f"--pid-file={self.folder}/munged.pid", f"--socket={munge}/socket"
        subprocess.run(["munged", "--force", address, *places, pid], check=True, capture_output=True)
        text = _SLURM.format(host=socket.gethostname(), folder=self.folder, control=CONTROL_PORT)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(_GPUS)
        (self.folder / "state").mkdir()
        self._start("slurmctld", ["slurmctld", "-D", "-f", f"{self.folder}/slurm.conf"], self.environment)
        for name in NODES:
            (self.folder / f"spool.{name}").mkdir()
            self.start_node(name)

    def _tracking_answers(self) -> bool:
        with suppress(OSError):
            urllib.request.urlopen(f"{self.tracking}/health", timeout=2).close()
            return True
        return False

    def _postgres(self, program: str, arguments: str) -> None:
        binary = max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        command = ["su", "postgres", "-c", f"{binary} {arguments}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def _slurm(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=check
        )
        return done.stdout

    def _start(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        """A daemon, its log and its process number in the folder."""
        with (self.folder / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **variables},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        process.returncode = 0  # it outlives this program: nobody waits for it

    def _end(self, file: Path) -> None:
        """End the process that a file of the folder names, and its session."""
        pid = int(file.read_text())
        file.unlink(missing_ok=True)
        with suppress(ProcessLookupError, ChildProcessError):
            os.killpg(os.getpgid(pid), signal.SIGKILL)
            os.waitpid(pid, 0)


def install() -> None:
    """Have the packages that are missing.

    Raises:
        Missing: one line saying why that cannot be done here.
    """
    if os.getuid() != 0:
        raise Missing("the services of a cluster are brought up by root only")
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged", "psql"))):
        return
    if shutil.which("apt-get") is None:
        raise Missing(f"there is no apt-get here to install {', '.join(PACKAGES)} with")
    # A package's own daemon is none of ours: nothing is started.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    asked = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    for command in (asked, ["apt-get", "update", "-qq"], asked):  # its lists may be old, or none
        done = subprocess.run(command, env=quiet, capture_output=True)
        if command is asked and done.returncode == 0:
            return
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise Missing(f"apt-get cannot install {', '.join(PACKAGES)}: {said}")


def until(what: Callable[[], object], name: str, seconds: float = SECONDS) -> None:
    """Wait for something to become true.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name}: not there after {seconds:.0f} s")
        time.sleep(0.1)


def main() -> None:
    """Bring the services up or take them down."""
    services = Services(Path(tempfile.gettempdir(), "ccsweep-services"))
    if sys.argv[1:] == ["down"]:
        services.down()
        return
    try:
        services.up()
    except Missing as reason:
        sys.exit(str(reason))
    for name, value in services.environment.items():
        print(f"export {name}={value}")
    print(f"export PGPASSWORD={PASSWORD}")
    storage = services.database.replace(f":{PASSWORD}", "")
    print(f"sweep.cluster=slurm sweep.storage={storage} tracking.uri={services.tracking}")


if __name__ == "__main__":
    main()
