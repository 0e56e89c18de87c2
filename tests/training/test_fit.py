import logging
import signal
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from ccsweep.config.schema import EstimatorConfig, RanksConfig
from ccsweep.data.dataset import Dataset
from ccsweep.errors import UserError
from ccsweep.network import ConditionalMLP
from ccsweep.training import checkpoint
from ccsweep.training.fit import Job, build_network, calibration_images, threads_for
from ccsweep.watch import watching
from tests.training.conftest import Figures


def test_weights_are_drawn_from_the_seed(small_config) -> None:
    torch.manual_seed(99)
    first = build_network(small_config(weight_std=0.5))
    again, other = (
        build_network(small_config(weight_std=0.5)),
        build_network(small_config(weight_std=0.5, seed=4)),
    )
    for a, b, c in zip(first.linears(), again.linears(), other.linears(), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)
    assert [layer.weight.shape for layer in first.linears()] == [(10, 12), (8, 10), (3, 8)]
    assert float(
        torch.cat([layer.weight.flatten() for layer in first.linears()]).detach().std()
    ) == pytest.approx(0.5, rel=0.15)
    assert first.hidden[0].bias.unique().tolist() == pytest.approx([0.1])
    assert (first.dropout_input, first.dropout_hidden) == (0.1, 0.2)


def test_a_tiny_network_is_trained_with_one_thread_and_says_so(
    small_config, small_data: Dataset, tmp_path, caplog
) -> None:
    caplog.set_level(logging.INFO)
    seen = []

    class Look(Callback):
        def on_train_epoch_start(self, *_) -> None:
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        job = Job(small_config(epochs=1), small_data, tmp_path)
        job.fit(Figures(), callbacks=[Look()])
        assert (seen, job.threads, torch.get_num_threads()) == ([1], 1, 3)
        assert caplog.messages == ["training with 1 of 3 threads, which is enough for this network"]
        large = ConditionalMLP([784, 1000, 10], RanksConfig(), EstimatorConfig(name="svd"))
        assert [threads_for(large, size) for size in (25, 51, 76, 1000)] == [1, 2, 3, 3]
    finally:
        torch.set_num_threads(before)


