"""What the doctor says of a healthy cluster, and of eight broken ones."""

import subprocess
import sys

import pytest

from tests.cluster.conftest import Lab

DATABASE = "sweep.storage=postgresql+psycopg://lab:s3cret@127.0.0.1:25432/studies"
TRACKING = "tracking.uri=http://127.0.0.1:25000"


def asked(lab: Lab, *overrides: str, before: tuple[str, ...] = ()) -> "tuple[int, dict[str, str], str]":
    """Exit status, the lines by what they are about, and what was said at the end."""
    words = [*before, sys.executable, "-m", "ccsweep", "task=doctor", "cluster=slurm", DATABASE, TRACKING]
    done = subprocess.run(
        [*words, *overrides], cwd=lab.folder, env=lab.environment, capture_output=True, text=True, timeout=300
    )
    lines = {line[6:16].strip(): line[:6].strip() + " " + line[16:] for line in done.stdout.splitlines()}
    return done.returncode, lines, done.stderr.strip().rpartition("\n")[2]


def test_a_healthy_cluster(lab: Lab) -> None:
    status, lines, said = asked(lab, "sweep.slurm.gpus_per_task=1")
    assert status == 0, said
    about = ["storage", "tracking", "disk", "slurm", "job", "folder", "locks", "clock", "python", "gpu"]
    assert list(lines) == [*about, "node disk", "node net"]
    assert {line.split()[0] for line in lines.values()} == {"ok"}
    assert lines["storage"] == "ok postgresql+psycopg://lab:***@127.0.0.1:25432/studies"
    assert lines["gpu"] in ("ok GPU 0 for a worker", "ok GPU 1 for a worker")
    assert list((lab.folder / "outputs").iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "about", "line"),
    [
        ("sweep.slurm.partition=none", "job", "sbatch: error: invalid partition specified: none"),
        (
            "sweep.slurm={partition:short,time:10}",
            "job",
            " would wait for ever (Partition",
        ),
        ("sweep.slurm.gpus_per_node=9", "job", "sbatch: error: "),
        (DATABASE.replace("s3cret", "wrong"), "storage", 'password authentication failed for user "lab"'),
        (DATABASE.replace("/studies", "/none"), "storage", 'database "none" does not exist'),
        ("tracking.uri=http://127.0.0.1:1", "tracking", "does not answer (Connection refused)"),
    ],
)
def test_what_is_wrong(broken: str, about: str, line: str, lab: Lab) -> None:
    status, lines, said = asked(lab, broken)
    assert status == 2
    assert lines[about].startswith("WRONG ")
    assert line in lines[about]
    assert "s3cret" not in str(lines)
    assert said.startswith("ccsweep: task=doctor: ")
    assert said.endswith(" things are wrong; see above")


def test_a_folder_that_nodes_do_not_see(lab: Lab) -> None:
    """A disk of this machine's own, mounted over the one that nodes share."""
    hide = f'mount -t tmpfs tmpfs {lab.folder} && cd {lab.folder} && exec "$@"'
    status, lines, _ = asked(lab, before=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert status == 2
    assert lines["job"].endswith("ended without an answer; see nothing: its node does not see this folder")


def test_no_cluster_at_all(lab: Lab) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lab.environment, "PATH", "")
        status, lines, _ = asked(lab)
    assert status == 2
    assert lines["slurm"] == "WRONG there is no sinfo here: this is no machine of a SLURM cluster"
