"""What a sweep needs is away for a while, in the middle of it: nothing fails for that, nothing is done twice."""

import random
import subprocess
import sys
import time

from tests.cluster.conftest import Lab, until


def test_a_database_that_is_started_anew_again_and_again(lab: Lab) -> None:
    draw = random.Random(1)
    options = ["training.l1=range(0,10)", "training.source='1'", "sweep.workers=3"]
    with lab.start(*options) as process:
        for count in (1, 3, 6, 9):
            until(lambda count=count: len(lab.computed()) >= count)
            with lab.services.away("database"):
                time.sleep(draw.uniform(0, 4))
        out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    assert lab.states() == {"COMPLETE": 10}
    assert len(set(lab.computed())) == len(lab.computed()) == 10
    assert "the storage failed, trying again: connection" in out


def test_a_tracking_server_that_is_away_is_waited_for(lab: Lab) -> None:
    lab.environment["TRACKED"] = "1"
    with lab.start("training.l1=range(0,8)", "training.source='2'", "sweep.workers=2") as process:
        until(lab.in_a_run)
        with lab.services.away("tracking"):
            time.sleep(25)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert lab.states()["COMPLETE"] == 8
    assert len(lab.causes()) <= 2  # that were about to begin: tried again, and no fault of theirs
    assert all(trial.user_attrs["excused"] for trial in lab.trials() if trial.state.name == "FAIL")
    assert lab.runs() == {"sweep": ["FINISHED"], "trial": ["FINISHED"] * 8}


def test_what_is_logged_while_the_tracking_server_stays_away_is_kept(lab: Lab) -> None:
    lab.environment["TRACKED"] = "1"
    options = ["training.l1=choice(0)", "training.source='5'", "tracking.patience=0.05"]
    with lab.start(*options) as process:
        until(lab.in_a_run)
        with lab.services.away("tracking"):
            out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert lab.states() == {"COMPLETE": 1}
    (kept,) = lab.study.path.glob("trials/*/spool")
    assert lab.runs()["trial"] == ["RUNNING"]
    words = [sys.executable, "-m", "ccsweep.tracking.away", str(lab.study.path)]
    said = subprocess.run(words, env=lab.environment, capture_output=True, text=True)
    assert said.stdout == f"{kept.parent}: sent\n", said.stderr
    assert lab.runs()["trial"] == ["FINISHED"]