def test_calibration_images_are_spread_over_the_training_set(small_config, small_data: Dataset) -> None:
    train = small_data.train.images
    spread = calibration_images(small_config(), small_data)
    assert torch.equal(spread, torch.stack([train[i * 120 // 50] for i in range(50)]))
    assert torch.equal(calibration_images(small_config(calibration=500), small_data), train)


def test_a_job_of_several_tasks_is_no_reason_for_more_processes(small_job, monkeypatch) -> None:
    """Lightning refuses what it takes for a mistake of who started it."""
    for name, value in {"SLURM_JOB_NAME": "wrap", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    small_job(epochs=1).fit(Figures())


@pytest.mark.parametrize("step", ["dense", "skipping"])
def test_a_resumed_job_comes_to_what_an_unbroken_one_does(
    step: str, small_config, small_data: Dataset, tmp_path, caplog
) -> None:
    whole, parts = Figures(), Figures()
    caplog.set_level(logging.INFO)
    expected = Job(small_config(step=step), small_data, tmp_path / "whole").fit(whole)
    Job(small_config(epochs=1, step=step), small_data, tmp_path / "parts").fit(parts, resume=True)
    said = [text for name, _, text in caplog.record_tuples if name == "ccsweep.training.fit"]
    assert said == ["no epoch was finished yet: starting from the beginning"]  # kernels may be compiled, too
    assert checkpoint.epochs_done(tmp_path / "parts") == 1
    assert Job(small_config(step=step), small_data, tmp_path / "parts").fit(parts, resume=True) == expected
    assert [step for step, _ in parts.logged] == [1, 2, 3]
    for (_, a), (_, b) in zip(whole.logged, parts.logged, strict=True):
        a, b = ({k: v for k, v in figures.items() if "seconds" not in k} for figures in (a, b))
        assert a == b
    states = [checkpoint.load(checkpoint.last(tmp_path / name))["state_dict"] for name in ("whole", "parts")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_without_resume_a_folder_begins_anew(small_job) -> None:
    small_job(epochs=1).fit(Figures())
    run = Figures()
    small_job(epochs=1).fit(run)
    assert [step for step, _ in run.logged] == [1]


def test_when_it_stops_early(small_job) -> None:
    assert small_job(epochs=9, patience=2, learning_rate=1e-9).fit(Figures()).epochs == 3
    assert small_job(epochs=9, max_minutes=1e-9).fit(Figures()).epochs == 1


def test_who_watches_is_told_what_the_ranks_allow(small_job) -> None:
    def bounds(**changed: object) -> list[dict[str, float]]:
        heard = []
        with watching(lambda epoch, figures: heard.append((epoch, dict(figures)))):
            small_job(epochs=1, **changed).fit(Figures())
        assert heard[-1][0] == 1
        return [figures for epoch, figures in heard if epoch == 0]

    dense = [(2 * d - 1) * h + h for d, h in ((12, 10), (10, 8), (8, 3))]
    estimates = [(2 * d - 1) * r + (2 * r - 1) * h + h for d, h, r in ((12, 10, 4), (10, 8, 3))]
    assert bounds() == [{"bound": pytest.approx(sum(dense) / (sum(estimates) + dense[2]))}]
    assert bounds(ranks=RanksConfig(energy=0.9)) == []


@pytest.mark.parametrize(
    ("steps", "refreshes"), [(None, 1 / 5), (2, 3 / 5), (5, 1 / 5), (10, 1 / 5), (1, 1.0)]
)
def test_refreshes_for_each_training_step(small_job, steps: int | None, refreshes: float) -> None:
    """120 images in batches of 25 are five steps; of two refreshes after the same step one takes place."""
    job, run = small_job(epochs=2, batch_size=25, refresh_steps=steps, name="whitened"), Figures()
    job.fit(run)
    assert job.module.refreshes == pytest.approx(refreshes)
    assert sum(figures["refresh/count"] for _, figures in run.logged) == pytest.approx(10 * refreshes)


def test_the_gate_begins_in_the_epoch_that_the_config_names(small_job) -> None:
    class Watch(Callback):
        gated: ClassVar[list[bool]] = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx: int) -> None:
            if batch_idx == 0:
                self.gated.append(module.network.gate_in_training)

    small_job(gate_in_training=2).fit(Figures(), callbacks=[Watch()])
    assert Watch.gated == [False, False, True]


def test_callbacks_of_the_caller_come_first(small_job) -> None:
    class Watch(Callback):
        def on_validation_start(self, trainer, module) -> None:
            self.before = dict(module.refresh_figures)

    watch = Watch()
    small_job(epochs=1).fit(Figures(), callbacks=[watch])
    assert watch.before == {}  # the job's own refresh had not begun


def test_validation_of_a_network_as_it_is(small_job, capsys) -> None:
    job, run = small_job(epochs=1), Figures()
    trained = job.fit(Figures())
    examined = job.validate(run)
    assert capsys.readouterr().out == ""  # what is found is logged, not printed
    assert examined.error == pytest.approx(trained.validation_error, abs=1e-4)
    ((step, figures),) = run.logged
    assert step == 1
    assert figures["validation/error"] == pytest.approx(examined.error)
    assert not [name for name in figures if not name.startswith("validation/")]
    assert job.validate() == examined


def test_spectra_of_the_weights(small_job) -> None:
    job = small_job()
    job.module.network.refresh()
    first, second = job.spectra()
    assert (first[0], first[2]) == ("12x10", 4)
    assert (second[0], second[2]) == ("10x8", 3)
    weight = job.module.network.hidden[0].weight.detach()
    assert first[1] == pytest.approx(
        torch.linalg.eigvalsh(weight @ weight.T).flip(0).clamp(min=0).sqrt().tolist(), abs=1e-4
    )


def test_devices_and_precisions(small_job, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert small_job(device="auto")._device() == "cpu"
    with pytest.raises(UserError) as caught:
        small_job(device="cuda")
    assert str(caught.value) == (
        "training.device=cuda: no CUDA GPU is visible to torch here; use training.device=cpu or auto"
    )
    job = small_job()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [small._device() for small in (job,)] == ["cpu"]
    job.config.training.device = "auto"
    assert job._device() == "cuda"
    job.config.training.device = "cuda"
    assert job._device() == "cuda"
    trainers = [small_job(precision=name)._trainer([]) for name in ("float32", "bfloat16")]
    assert [trainer.precision for trainer in trainers] == ["32-true", "bf16-mixed"]
    assert trainers[0].default_root_dir == str(job.folder)
    assert trainers[0].max_epochs == 3
    assert trainers[0].num_devices == 1


def test_ctrl_c_in_training_is_an_interrupt_and_leaves_no_handler(small_job) -> None:
    before = signal.getsignal(signal.SIGINT)

    class CtrlC(Callback):
        def on_train_batch_end(self, *arguments) -> None:
            raise KeyboardInterrupt

    class CtrlCInALibrary(Callback):
        def on_train_batch_end(self, *arguments) -> None:
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("unexpected pos 30 vs 0")

    for callback in (CtrlC(), CtrlCInALibrary()):
        with pytest.raises(KeyboardInterrupt):
            small_job().fit(Figures(), callbacks=[callback])
        assert signal.getsignal(signal.SIGINT) is before
    job = small_job()
    for run in (job.validate, lambda: job.test(Figures())):
        job._trainer = lambda callbacks: SimpleNamespace(validate=leave, test=leave)
        with pytest.raises(KeyboardInterrupt):
            run()
        assert signal.getsignal(signal.SIGINT) is before


def leave(*arguments: object, **options: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(1)


def test_what_training_comes_to_and_what_is_tested(small_job, small_data: Dataset, capsys) -> None:
    job, run = small_job(learning_rate=1.0, learning_rate_decay=0.5), Figures()
    trained = job.fit(run)
    wrong = [round(0.6 * figures["validation/error"]) for _, figures in run.logged]  # of 60
    best = 1 + wrong.index(min(wrong))
    assert trained == (round(100 * min(wrong) / 60, 4), best, 3)
    assert min(wrong) % 3  # else four digits would be none
    saved = checkpoint.load(checkpoint.best(job.folder))
    assert saved["epoch"] + 1 == best
    assert all(
        torch.equal(value, saved["state_dict"][name]) for name, value in job.module.state_dict().items()
    )
    capsys.readouterr()
    run = Figures()
    examined = job.test(run)
    assert capsys.readouterr().out == ""
    ((_, figures),) = run.logged
    with torch.no_grad():
        logits = job.module.network.eval()(small_data.test.images)
    assert examined.error == pytest.approx(
        100 * float((logits.argmax(1) != small_data.test.labels).float().mean())
    )
    assert examined.theoretical_speedup == pytest.approx(figures["test/theoretical_speedup"])
    assert examined.inference_speedup == pytest.approx(figures["test/theoretical_speedup_inference"])
    assert examined.inference_speedup > examined.theoretical_speedup
    assert [layer[:3] for layer in examined.layers] == [(12, 10, 4), (10, 8, 3)]
    for number, layer in enumerate(examined.layers, 1):
        for name, share in layer.statistics._asdict().items():
            assert share == pytest.approx(figures[f"test/layer{number}/{name}"])


def test_the_job_hands_on_what_the_config_says(small_job) -> None:
    job = small_job(name="whitened", moments="running", density=0.2)
    assert job.module.network.estimator == job.config.estimator
    assert job.module.network.ranks == job.config.ranks
    assert (job.data.seed, job.data.batch_size, job.data.device) == (3, 25, "cpu")
