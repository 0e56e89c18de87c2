"""The step that skips, against autograd in float64 with the same masks and gates."""

import copy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ccsweep.estimator.factors import Factors
from ccsweep.estimator.statistics import count
from ccsweep.kernels.training import step
from ccsweep.network import ConditionalLinear, ConditionalMLP
from ccsweep.training.layout import Threads
from ccsweep.training.skipping import EXAMINED, Densities, SkippingExamination, SkippingStep, step_key
from tests.kernels.reference import kept

RATE, KEY = 0.3, 0xF00D_F00D_F00D_F00D


def draw(
    sizes: list[int],
    gated: Any = (),
    rank: int = 3,
    dropout_input: float = 0.0,
    dropout_hidden: float = 0.0,
    seed: int = 0,
) -> ConditionalMLP:
    """A network whose layers of these numbers have gates that know little of the weights."""
    torch.manual_seed(seed)
    network = ConditionalMLP(sizes, None, None, dropout_input, dropout_hidden)
    for k, (inputs, units) in enumerate(list(pairwise(sizes))[:-1]):
        network.hidden[k] = ConditionalLinear(inputs, units, gated=k in gated)
    for linear in network.linears():
        nn.init.normal_(linear.weight, std=1.5 / linear.in_features**0.5)
        nn.init.normal_(linear.bias, std=0.3)
    for layer in network.hidden:
        if layer.gated:
            d, h = layer.in_features, layer.out_features
            u, v = torch.randn(d, rank) / d**0.5, torch.randn(rank, h)
            layer.factors = Factors(u, v, torch.randn(h) * 0.3)
    return network


def batch_of(network: ConditionalMLP, batch: int, density: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = batch, network.linears()[0].in_features
    x = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)
    return x, torch.randint(0, network.output.out_features, (batch,), generator=generator)


def settings_of(l1: float = 0.0, l2: float = 0.0, max_norm: float | None = None) -> Any:
    return SimpleNamespace(l1=l1, l2=l2, max_norm=max_norm, batch_size=50)


def sgd(network: ConditionalMLP, l2: float = 0.0, momentum: float = 0.0) -> torch.optim.SGD:
    """As the Lightning module has it, at a momentum of the past."""
    weights, biases = ([getattr(x, n) for x in network.linears()] for n in ("weight", "bias"))
    groups = [{"params": weights, "weight_decay": l2}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=momentum)
    for parameter in [*weights, *biases]:
        optimizer.state[parameter]["momentum_buffer"] = torch.randn_like(parameter) * 0.1
    return optimizer


class Reference:
    """Everything multiplied, in float64."""

    def __init__(self, network: ConditionalMLP, config: Any, optimizer: torch.optim.SGD) -> None:
        self.network, self.config = copy.deepcopy(network).double(), config
        self.optimizer = torch.optim.SGD(
            [
                {"params": [x.weight for x in self.network.linears()], "weight_decay": config.l2},
                {"params": [x.bias for x in self.network.linears()], "weight_decay": 0.0},
            ],
            lr=RATE,
        )
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            momentum = optimizer.state[theirs]["momentum_buffer"].double()
            self.optimizer.state[mine]["momentum_buffer"] = momentum
        self.inputs: list[Tensor] = []
        self.certain = True  # no gate and no ReLU hangs on rounding

    def dropped(self, x: Tensor, key: int, level: int, share: float) -> Tensor:
        mask = torch.from_numpy(kept(key, level, *x.shape, share))
        return torch.where(mask, x / (1 - share), 0)

    def step(self, x: Tensor, labels: Tensor, key: int, momentum: float) -> float:
        """As ``SkippingStep.step``."""
        network = self.network
        x = self.dropped(x.double(), key, 0, network.dropout_input)
        self.inputs, penalty = [x], torch.zeros(())
        for level, layer in enumerate(network.hidden, 1):
            z = F.linear(x, layer.weight, layer.bias)
            self.certain &= certain(z)
            on = torch.ones_like(z)
            if layer.gated and network.gate_in_training:
                scores = (x @ layer.u) @ layer.v + layer.bias + layer.shift
                self.certain &= certain(scores)
                on = (scores > 0).double()
            x = self.dropped(z.relu() * on, key, level, network.dropout_hidden)
            penalty = penalty + x.sum()
            self.inputs.append(x)
        loss = F.cross_entropy(network.output(x), labels) + self.config.l1 / len(labels) * penalty
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            # With momentum 0 torch keeps no buffer, where the step keeps the gradient.
            group["momentum"] = momentum or 1e-30
        self.optimizer.step()
        if self.config.max_norm is not None:
            with torch.no_grad():
                for linear in network.linears():
                    norms = linear.weight.square().sum(1, keepdim=True).sqrt()
                    linear.weight *= torch.where(
                        norms > self.config.max_norm, self.config.max_norm / norms, 1
                    )
        return loss.item()


