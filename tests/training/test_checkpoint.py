import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from ccsweep.config.schema import EstimatorConfig, RanksConfig
from ccsweep.errors import UserError
from ccsweep.files import whole
from ccsweep.network import ConditionalMLP
from ccsweep.training.checkpoint import (
    AtomicCheckpointIO,
    SaveCheckpoints,
    best,
    epochs_done,
    last,
    load,
    load_network,
)


def saved(network: ConditionalMLP, path: Path) -> Path:
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "epoch": 3}, path)
    return path


def test_a_network_comes_back_as_it_was(tmp_path: Path) -> None:
    network = ConditionalMLP([6, 5, 3], RanksConfig([2]), EstimatorConfig("svd", threshold=0.1))
    network.refresh()
    network.hidden[0].u.mul_(2)  # factors that are not those of the weights
    path = saved(network, tmp_path / "best.ckpt")
    other = ConditionalMLP([6, 5, 3], RanksConfig([2]))
    assert load_network(other, path) == 3
    x = torch.randn(7, 6)
    assert torch.equal(network(x), other(x))


def test_another_estimator_keeps_factors_of_its_own(tmp_path: Path) -> None:
    network = ConditionalMLP([6, 5, 3], RanksConfig([2]), EstimatorConfig("svd", moments="running"))
    network.refresh()
    path = saved(network, tmp_path / "best.ckpt")
    other = ConditionalMLP([6, 5, 3], RanksConfig([3]))
    load_network(other, path, factors=False)
    assert torch.equal(other.hidden[0].weight, network.hidden[0].weight)
    assert other.hidden[0].rank == 0  # not refreshed yet


def test_a_network_that_only_predicts_needs_no_running_moments(tmp_path: Path) -> None:
    network = ConditionalMLP([6, 5, 3], RanksConfig([2]), EstimatorConfig("whitened", moments="running"))
    network.hidden[0].running.update(torch.randn(20, 6))
    network.refresh()
    path = saved(network, tmp_path / "best.ckpt")
    other = ConditionalMLP([6, 5, 3], RanksConfig([2]), EstimatorConfig("whitened"))
    load_network(other, path)
    x = torch.randn(7, 6)
    assert torch.equal(network(x), other(x))


