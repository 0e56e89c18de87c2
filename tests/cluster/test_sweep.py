"""A sweep whose workers are jobs on two nodes, its trials in PostgreSQL and its runs on a server."""

import subprocess
import time

from tests.cluster.conftest import Lab

PASSWORD = b"s3cret"


def test_a_grid_on_two_nodes_shows_no_password(lab: Lab) -> None:
    lab.environment["TRACKED"] = "1"
    seen = b""
    with lab.start("training.l1=range(0,6)", "training.source='0.5'", "sweep.workers=2") as process:
        while process.poll() is None:
            seen += subprocess.check_output(["ps", "-eo", "args"])
            time.sleep(0.5)
        out = process.stdout.read()
    assert process.returncode == 0, out
    assert lab.states() == {"COMPLETE": 6}
    assert len(set(lab.computed())) == len(lab.computed()) == 6
    assert {trial.user_attrs["worker"] for trial in lab.trials()} == {"w0", "w1"}
    assert lab.runs() == {"sweep": ["FINISHED"], "trial": ["FINISHED"] * 6}
    assert lab.jobs() == []
    # Whoever types a password on a command line shows it there; nobody else does.
    shown = [line for line in seen.splitlines() if PASSWORD in line and b"sweep.storage=" not in line]
    assert [line for line in shown if str(lab.folder).encode() in line] == []
    assert PASSWORD.decode() not in out
    for path in lab.study.path.rglob("*"):
        assert not path.is_file() or PASSWORD not in path.read_bytes(), path
    for database in ("studies", "mlflow"):
        address = lab.services.database.replace("+psycopg", "").replace("studies", database)
        assert PASSWORD not in subprocess.check_output(["pg_dump", address])