def certain(numbers: Tensor) -> bool:
    """None is so near to 0 that rounding could change its sign."""
    sizes = numbers.detach().abs()
    return not ((sizes > 0) & (sizes < 3e-6 * sizes.max())).any()


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest, and what rounding leaves where sums cancel out."""
    assert found.shape == expected.shape
    error = (found.double() - expected.detach()).abs().max()
    assert error <= 1e-5 * expected.detach().abs().max() + 1e-6, float(error)


def assert_same_state(network: ConditionalMLP, optimizer: torch.optim.SGD, reference: Reference) -> None:
    for mine, theirs in zip(network.parameters(), reference.network.parameters(), strict=True):
        momenta = (
            o.state[p]["momentum_buffer"] for o, p in ((optimizer, mine), (reference.optimizer, theirs))
        )
        assert_near(*momenta)
        assert_near(mine.data, theirs)


BY_INPUT, BY_UNIT = [Densities(1.0, 1.0)] * 3, [Densities(1.0, 0.0)] * 3
WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 40, 130, 300])


@settings(max_examples=100)
@given(
    sizes=st.lists(WIDTHS, min_size=2, max_size=4),
    classes=st.sampled_from([1, 2, 10, 17]),
    gated=st.sets(st.integers(0, 2)),
    rank=st.sampled_from([0, 1, 5, 20]),
    batches=st.lists(st.sampled_from([1, 2, 7, 33]), min_size=2, max_size=2),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    by_unit=st.sampled_from([(), BY_INPUT, BY_UNIT]),
    dropout=st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.8])] * 2),
    l1=st.sampled_from([0.0, 0.03]),
    l2=st.sampled_from([0.0, 0.1]),
    max_norm=st.sampled_from([None, 0.5, 1.5, 50.0]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32),
)
def test_steps_are_those_of_autograd(
    sizes, classes, gated, rank, batches, density, by_unit, dropout, l1, l2, max_norm, momentum, threads, seed
):
    network = draw([*sizes, classes], gated, rank, *dropout, seed=seed)
    config, optimizer = settings_of(l1, l2, max_norm), sgd(network)
    reference = Reference(network, config, optimizer)
    skipping = SkippingStep(network, config, threads)
    skipping.load(optimizer, by_unit)
    for number, batch in enumerate(batches):
        x, labels = batch_of(network, batch, density, seed + number)
        key = step_key(seed, 3, number)
        expected = reference.step(x, labels, key, momentum)
        assume(reference.certain)
        loss = skipping.step(x, labels, key, RATE, momentum)
        assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
        for k, inputs in enumerate(reference.inputs):
            assert_near(skipping.layer_inputs(k), inputs)
        skipping.store(optimizer)
        assert_same_state(network, optimizer, reference)


def trained(threads: int = 1, gated: Any = (0,), steps: int = 7, **options: Any) -> ConditionalMLP:
    """After some steps of one kind."""
    network = draw([300, 200, 130, 10], gated, 5, 0.2, 0.5)
    optimizer = sgd(network)
    skipping = SkippingStep(network, settings_of(0.01, 0.01, options.get("max_norm")), threads)
    skipping.load(optimizer, options.get("densities", BY_UNIT))
    for number in range(steps):
        x, labels = batch_of(network, 50, options.get("density", 0.3), number)
        skipping.step(x, labels, options.get("key", KEY) + number, RATE, 0.5)
    skipping.store(optimizer)
    return network


@pytest.mark.parametrize(("seconds", "chosen"), [({1: 2.0, 3: 1.0}, 3), ({1: 1.0, 3: 2.0}, 1)])
def test_as_many_threads_work_as_are_quicker(seconds, chosen, monkeypatch):
    now, threads, shares = [0.0], Threads(3), []
    monkeypatch.setattr("ccsweep.training.layout.time.perf_counter", lambda: now[0])
    for _ in range(2):
        threads.compare()
        for _ in range(8):
            with threads.piece():
                threads.share(shares.append)
                now[0] += seconds[threads.count]
        assert len(shares) == 3 * (1 + 3) + 2 * chosen
        assert set(shares) == {0, 1, 2}
        shares.clear()


def test_one_thread_is_compared_with_nothing():
    threads, shares = Threads(1), []
    threads.compare()
    with threads.piece():
        threads.split(7, lambda *part: shares.append(part))
    assert shares == [(0, 7)]


@pytest.mark.parametrize("max_norm", [None, 1.4])
@pytest.mark.parametrize("gated", [(), (0,), (0, 1)])
def test_threads_change_nothing(gated, max_norm):
    one, *others = (trained(threads, gated, max_norm=max_norm) for threads in (1, 2, 5))
    for other in others:
        assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("gated", [(), (0, 1)])
def test_blocks_change_nothing(gated, monkeypatch):
    whole = trained(gated=gated)
    monkeypatch.setattr("ccsweep.training.layout.CACHED", 4096)
    parts = trained(gated=gated)
    for pair in zip(whole.parameters(), parts.parameters(), strict=True):
        assert_near(*pair)


@pytest.mark.parametrize(("density", "across"), [(1.0, True), (0.1, False)])
def test_the_first_layer_goes_the_cheaper_way(density, across):
    """Where fewer units are active than inputs, gradients are summed up by unit."""
    network = draw([130, 40, 20, 10], dropout_hidden=0.5)
    optimizer, config = sgd(network), settings_of(0.01, 0.01)
    reference, skipping = Reference(network, config, optimizer), SkippingStep(network, config)
    skipping.load(optimizer)
    x, labels = batch_of(network, 33, density)
    skipping.step(x, labels, KEY, RATE, 0.5)
    lists = [level.lists for level in skipping._room.levels]
    assert step._across_is_less(skipping._records[0], lists[0], lists[1]) == across
    skipping.store(optimizer)
    reference.step(x, labels, KEY, 0.5)
    assert_same_state(network, optimizer, reference)


@pytest.mark.parametrize(
    ("rank", "before", "on", "found"),
    [
        (5, 0.5, 0.1, [True, True]),
        (5, 0.5, 0.6, [False, False]),
        (5, 0.3, 0.2, [True, True]),
        (60, 0.3, 0.1, [False, True]),  # the first layer's estimator costs as much as it could spare
        (5, 0.2, 0.19, [False, True]),
    ],
)
def test_a_gated_layer_goes_the_way_that_is_less(rank, before, on, found):
    """Of each weight: by unit rank / inputs + 2 (later layers 3) on, by input 2 (3) before."""
    network = draw([200, 200, 200, 10], (0, 1), rank)
    skipping = SkippingStep(network, settings_of())
    skipping.load(sgd(network), [Densities(before, on)] * 3)
    assert [layer.by_unit for layer in skipping._layers] == [*found, False]


def test_dropout_belongs_to_the_densities():
    network = draw([200, 200, 200, 10], (0, 1), 5, dropout_input=0.5, dropout_hidden=0.0)
    skipping = SkippingStep(network, settings_of())
    skipping.load(sgd(network), [Densities(0.6, 0.4)] * 3)
    assert [layer.by_unit for layer in skipping._layers] == [False, True, False]


def test_another_key_is_another_training():
    one, other = trained(key=KEY), trained(key=KEY + 100)
    assert not torch.equal(one.output.weight, other.output.weight)


def test_keys_of_steps():
    keys = {step_key(seed, epoch, step) for seed in range(5) for epoch in range(5) for step in range(50)}
    assert len(keys) == 5 * 5 * 50
    assert step_key(0, 1, 2) == step_key(0, 1, 2) < 2**64


def test_a_gate_that_is_off_in_training_leaves_every_unit_on():
    network = draw([40, 33, 20, 5], (0, 1))
    optimizer, config = sgd(network), settings_of()
    x, labels = batch_of(network, 20, 0.5)
    skipping = SkippingStep(network, config)
    for on in (False, True, False):
        network.gate_in_training = on
        reference = Reference(network, config, optimizer)
        skipping.load(optimizer)
        skipping.step(x, labels, KEY, RATE, 0.5)
        skipping.store(optimizer)
        reference.step(x, labels, KEY, 0.5)
        assert_same_state(network, optimizer, reference)


def test_a_refreshed_gate_is_taken_up():
    network = draw([40, 33, 5], (0,))
    optimizer, config = sgd(network), settings_of()
    x, labels = batch_of(network, 20, 0.5)
    skipping = SkippingStep(network, config)
    skipping.load(optimizer)
    factors = network.hidden[0].factors
    network.hidden[0].factors = factors._replace(u=-factors.u[:, :2], v=factors.v[:2])
    reference = Reference(network, config, optimizer)
    skipping.load(optimizer)
    assert skipping.step(x, labels, KEY, RATE, 0.5) == pytest.approx(reference.step(x, labels, KEY, 0.5))


def test_a_dense_step_goes_on_where_it_stopped():
    """And the other way round: the momenta are the optimizer's, the weights the network's."""
    network = draw([40, 33, 5])
    optimizer, config = sgd(network, l2=0.01, momentum=0.5), settings_of(l2=0.01)
    x, labels = batch_of(network, 20, 0.5)
    skipping = SkippingStep(network, config)
    skipping.load(optimizer)
    optimizer.state.clear()  # as before the first step
    reference = Reference(network, config, sgd(network))
    for state in reference.optimizer.state.values():
        state["momentum_buffer"].zero_()
    for dense in (False, True, False, True):
        if dense:
            optimizer.zero_grad()
            F.cross_entropy(network.train()(x), labels).backward()
            optimizer.step()
        else:
            skipping.load(optimizer)
            skipping.step(x, labels, KEY, RATE, 0.5)
            skipping.store(optimizer)
        reference.step(x, labels, KEY, 0.5)
        assert_same_state(network, optimizer, reference)
        for parameter in network.parameters():
            buffer = optimizer.state[parameter]["momentum_buffer"]
            assert buffer.stride() == parameter.stride()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("gated", [(), (0, 1)])
@pytest.mark.parametrize("where", ["input", "weight", "bias", "output"])
def test_what_is_not_finite_is_noticed(bad, gated, where):
    """By the loss, or where only zeros would meet it, by the weights, which are looked at too."""
    network = draw([40, 33, 20, 5], gated, dropout_hidden=0.2)
    optimizer = sgd(network)
    x, labels = batch_of(network, 20, 0.5)
    with torch.no_grad():
        {
            "input": x,
            "weight": network.hidden[1].weight,
            "bias": network.hidden[1].bias[None],
            "output": network.output.weight,
        }[where][0, 3] = bad
    skipping = SkippingStep(network, settings_of(max_norm=2.0))
    skipping.load(optimizer)
    loss = skipping.step(x, labels, KEY, RATE, 0.5)
    skipping.store(optimizer)
    assert not np.isfinite(loss) or not all(p.isfinite().all() for p in network.parameters())
    assert where != "input" or np.isnan(loss)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("gated", [(), (0,), (0, 1)])
def test_an_examination_counts_what_the_network_does(gated, threads):
    network = draw([40, 33, 130, 10], gated).eval()
    images, labels = batch_of(network, 2 * EXAMINED + 7, 0.5)
    logits, traces = network.trace(images)
    found = SkippingExamination(network, threads)(images, labels)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-5)
    assert found.wrong == int((logits.argmax(1) != labels).sum())
    assert found.nonzero == int(images.count_nonzero())
    expected = torch.stack([count(t.preactivation, t.gate) for t in traces])
    assert found.counts.tolist() == expected.tolist()


def test_an_examination_twice_over_is_the_same():
    network = draw([40, 33, 10], (0,)).eval()
    examine = SkippingExamination(network)
    one, other = (examine(*batch_of(network, size, 0.5)) for size in (300, 300))
    assert one.loss == other.loss
    assert one.counts.tolist() == other.counts.tolist()


def test_a_warm_up_leaves_nothing_to_compile():
    program = (
        "from ccsweep.kernels.training import forward, step\n"
        "from ccsweep.training.skipping import SkippingExamination, warm_up\n"
        "from tests.training import test_skipping as tests\n"
        "kernels = [step.step, forward.take, forward.finish, forward.examine]\n"
        "before = tests.torch.get_rng_state()\n"
        "warm_up(tests.settings_of(0.1, 0.1, 2.0))\n"
        "assert tests.torch.equal(before, tests.torch.get_rng_state())\n"
        "known = [len(k.signatures) for k in kernels]\n"
        "assert all(known), dict(zip(kernels, known))\n"
        "for gated in ((), (0,), (0, 1)):\n"
        "    network = tests.trained(2, gated)\n"
        "    SkippingExamination(network)(*tests.batch_of(network, 20, 0.5))\n"
        "tests.trained(1, (), density=1.0)\n"
        "assert [len(k.signatures) for k in kernels] == known\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
