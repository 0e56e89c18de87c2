"""Training as a user starts, stops and goes on with it, on the embedded digits."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.errors import UserError
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks import task
from ccsweep.tasks.earlier import Earlier
from ccsweep.tasks.train import check_can_go_on, require_folder
from ccsweep.training import checkpoint
from tests.conftest import User
from tests.tasks.conftest import Place
from tests.tasks.runs import SHORT, figures, reports

LONG = ("training.epochs=40", "training.step=skipping", "tracking.system_metrics=false")
DIGITS = data.load("digits")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(digits: tuple[User, Any], user: User) -> None:
    user.run(*SHORT)
    assert figures(reports(user)[0]) == figures(reports(digits[0])[0])


def wait_for_epochs(user: User, epochs: int, process: Any) -> Path:
    """Wait until the run has finished some epochs; returns its folder."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for folder in user.folder.glob("outputs/20*"):
            database = user.folder / "outputs" / "mlflow.db"
            if (folder / "checkpoints" / "last.ckpt").exists() and database.exists():
                runs = user.runs()
                if runs and runs[0].data.metrics.get("train/seconds") is not None:
                    history = _history(user, runs[0].info.run_id)
                    if len(history) >= epochs:
                        return folder
        time.sleep(0.05)
    raise AssertionError(f"no {epochs} epochs: {process.stderr.read() if process.poll() is not None else ''}")


