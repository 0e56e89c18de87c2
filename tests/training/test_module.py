"""Short fits on the digits, in this process."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import ccsweep.app  # noqa: F401  registers the schema
from ccsweep import data
from ccsweep.config import check, root
from ccsweep.training import checkpoint
from ccsweep.training.fit import Job
from ccsweep.training.module import DivergedError


class Figures:
    """Keeps what a tracked run would be sent."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))


def job(folder: Path, *overrides: str) -> Job:
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        config = check(compose("config", overrides=["training.epochs=3", *overrides]))
    return Job(config, data.load("digits"), folder)


def test_each_epoch_logs_what_the_design_names(tmp_path: Path) -> None:
    run = Figures()
    work = job(tmp_path)
    trained = work.fit(run)
    assert [step for step, _ in run.logged] == [1, 2, 3]
    figures = run.logged[-1][1]
    shares = ("density", "true_density", "false_off", "false_on", "sign_agreement", "rank")
    expected = {f"validation/layer{i}/{name}" for i in (1, 2) for name in shares}
    expected |= {f"validation/{name}" for name in ("error", "loss", "theoretical_speedup")}
    expected |= {f"train/{name}" for name in ("loss", "learning_rate", "momentum", "seconds")}
    assert set(figures) == expected
    errors = [metrics["validation/error"] for _, metrics in run.logged]
    assert trained.validation_error == pytest.approx(min(errors), abs=1e-4)
    assert trained.best_epoch == 1 + errors.index(min(errors))


def test_the_best_weights_are_tested_and_the_last_epoch_is_saved(tmp_path: Path) -> None:
    work = job(tmp_path, "training.learning_rate_decay=3", "training.max_norm=1")  # gets worse at the end
    run = Figures()
    trained = work.fit(run)
    assert trained.best_epoch < 3
    assert checkpoint.epochs_done(tmp_path) == 3
    best = checkpoint.load(checkpoint.best(tmp_path))["state_dict"]
    for name, value in work.module.state_dict().items():
        assert torch.equal(best[name], value)


def test_factors_are_those_of_the_saved_weights(tmp_path: Path) -> None:
    work = job(tmp_path)
    work.fit(Figures())
    for layer in work.module.network.hidden:
        u, v = layer.u.clone(), layer.v.clone()
        layer.refresh()
        torch.testing.assert_close(u @ v, layer.u @ layer.v, rtol=0, atol=1e-5)


def test_max_norm_binds(tmp_path: Path) -> None:
    work = job(tmp_path, "training.max_norm=0.5")
    work.fit(Figures())
    for layer in work.module.network.linears():
        assert layer.weight.norm(dim=1).max() <= 0.5 + 1e-5


def test_weights_that_break_after_a_finite_loss_are_noticed_before_the_svd(tmp_path: Path) -> None:
    work = job(tmp_path, "training.epochs=1")
    step = work.module.optimizer_step

    def broken(*arguments, **options) -> None:
        step(*arguments, **options)
        if work.module.trainer.is_last_batch:
            with torch.no_grad():
                work.module.network.hidden[0].weight[0, 0] = float("inf")

    work.module.optimizer_step = broken
    with pytest.raises(DivergedError, match=r"not a finite number since step 26 \(epoch 1\)"):
        work.fit(Figures())
    assert not checkpoint.last(tmp_path).exists()


def test_early_stop_and_wall_clock(tmp_path: Path) -> None:
    stopped = job(tmp_path / "early", "training.epochs=10000", "training.patience=1").fit(Figures())
    assert stopped.epochs < 1000
    limited = job(tmp_path / "clock", "training.epochs=10000", "training.max_minutes=0.02").fit(Figures())
    assert 1 <= limited.epochs < 1000


def test_ranks_by_energy_in_bfloat16_with_frequent_refreshes(tmp_path: Path) -> None:
    settings = (
        "ranks=energy",
        "ranks.energy=0.5",
        "training.precision=bfloat16",
        "estimator.refresh_steps=7",
    )
    work = job(tmp_path, *settings)
    run = Figures()
    work.fit(run)
    tested = work.test(run)
    assert all(1 <= layer.rank < min(layer.inputs, layer.units) for layer in tested.layers)
    assert tested.error < 50
    assert work.module.refreshes == 1 / 26 + 1 / 7
    # Counting an SVD every few steps costs more than the gate saves.
    assert tested.theoretical_speedup < tested.inference_speedup
