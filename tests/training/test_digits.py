"""Short fits on the digits, in this process."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.errors import UserError
from ccsweep.training import checkpoint, posthoc
from ccsweep.training.fit import Job
from ccsweep.training.module import DivergedError
from tests.training.conftest import Figures


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
    speedups = ("theoretical_speedup", "theoretical_speedup_inference", "speedup_limit")
    expected |= {f"validation/{name}" for name in ("error", "loss", *speedups)}
    expected |= {f"train/{name}" for name in ("loss", "learning_rate", "momentum", "seconds")}
    expected |= {"train/skipping", "train/step_ms/dense", "train/step_ms/skipping"}
    expected |= {"refresh/seconds", "refresh/count"}
    expected |= {
        f"refresh/layer{i}/{name}" for i in (1, 2) for name in ("sign_disagreement", "subspace_angle")
    }
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
    network = work.module.network
    products = [layer.u @ layer.v for layer in network.hidden]
    network.refresh()
    for product, layer in zip(products, network.hidden, strict=True):
        torch.testing.assert_close(product, layer.u @ layer.v, rtol=0, atol=1e-5)


def test_max_norm_binds(tmp_path: Path) -> None:
    work = job(tmp_path, "training.max_norm=0.5")
    work.fit(Figures())
    for layer in work.module.network.linears():
        assert layer.weight.norm(dim=1).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("way", ["dense", "skipping"])
def test_weights_that_break_after_a_finite_loss_are_noticed_before_the_svd(way: str, tmp_path: Path) -> None:
    work = job(tmp_path, "training.epochs=1", f"training.step={way}")
    step = work.module.training_step

    def broken(*arguments) -> None:
        step(*arguments)
        if work.module.trainer.is_last_batch:
            work.module.settle()
            with torch.no_grad():
                work.module.network.hidden[0].weight[0, 0] = float("inf")

    work.module.training_step = broken
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
    assert work.module.refreshes == pytest.approx(1 / 26 + 1 / 7 - 1 / (7 * 26))
    # Counting an SVD every few steps costs more than the gate saves.
    assert tested.theoretical_speedup < tested.inference_speedup


def test_factors_are_stale_before_a_refresh_and_less_so_the_more_often_it_comes(tmp_path: Path) -> None:
    def stale(*settings: str) -> tuple[float, float, float]:
        run = Figures()
        job(tmp_path / "_".join(settings), "training.epochs=2", *settings).fit(run)
        figures = run.logged[-1][1]
        names = ("count", "layer1/sign_disagreement", "layer1/subspace_angle")
        count, disagreement, angle = (figures[f"refresh/{name}"] for name in names)
        return count, disagreement, angle

    once, often = stale(), stale("estimator.refresh_steps=13", "estimator.refresh=warm")
    assert (once[0], often[0]) == (1, 2)  # 26 steps an epoch: the last step's is the epoch's own
    assert 0 < often[1] < once[1] < 1
    assert 0 < often[2] < once[2] <= 90


@pytest.mark.parametrize(
    ("setting", "expected"), [("true", [1, 1, 1]), ("false", [0, 0, 0]), ("1", [0, 1, 1])]
)
def test_the_gate_in_training(tmp_path: Path, setting: str, expected: list[int]) -> None:
    work = job(tmp_path, f"estimator.gate_in_training={setting}")
    seen = []
    step = work.module.training_step

    def watched(batch, batch_idx: int) -> torch.Tensor:
        if batch_idx == 0:
            seen.append(int(work.module.network.trace(batch[0])[1][0].gate is not None))
        return step(batch, batch_idx)

    work.module.training_step = watched
    run = Figures()
    work.fit(run)
    assert seen == expected
    assert run.logged[0][1]["validation/layer1/density"] < 1  # validation is always gated


def test_running_moments_are_taken_in_training_and_used(tmp_path: Path) -> None:
    work = job(tmp_path, "estimator=whitened", "estimator.moments=running")
    work.fit(Figures())
    network = work.module.network
    assert network.hidden[0].running.moments().samples == 50 * 8  # steps 0, 10, .. 70
    data = network.layer_data(work.calibration)[0]
    assert data.moments.samples == 50 * 8
    # Dropout scales what it keeps by 1 / 0.9: squares have 1 / 0.9 of their mean, products keep theirs.
    own = data.inputs.T @ data.inputs / len(data.inputs)
    found, diagonal = data.moments.second, torch.eye(64, dtype=torch.bool)
    assert float(found[diagonal].sum() / own[diagonal].sum()) == pytest.approx(1 / 0.9, abs=0.04)
    assert float(found[~diagonal].sum() / own[~diagonal].sum()) == pytest.approx(1, abs=0.04)


def test_another_estimator_on_a_trained_network(tmp_path: Path) -> None:
    """On the same network and at the same ranks, whitened factors miss fewer units in every layer."""
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        trained = check(compose("config", overrides=["training.epochs=10", "ranks=control"]))
        tried = [
            check(compose("config", overrides=["ranks.layers=[8,6]", f"estimator={name}"]))
            for name in ("random", "svd", "whitened", "whitened")
        ]
    dataset = data.load("digits")
    Job(trained, dataset, tmp_path).fit(Figures())
    best, missed, seen = checkpoint.best(tmp_path), [], []
    for config in tried:
        work = Job(config, dataset, tmp_path)
        posthoc.refit(work, trained, best, dataset.digest)
        missed.append([layer.statistics.false_off for layer in work.test(Figures()).layers])
        seen.append(next(iter(posthoc._seen.values())))
    drawn, svd, whitened, again = missed
    assert all(w < s < r for w, s, r in zip(whitened, svd, drawn, strict=True))
    assert again == whitened
    assert all(layers is seen[0] for layers in seen)  # looked at once, decomposed once
    assert set(seen[0][0].spectra) == {"svd", "whitened"}


@pytest.mark.parametrize(
    "settings",
    [
        ("estimator.energy_loss=0.01",),
        ("estimator.density=0.3",),
        ("ranks=budget", "ranks.budget=0.2", "estimator=whitened-centred"),
        ("estimator.placement=first", "estimator.refresh=randomised"),
    ],
)
def test_what_else_an_estimator_can_be_told(tmp_path: Path, settings: tuple[str, ...]) -> None:
    work = job(tmp_path, *settings)
    work.fit(Figures())
    first, second = work.test(Figures()).layers
    if "estimator.density=0.3" in settings:
        assert first.statistics.density == pytest.approx(0.3, abs=0.06)
    if "ranks=budget" in settings:
        assert first.rank * (64 + 256) + second.rank * (256 + 128) <= 0.2 * (64 * 256 + 256 * 128 + 1280)
    assert (second.rank is None) == ("estimator.placement=first" in settings)
    assert first.statistics.sign_agreement > 0.6


def test_too_few_calibration_images_for_the_rank(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        job(tmp_path, "estimator=whitened", "estimator.calibration=10").fit(Figures())
    assert str(caught.value) == (
        "estimator.calibration: whitened factors of rank 16 for the 64x256 layer need at least 16 calibration "
        "samples; found 10"
    )


def test_a_checkpoint_with_nan_weights_gets_no_new_estimator(tmp_path: Path) -> None:
    work = job(tmp_path, "training.epochs=1")
    work.fit(Figures())
    path = checkpoint.best(tmp_path)
    saved = checkpoint.load(path)
    saved["state_dict"]["network.hidden.1.weight"][0, 0] = float("nan")
    checkpoint.AtomicCheckpointIO().save_checkpoint(saved, path)
    with pytest.raises(UserError) as caught:
        posthoc.refit(work, work.config, path, "")
    assert str(caught.value) == (
        "the 256x128 layer's weights hold NaN or infinity; no estimator can be fitted"
    )
