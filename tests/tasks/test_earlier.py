"""What a resumed run refuses before it touches anything, in this process."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.errors import UserError
from ccsweep.tasks.earlier import DATA, Earlier, check_can_go_on, require_folder, sole_user
from ccsweep.training import checkpoint

DIGITS = data.load("digits")


@pytest.fixture
def earlier(tmp_path: Path) -> Earlier:
    """A run that was killed after its second epoch."""
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        settings = check(compose("config"))
    (tmp_path / DATA).write_text(json.dumps({"label": "digits", "digest": DIGITS.digest}))
    checkpoint.AtomicCheckpointIO().save_checkpoint(
        {"epoch": 1, "state_dict": {"w": torch.zeros(9)}}, checkpoint.last(tmp_path)
    )
    return Earlier(tmp_path, "0123", settings, settings)


def test_the_same_data_and_more_epochs_can_go_on(earlier: Earlier) -> None:
    earlier.settings.training.epochs = 2
    check_can_go_on(earlier, DIGITS)


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
    last = checkpoint.last(earlier.folder)
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be read as a checkpoint"):
        check_can_go_on(earlier, DIGITS)


def test_killed_before_the_first_epoch_ended(earlier: Earlier) -> None:
    checkpoint.last(earlier.folder).unlink()
    check_can_go_on(earlier, DIGITS)


def test_a_run_whose_folder_is_elsewhere(earlier: Earlier) -> None:
    with pytest.raises(UserError, match="the run's own folder is not on this machine"):
        require_folder(earlier)


def test_two_processes_on_one_run(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another process is working on this run")
    with sole_user(tmp_path), refused, sole_user(tmp_path):
        pass