def _history(user: User, run_id: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{user.folder}/outputs/mlflow.db")
    return client.get_metric_history(run_id, "validation/error")


@pytest.mark.slow
def test_resume_after_sigkill_ends_as_if_nothing_had_happened(
    user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = User(tmp_path_factory.mktemp("uninterrupted"))
    uninterrupted = other.start(*LONG)
    process = user.start(*LONG)
    folder = wait_for_epochs(user, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "report.json").exists()
    assert user.runs()[0].info.status == "RUNNING"  # nobody was left to end it
    done = user.run(f"training.resume={folder}")
    assert done.returncode == 0, done.stderr
    uninterrupted.communicate(timeout=180)
    (resumed,), (expected,) = reports(user), reports(other)
    assert figures(resumed) == figures(expected)
    (run,) = user.runs()
    assert run.info.status == "FINISHED"
    assert {m.step for m in _history(user, run.info.run_id)} == set(range(1, 41))
    assert [p.name for p in user.folder.glob("outputs/20*")] == [folder.name]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_marked_killed_and_says_how_to_go_on(user: User, stop: signal.Signals) -> None:
    process = user.start("training.epochs=2000", "tracking.system_metrics=false")
    folder = wait_for_epochs(user, 1, process)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"stopped; go on with: python -m ccsweep training.resume={folder}" in err
    assert "Traceback" not in err
    assert user.runs()[0].info.status == "KILLED", err


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_fails_the_run_and_says_since_when(user: User) -> None:
    done = user.run(*SHORT, "training.learning_rate=1e30", "training.max_norm=null")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("ccsweep: the loss is not a finite number since step ")
    assert line.endswith("(epoch 1); try a smaller training.learning_rate than 1e+30")
    assert "Traceback" not in done.stderr
    (run,) = user.runs()
    assert run.info.status == "FAILED"
    assert "not a finite number" in run.data.tags["ccsweep.error"]


@pytest.mark.slow
def test_a_run_cannot_end_before_it_stands(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run(f"training.resume={reports(user)[0]['folder']}", "training.epochs=3")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: training.epochs=3: the run has done 4 already; expected 4 or more"
    )
    assert user.runs()[0].info.status == "FINISHED"


def test_resume_refuses_other_settings(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run(f"training.resume={reports(user)[0]['folder']}", "training.learning_rate=1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "ccsweep: training.learning_rate: cannot change with training.resume=...; only data.dir, data.file, "
        "training.epochs, training.step, training.max_minutes, tracking can"
    )


@pytest.mark.slow
def test_a_finished_run_can_be_given_more_epochs(user: User) -> None:
    user.run("training.epochs=2", "tracking.system_metrics=false")
    folder = reports(user)[0]["folder"]
    done = user.run(f"training.resume={folder}", "training.epochs=4")
    assert done.returncode == 0, done.stderr
    (report,) = reports(user)
    assert report["epochs"] == 4
    assert report["resumed"]
    (run,) = user.runs()
    assert [m.step for m in _history(user, run.info.run_id)] == [1, 2, 3, 4]
    assert "epochs: 4" in Path(folder, "config.yaml").read_text()


@pytest.fixture
def earlier(tmp_path: Path) -> Earlier:
    """A run that was killed after its second epoch."""
    settings, folder = check(composed([])), TrialFolder(tmp_path)
    folder.data.write_text(json.dumps({"label": "digits", "digest": DIGITS.digest}))
    checkpoint.AtomicCheckpointIO().save_checkpoint(
        {"epoch": 1, "state_dict": {"w": torch.zeros(9)}}, checkpoint.last(tmp_path)
    )
    return Earlier(folder, "0123", settings, settings)


def test_the_same_data_and_more_epochs_can_go_on(earlier: Earlier) -> None:
    earlier.settings.training.epochs = 2
    check_can_go_on(earlier, DIGITS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("half", "is no JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "expected a JSON object, found list"),
    ],
)
def test_a_damaged_account_of_the_data(content: str, reason: str, earlier: Earlier) -> None:
    earlier.folder.data.write_text(content)
    with pytest.raises(UserError) as caught:
        check_can_go_on(earlier, DIGITS)
    assert str(caught.value) == f"{earlier.folder.data}: {reason}; train the run anew"


def test_a_copy_goes_on_as_a_run_of_its_own(
    place: Place, trained: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    copy = place.folder / "copy"
    shutil.copytree(place.folder / "trained", copy)
    (copy / "checkpoints" / ".last.ckpt.4711").touch()  # of a process that was killed
    found = place.run("none", f"training.resume={copy}", "training.epochs=3")
    assert (found["epochs"], found["folder"]) == (3, str(copy))
    assert found["run_id"] != trained["run_id"]
    assert f"{place.uri} does not hold the run of {copy}: it goes on as a new run" in caplog.messages
    epochs = place.client.get_metric_history(trained["run_id"], "validation/error")
    assert [metric.step for metric in epochs] == [1, 2]  # nothing was added to the original
    assert [path.name for path in (copy / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_run_whose_store_is_gone_goes_on_as_a_new_one(place: Place, trained: dict[str, Any]) -> None:
    folder = place.folder / "trained"
    gone = f"tracking.uri=sqlite:///{place.folder}/another.db"  # as one made anew in place of a deleted one
    config = place.config(gone, f"training.resume={folder}", "training.epochs=3")
    found = task("train")(
        config, TrialFolder(place.folder / "none"), [gone, f"training.resume={folder}", "training.epochs=3"]
    )
    assert (found["epochs"], found["folder"]) == (3, str(folder))
    assert found["run_id"] != trained["run_id"]


def test_fewer_epochs(earlier: Earlier) -> None:
    earlier.settings.training.epochs = 1
    with pytest.raises(UserError) as caught:
        check_can_go_on(earlier, DIGITS)
    assert str(caught.value) == "training.epochs=1: the run has done 2 already; expected 2 or more"


def test_other_data(earlier: Earlier) -> None:
    other = data.load("digits", samples=500)
    with pytest.raises(UserError) as caught:
        check_can_go_on(earlier, other)
    assert str(caught.value) == (
        f"training.resume: the run began with digits ({DIGITS.digest}), found digits, 500 training images "
        f"({other.digest}): set data.dir to the same data, or train anew"
    )


def test_a_damaged_checkpoint(earlier: Earlier) -> None:
    last = checkpoint.last(earlier.folder.path)
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(
        UserError, match=r"last\.ckpt: is damaged \(File is not a zip file\); train the run again"
    ):
        check_can_go_on(earlier, DIGITS)


def test_killed_before_the_first_epoch_ended(earlier: Earlier) -> None:
    checkpoint.last(earlier.folder.path).unlink()
    check_can_go_on(earlier, DIGITS)


def test_a_run_whose_folder_is_elsewhere(earlier: Earlier) -> None:
    earlier.folder.data.unlink()  # its artifacts hold no account of the data
    with pytest.raises(UserError, match="the run's own folder is not on this machine"):
        require_folder(earlier)
