"""What training comes to, step by step, against the same in plain torch."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from ccsweep.config.schema import RanksConfig
from ccsweep.data.batches import ArrayBatches
from ccsweep.data.dataset import Dataset, Split
from ccsweep.estimator.cost import LayerCost, speedup_limit
from ccsweep.training import checkpoint
from ccsweep.training.fit import Job
from ccsweep.training.module import DivergedError
from tests.kernels.reference import kept
from tests.training.conftest import Figures

SIZES, RANKS = [12, 10, 8, 3], [4, 3]


class Epoch(NamedTuple):
    weights: list[Tensor]
    biases: list[Tensor]
    factors: list[tuple[Tensor, Tensor]]
    before: list[tuple[Tensor, Tensor]]
    """The factors that it trained with."""
    loss: float
    inputs: list[list[Tensor]]
    """What the hidden layers got in each step."""


def truncated(weights: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    parts = [torch.linalg.svd(w.detach().T, full_matrices=False) for w in weights[:2]]
    return [(u[:, :r] * s[:r], v[:r]) for r, (u, s, v) in zip(RANKS, parts, strict=True)]


def mask(key: int, level: int, x: Tensor, dropped: float) -> Tensor:
    return torch.from_numpy(kept(key, level, *x.shape, dropped) / (1 - dropped)).float()


def trained(job: Job, train: Dataset) -> list[Epoch]:
    """Three epochs of the small job, from its network's weights on."""
    linears = job.module.network.linears()
    weights = [layer.weight.detach().clone().requires_grad_() for layer in linears]
    biases = [layer.bias.detach().clone().requires_grad_() for layer in linears]
    moving = [torch.zeros_like(p) for p in weights + biases]
    factors, epochs = truncated(weights), []
    for epoch in range(3):
        batches, losses, inputs = ArrayBatches(train, 25, seed=3), [], []
        batches.set_epoch(epoch)
        for step, (images, labels) in enumerate(batches):
            key = int(np.random.SeedSequence([3, epoch, step]).generate_state(1, np.uint64)[0])
            x, active = images * mask(key, 0, images, 0.1), torch.zeros(())
            inputs.append([])
            for k, (u, v) in enumerate(factors):
                inputs[-1].append(x.detach())
                a = (x @ weights[k].T + biases[k]).clamp(min=0) * (x @ u @ v + biases[k] > 0)
                x = a * mask(key, k + 1, a, 0.2)
                active = active + x.sum()
            logits = x @ weights[2].T + biases[2]
            loss = (logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]).mean()
            loss = loss + 0.01 * active / len(images)
            losses.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, weights + biases)
            with torch.no_grad():
                for p, m, g, decay in zip(
                    weights + biases, moving, gradients, [0.02] * 3 + [0.0] * 3, strict=True
                ):
                    m.mul_(min(0.5 * 1.1**epoch, 0.58)).add_(g + decay * p)
                    p.sub_(0.1 * 0.9**epoch * m)
                for w in weights:
                    w.mul_((0.9 / w.norm(dim=1, keepdim=True)).clamp(max=1))
        before, factors = factors, truncated(weights)
        epochs.append(
            Epoch([w.detach().clone() for w in weights], [b.detach().clone() for b in biases], factors, before,
                  sum(losses) / len(losses), inputs)
        )  # fmt: skip
    return epochs


