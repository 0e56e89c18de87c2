from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from ccsweep.config.schema import RanksConfig
from ccsweep.training import callbacks
from ccsweep.training.callbacks import RefreshFactors, TrackMetrics, WallClock
from ccsweep.watch import watching
from tests.training.conftest import Figures


def test_refreshes_between_the_epochs_own(small_job) -> None:
    """Five steps an epoch: a refresh is due after steps 2, 4, 6, 8, but the one due at an epoch's end is its own."""
    job, run = small_job(refresh_steps=2, name="whitened"), Figures()
    counts = []
    refresh = job.module.network.refresh
    job.module.network.refresh = lambda *a: counts.append(job.module.trainer.global_step) or refresh(*a)
    job.module.trainer = SimpleNamespace(global_step=0)
    job.fit(run)
    assert counts == [0, 2, 4, 5, 6, 8, 10, 12, 14, 15]
    assert [figures["refresh/count"] for _, figures in run.logged] == [3, 3, 3]
    assert job.module.refreshes == pytest.approx(3 / 5)


def test_what_refreshes_cost_is_added_up_and_begins_anew_each_epoch(small_job, monkeypatch) -> None:
    job = small_job()
    job.fit(Figures())
    clock = iter([10.0, 11.5, 20.0, 22.0, 30.0, 30.25])
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    refresher = RefreshFactors(job.calibration, steps=2)
    trainer = SimpleNamespace(global_step=2, is_last_batch=False)
    refresher.on_train_batch_end(trainer, job.module)
    trainer.global_step = 3
    refresher.on_train_batch_end(trainer, job.module)
    for seconds, count in ((3.5, 2.0), (0.25, 1.0)):
        refresher.on_validation_start(trainer, job.module)
        figures = job.module.refresh_figures
        assert (figures["refresh/seconds"], figures["refresh/count"]) == (seconds, count)


def test_the_control_has_nothing_to_refresh(small_job) -> None:
    job = small_job(ranks=RanksConfig())
    job.fit(Figures())
    assert job.module.refresh_figures == {}


def test_staleness_is_counted_on_the_first_500_images(small_job) -> None:
    job = small_job()
    job.fit(Figures())
    images = torch.cat([job.calibration[:25].repeat(20, 1), torch.full((500, 12), 100.0)])
    refresher, seen = RefreshFactors(images), []
    layer_data = job.module.network.layer_data
    job.module.network.layer_data = lambda x=None: seen.append(x) or layer_data(x)
    refresher.on_validation_start(None, job.module)
    assert torch.equal(seen[-1], images[:500])


def test_another_epoch_is_begun_only_if_the_longest_so_far_would_fit(monkeypatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    for minutes, epochs in (
        (
            0.5,
            ((5.0, False), (10.0, False), (2.0, False), (3.0, False), (0.1, True)),
        ),  # at 20 s another 10 s fit
        (0.01, ((0.25, False), (0.1, False), (0.001, True))),
    ):
        trainer, wall = SimpleNamespace(should_stop=False), WallClock(minutes)
        for seconds, stop in epochs:
            wall.on_train_epoch_start(trainer, None)
            clock.now += seconds
            wall.on_train_epoch_end(trainer, None)
            assert trainer.should_stop == stop


def test_figures_go_to_the_run_and_in_training_to_who_watches() -> None:
    run, heard = Figures(), []
    track = TrackMetrics(run)
    metrics = {
        name: torch.tensor(0.5)
        for name in ("train/loss", "validation/error", "refresh/count", "test/loss", "x")
    }
    trainer = SimpleNamespace(
        callback_metrics=metrics, current_epoch=6, state=SimpleNamespace(fn=TrainerFn.FITTING)
    )
    expected = {"train/loss": 0.5, "validation/error": 0.5, "refresh/count": 0.5}
    with watching(lambda epoch, figures: heard.append((epoch, dict(figures)))):
        track.on_validation_end(trainer, None)
        trainer.state.fn, trainer.current_epoch = TrainerFn.VALIDATING, 8
        track.on_validation_end(trainer, None)
        track.on_test_end(trainer, None)
    assert run.logged == [(7, expected), (9, expected), (9, {"test/loss": 0.5})]
    assert heard == [(7, expected)]
    assert all(type(value) is float for value in run.logged[0][1].values())