def test_running_moments_come_back_where_they_are_kept(tmp_path: Path) -> None:
    networks = [
        ConditionalMLP([6, 5, 3], RanksConfig([2]), EstimatorConfig("svd", moments="running")) for _ in "ab"
    ]
    networks[0].hidden[0].running.update(torch.randn(20, 6))
    load_network(networks[1], saved(networks[0], tmp_path / "best.ckpt"))
    found, kept = (network.hidden[0].running.moments() for network in reversed(networks))
    assert torch.equal(found.second, kept.second)
    assert found.samples == 20


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = saved(ConditionalMLP([6, 5, 3]), tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt: holds another network than the config"):
        load_network(ConditionalMLP([6, 4, 3]), path)


def test_missing_cut_and_hostile_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(UserError, match=r"last\.ckpt: no such checkpoint; the run may have stopped"):
        load(path)
    saved(ConditionalMLP([6, 5, 3]), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: is damaged (File is not a zip file); train the run again"
    torch.save({"state_dict": {}, "run": os.system}, path)
    with pytest.raises(
        UserError,
        match=r"last\.ckpt: cannot be read as a checkpoint \(Weights only load failed.*\); train the run again$",
    ):
        load(path)


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Each part of the file has a checksum; a bit outside of them names no weight."""
    path = tmp_path / "best.ckpt"
    saved(ConditionalMLP([6, 5, 3], RanksConfig([2])), path)
    whole, before = path.read_bytes(), load(path)
    draw, noticed = random.Random(0), 0
    for _ in range(150):
        place = draw.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found = None
        with suppress(UserError):
            found = load(path)
        noticed += found is None
        for name, value in before["state_dict"].items() if found is not None else ():
            assert torch.equal(found["state_dict"][name], value), place
    weight = whole.index(before["state_dict"]["network.hidden.0.weight"].numpy().tobytes())
    path.write_bytes(whole[:weight] + bytes([whole[weight] ^ 1]) + whole[weight + 1 :])
    with pytest.raises(
        UserError, match=r"best\.ckpt: is damaged \(the checksum of its part .*/data/\d+ does not match\)"
    ):
        load(path)
    assert noticed > 20


def test_a_checkpoint_takes_the_place_of_the_one_before_and_never_its_bytes(tmp_path: Path) -> None:
    path, seen = tmp_path / "two" / "new" / "last.ckpt", tmp_path / "seen"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)
    os.link(path, seen)  # as who has opened it sees it
    io.save_checkpoint({"epoch": 2}, path)
    assert (load(seen), load(path)) == ({"epoch": 1}, {"epoch": 2})
    assert os.listdir(path.parent) == ["last.ckpt"]
    io.save_checkpoint({"epoch": 3}, path)
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)  # gone already
    assert not path.exists()


def test_a_disk_that_is_full_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)

    def full(checkpoint: object, file: object) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        io.save_checkpoint({"epoch": 2}, path)
    assert io.load_checkpoint(str(path)) == {"epoch": 1}


def test_which_epochs_are_behind_it(tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == 0
    AtomicCheckpointIO().save_checkpoint({"epoch": 4}, last(tmp_path))
    assert epochs_done(tmp_path) == 5
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert best(tmp_path) == tmp_path / "checkpoints" / "best.ckpt"


class Saved:
    """A trainer whose checkpoints are their epoch's number, and that says what it was asked to save."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths, self.epoch = folder, list[str](), 0

    def save_checkpoint(self, path: Path) -> None:
        self.paths.append(path.name)
        path.parent.mkdir(exist_ok=True)
        with whole(path) as partial:
            partial.write_text(str(self.epoch))

    def end(self, saver: SaveCheckpoints, error: float) -> tuple[list[str], str, str]:
        self.callback_metrics, self.paths = {"validation/error": torch.tensor(error)}, []
        self.epoch += 1
        saver.on_validation_end(self, None)
        return self.paths, best(self.folder).read_text(), last(self.folder).read_text()


def test_an_epoch_is_saved_as_the_last_and_as_the_best_where_it_is_better(tmp_path: Path) -> None:
    saver, trainer = SaveCheckpoints(tmp_path), Saved(tmp_path)
    assert trainer.end(saver, 7.0) == (["best.ckpt"], "1", "1")  # written once, with two names
    assert trainer.end(saver, 7.0) == (["last.ckpt"], "1", "2")
    assert trainer.end(saver, 6.0) == (["best.ckpt"], "3", "3")
    assert best(tmp_path).samefile(last(tmp_path))
    resumed = SaveCheckpoints(tmp_path)
    resumed.load_state_dict(saver.state_dict())
    assert trainer.end(resumed, 6.5) == (["last.ckpt"], "3", "4")


def test_where_a_file_has_only_one_name_the_best_epoch_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(file: Path, name: Path) -> None:
        raise PermissionError(1, "Operation not permitted")  # as FAT says

    monkeypatch.setattr(os, "link", link)
    assert Saved(tmp_path).end(SaveCheckpoints(tmp_path), 7.0) == (["best.ckpt", "last.ckpt"], "1", "1")


WRITER = """
import sys, torch
from pathlib import Path
from ccsweep.training.checkpoint import AtomicCheckpointIO
io, path = AtomicCheckpointIO(), Path(sys.argv[1])
for i in range(10_000):
    io.save_checkpoint({"epoch": i, "state_dict": {"w": torch.full((500_000,), float(i))}}, path)
    print(i, flush=True)
"""


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for pause in (0.002, 0.006):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        written = int(writer.stdout.readline())
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        written = max([written, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()
        checkpoint = load(path)
        assert checkpoint["epoch"] >= written
        assert (checkpoint["state_dict"]["w"] == checkpoint["epoch"]).all()