def looked_at(epoch: Epoch, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Error in percent, loss, the shares of each layer, and the speed-ups that these give on paper."""
    x, found, densities, nonzero = images, {}, [], [float((images != 0).float().mean())]
    for k, (u, v) in enumerate(epoch.factors):
        z, gate = x @ epoch.weights[k].T + epoch.biases[k], x @ u @ v + epoch.biases[k] > 0
        shares = {
            "rank": float(RANKS[k]),
            "density": gate.float().mean(),
            "true_density": (z > 0).float().mean(),
            "false_off": ((z > 0) & ~gate).sum() / (z > 0).sum(),
            "false_on": ((z <= 0) & gate).sum() / (z <= 0).sum(),
            "sign_agreement": ((z > 0) == gate).float().mean(),
        }
        found |= {f"layer{k + 1}/{name}": float(value) for name, value in shares.items()}
        x = z.clamp(min=0) * gate
        densities.append(float(gate.float().mean()))
        nonzero.append(float((x != 0).float().mean()))
    logits = x @ epoch.weights[2].T + epoch.biases[2]
    found["error"] = 100 * float((logits.argmax(1) != labels).float().mean())
    found["loss"] = float((logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]).mean())
    found["theoretical_speedup"] = speedup(densities, refreshes=1 / 5)
    found["theoretical_speedup_inference"] = speedup(densities, refreshes=0.0)
    layers = [LayerCost(d, h, r, a) for d, h, r, a in zip(SIZES, SIZES[1:], RANKS, densities, strict=False)]
    found["speedup_limit"] = speedup_limit([*layers, LayerCost(8, 3)], nonzero)
    return found


def speedup(densities: list[float], refreshes: float) -> float:
    """The paper's section 3.4, for one sample of a batch of 25."""
    dense = [(2 * d - 1) * h + h for d, h in pairwise(SIZES)]
    conditional = float(dense[2])
    for k, (d, h, r) in enumerate([(12, 10, 4), (10, 8, 3)]):
        svd = min(14 * d * h**2 + 8 * h**3, 6 * d * h**2 + 20 * h**3)
        conditional += (2 * d - 1) * r + (2 * r - 1) * h + h + densities[k] * dense[k] + refreshes * svd / 25
    return sum(dense) / conditional


@pytest.mark.parametrize("step", ["dense", "skipping", "auto"])
def test_three_epochs(step: str, small_job, small_data: Dataset) -> None:
    job, run = small_job(step=step), Figures()
    job.data.eval_batch_size = 25  # so that three batches add up
    expected = trained(job, small_data.train)
    came_to = job.fit(run)
    saved = checkpoint.load(checkpoint.last(job.folder))["state_dict"]
    for name, values in (("weight", expected[-1].weights), ("bias", expected[-1].biases)):
        for layer, value in zip(("hidden.0", "hidden.1", "output"), values, strict=True):
            torch.testing.assert_close(saved[f"network.{layer}.{name}"], value, rtol=0, atol=1e-5)
    for k, (u, v) in enumerate(expected[-1].factors):
        found = saved[f"network.hidden.{k}.u"] @ saved[f"network.hidden.{k}.v"]
        torch.testing.assert_close(found, u @ v, rtol=0, atol=1e-4)
    assert [step for step, _ in run.logged] == [1, 2, 3]
    for number, (epoch, (_, figures)) in enumerate(zip(expected, run.logged, strict=True)):
        assert figures["train/loss"] == pytest.approx(epoch.loss, abs=1e-5)
        assert figures["train/learning_rate"] == pytest.approx(0.1 * 0.9**number)
        assert figures["train/momentum"] == pytest.approx(min(0.5 * 1.1**number, 0.58))
        assert figures["train/seconds"] > 0
        skipped = {"dense": 0.0, "skipping": 1.0}.get(step)
        assert (
            figures["train/skipping"] == skipped
            if skipped is not None
            else 0 <= figures["train/skipping"] <= 1
        )
        here = {f"validation/{k}": v for k, v in looked_at(epoch, *small_data.validation).items()}
        assert {k: v for k, v in figures.items() if k.startswith("validation/")} == pytest.approx(
            here, abs=1e-4
        )
        assert figures["refresh/count"] == 1
        assert figures["refresh/seconds"] > 0
        x = small_data.train.images[torch.arange(50) * 120 // 50]
        for k, (old, new) in enumerate(zip(epoch.before, epoch.factors, strict=True)):
            gates = [x @ u @ v + epoch.biases[k] > 0 for u, v in (old, new)]
            stale = float((gates[0] != gates[1]).float().mean())
            assert figures[f"refresh/layer{k + 1}/sign_disagreement"] == pytest.approx(stale, abs=1e-6)
            bases = [torch.linalg.qr(v.T)[0] for _, v in (old, new)]
            angle = torch.linalg.svdvals(bases[0].T @ bases[1])[-1].clamp(max=1).acos().rad2deg()
            assert figures[f"refresh/layer{k + 1}/subspace_angle"] == pytest.approx(float(angle), abs=0.1)
            x = (x @ epoch.weights[k].T + epoch.biases[k]).clamp(min=0) * gates[1]
    errors = [looked_at(epoch, *small_data.validation)["error"] for epoch in expected]
    best = errors.index(min(errors))
    assert came_to == (pytest.approx(min(errors), abs=1e-4), best + 1, 3)
    tested, test_run = looked_at(expected[best], *small_data.test), Figures()
    examined = job.test(test_run)
    assert test_run.logged == [(1, pytest.approx({f"test/{k}": v for k, v in tested.items()}, abs=1e-4))]
    assert examined.error == pytest.approx(tested["error"])
    assert examined.theoretical_speedup == pytest.approx(tested["theoretical_speedup"], abs=1e-4)
    assert examined.inference_speedup == pytest.approx(tested["theoretical_speedup_inference"], abs=1e-4)
    assert [layer[:3] for layer in examined.layers] == [(12, 10, 4), (10, 8, 3)]
    assert [layer.statistics.density for layer in examined.layers] == pytest.approx(
        [tested["layer1/density"], tested["layer2/density"]], abs=1e-5
    )


def test_the_control_has_no_figures_of_gates(small_job, small_data: Dataset) -> None:
    job, run = small_job(ranks=RanksConfig()), Figures()
    job.fit(run)
    for _, figures in run.logged:
        assert not [name for name in figures if "rank" in name or "sign" in name or "refresh" in name]
        assert figures["validation/theoretical_speedup"] == 1.0
        assert figures["validation/layer1/density"] == 1.0


def test_since_which_step_the_loss_is_no_number(small_config, small_data: Dataset, tmp_path: Path) -> None:
    images = small_data.train.images.clone()
    images[1, 0] = float("nan")  # not among the calibration images
    train = Split(images, small_data.train.labels)
    steps = [bool(x.isnan().any()) for x, _ in ArrayBatches(train, 25, seed=3)]
    job = Job(small_config(), replace(small_data, train=train), tmp_path)
    with pytest.raises(DivergedError) as caught:
        job.fit(Figures())
    assert str(caught.value) == (
        f"the loss is not a finite number since step {steps.index(True)} (epoch 1); "
        "try a smaller training.learning_rate than 0.1"
    )


def test_a_resumed_run_goes_on_the_way_that_was_the_quicker_one(small_job) -> None:
    first = small_job(step="auto")
    first.fit(Figures())
    saved = checkpoint.load(checkpoint.last(first.folder))
    assert saved["way"] in ("dense", "skipping")
    for way, step, expected in (
        ("dense", "auto", "dense"),
        ("skipping", "auto", "skipping"),
        ("dense", "skipping", "skipping"),
    ):
        module = small_job(step=step).module
        module.on_load_checkpoint(saved | {"way": way})
        assert module.ways.chosen == expected


@pytest.mark.parametrize("step", ["dense", "skipping"])
def test_running_moments_are_those_of_every_tenth_step(step: str, small_job, small_data: Dataset) -> None:
    job = small_job(step=step, moments="running")
    steps = [inputs for epoch in trained(job, small_data.train) for inputs in epoch.inputs]
    job.fit(Figures())
    saved = checkpoint.load(checkpoint.last(job.folder))["state_dict"]
    for k in (0, 1):
        first, second = (x.T @ x / len(x) for x in (steps[0][k], steps[10][k]))
        assert saved[f"network.hidden.{k}.running.samples"] == 2 * 25
        found = saved[f"network.hidden.{k}.running.second"]
        torch.testing.assert_close(found, 0.02 * (0.98 * first + second), rtol=0, atol=1e-5)
