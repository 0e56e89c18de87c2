from collections.abc import Mapping
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient

from ccsweep import data, watch
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.schema import Config
from ccsweep.errors import Pruned
from ccsweep.tracking import Run
from ccsweep.training.fit import Job


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        return check(compose("config", overrides=["training.epochs=3", *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


def started(store: str, folder: Path) -> Run:
    return Run.start(
        store, experiment="watched", name="a run", params={}, tags={}, folder=folder, system_metrics=False
    )


def test_a_watcher_hears_the_bound_and_then_every_epoch(tmp_path: Path, store: str) -> None:
    heard: list[tuple[int, Mapping[str, float]]] = []
    with started(store, tmp_path) as run, watch.watching(lambda *said: heard.append(said)):
        Job(config(), data.load("digits"), tmp_path).fit(run)
    assert [epoch for epoch, _ in heard] == [0, 1, 2, 3]
    bound = heard[0][1]["bound"]
    for _, figures in heard[1:]:
        assert figures["validation/error"] > 0
        assert 0 < figures["validation/theoretical_speedup_inference"] <= bound
    watch.tell(4, {})  # to nobody: the watcher is gone
    assert len(heard) == 4


def test_the_control_can_be_no_faster_than_it_is(tmp_path: Path) -> None:
    assert Job(config("ranks=control"), data.load("digits"), tmp_path).module.speedup_bound() == 1


def test_a_watcher_may_end_the_run(tmp_path: Path, store: str) -> None:
    def stop(epoch: int, figures: Mapping[str, float]) -> None:
        if epoch == 2:
            raise Pruned("hopeless at epoch 2")

    with (
        pytest.raises(Pruned, match="hopeless"),
        started(store, tmp_path) as run,
        watch.watching(stop),
    ):
        Job(config(), data.load("digits"), tmp_path).fit(run)
    found = MlflowClient(store).get_run(run.id)
    assert found.info.status == "KILLED"
    assert found.data.tags["ccsweep.pruned"] == "hopeless at epoch 2"
