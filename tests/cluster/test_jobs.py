"""Workers as SLURM's jobs: they speak while they wait, get their own GPUs, and are gone at the end."""

from pathlib import Path

import pytest

from tests.cluster.conftest import Lab


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("{partition:short,time:10}", "would wait for ever (Partition"),
        ("{gpus_per_node:9}", "no worker can be started (sbatch: error: "),
        ("{partiton:main}", "no worker can be started (sbatch: unrecognized option '--partiton=main'"),
        ("{partition:none}", "no worker can be started (sbatch: error: invalid partition specified: none"),
    ],
)
def test_a_job_that_can_never_start(asked: str, complaint: str, lab: Lab) -> None:
    status, out = lab.run("training.l1=range(0,2)", f"sweep.slurm={asked}")
    assert status == 2, out
    (line,) = [line for line in out.splitlines() if line.startswith("ccsweep: ")]
    assert complaint in line
    assert "Traceback" not in out
    assert lab.jobs() == []


def test_a_job_that_waits_says_so_and_nobody_waits_for_it(lab: Lab) -> None:
    options = ["training.l1=range(0,6)", "training.source='2'", "sweep.workers=2"]
    status, out = lab.run(*options, "sweep.slurm={nodelist:n1,exclusive:true,nice:1}")
    assert status == 0, out
    assert lab.states() == {"COMPLETE": 6}
    assert " waits (Resources)" in out
    assert {trial.user_attrs["worker"] for trial in lab.trials()} == {"w0"}
    assert lab.jobs() == []


def test_a_trial_that_takes_too_long_is_no_fault_of_its_machine(lab: Lab) -> None:
    status, out = lab.run(
        "training.source='no end',gpu", "sweep.trial_timeout=0.3", "sweep.slurm.gpus_per_task=1"
    )
    assert status == 2, out
    assert lab.causes() == ["ran longer than sweep.trial_timeout=0.3 minutes"]
    assert lab.states() == {"COMPLETE": 1, "FAIL": 1}
    (seen,) = Path(lab.folder).glob("gpu-*")
    assert seen.read_text() in ("0", "1")  # SLURM's choice
