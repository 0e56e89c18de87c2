"""A worker whose time is up has done nothing wrong: what it was at is handed back, and another takes its place."""

from tests.cluster.conftest import Lab, until

UP = "its time on the cluster was up"


def announce_the_end(lab: Lab) -> None:
    """What SLURM sends to a job that is near its limit."""
    for job in lab.slurm("squeue", "-h", "-t", "running", "-o", "%A", "-n", f"ccsweep-{lab.name}").split():
        lab.slurm("scancel", "--signal=USR2", job)


def test_the_end_is_announced_again_and_again(lab: Lab) -> None:
    """More often than there may be deaths."""
    lab.environment["TRACKED"] = "1"
    with lab.start("training.l1=range(0,5)", "training.source='2'") as process:
        for count in range(4):
            until(lambda count=count: lab.in_a_run() and lab.workers()[0]["id"] == f"w{count}")
            announce_the_end(lab)
        out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    found = lab.states()
    assert found["COMPLETE"] == 5
    assert set(found) <= {"COMPLETE", "FAIL"}
    assert set(lab.causes()) == {UP}
    runs = lab.runs()
    assert set(runs["trial"]) == {"FINISHED", "KILLED"}
    assert runs["trial"].count("FINISHED") == 5
    assert runs["sweep"] == ["FINISHED"]


def test_a_time_limit_of_a_minute(lab: Lab) -> None:
    """SLURM looks at its jobs' ends twice a minute, so the signal comes within 40 s; the trials take longer."""
    limit = "sweep.slurm={time:1,signal_delay_s:50}"
    status, out = lab.run("training.l1=range(0,14)", "training.source='3.5'", limit)
    assert status == 0, out
    assert lab.states()["COMPLETE"] == 14
    assert len(list(lab.study.leases())) > 1  # its worker was replaced


def test_a_training_goes_on_from_its_checkpoint(lab: Lab) -> None:
    place = lab.study.trial("0")
    with lab.start("training.l1=choice(0)", "training.epochs=60", command="ccsweep.app") as process:
        until(place.last_checkpoint.is_file)
        announce_the_end(lab)
        out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    assert lab.causes() == [UP]
    report = place.read_report()
    assert report is not None
    assert report["resumed"]
    assert report["epochs"] == 60
    assert [trial.user_attrs["folder"] for trial in lab.trials()] == ["trials/0"] * 2
    assert lab.runs() == {"sweep": ["FINISHED"], "trial": ["FINISHED"]}  # one run, from its start to its end
