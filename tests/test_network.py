from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.config.schema import EstimatorConfig, RanksConfig
from ccsweep.errors import UserError
from ccsweep.network import ConditionalLinear, ConditionalMLP


def network(ranks: list[int] | None, seed: int = 0, name: str = "svd", **options: Any) -> ConditionalMLP:
    dropout = {k: options.pop(k) for k in ("dropout_input", "dropout_hidden") if k in options}
    torch.manual_seed(seed)
    net = ConditionalMLP([12, 10, 8, 4], RanksConfig(ranks), EstimatorConfig(name, **options), **dropout)
    net.initialise(weight_std=0.5, bias=0.1)
    if name in ("svd", "random"):
        net.refresh()
    return net


def densities(net: ConditionalMLP, x: torch.Tensor) -> list[float]:
    _, traces = net.trace(x)
    return [t.gate.float().mean().item() for t in traces]


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(0, 5))
def test_full_rank_gives_the_ungated_output(seed: int, batch: int) -> None:
    torch.manual_seed(seed + 1)
    x = torch.randn(batch, 12)
    gated, control = network([10, 8], seed), network(None, seed)
    # Only where a pre-activation is a rounding error from zero may the two differ, by that much.
    torch.testing.assert_close(gated(x), control(x), rtol=0, atol=1e-4)


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 8), st.floats(-3, 3), st.floats(0, 3))
def test_density_falls_as_the_threshold_rises(seed: int, rank: int, low: float, more: float) -> None:
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(seed))
    before = network([rank, rank], seed, threshold=low).hidden[0].gate(x)
    after = network([rank, rank], seed, threshold=low + more).hidden[0].gate(x)
    assert not (after & ~before).any()


def test_extreme_thresholds() -> None:
    x = torch.randn(16, 12)
    assert densities(network([3, 3], threshold=1e9), x) == [0.0, 0.0]
    assert densities(network([3, 3], threshold=-1e9), x) == [1.0, 1.0]
    torch.testing.assert_close(network([3, 3], threshold=-1e9)(x), network(None)(x))


def test_the_bias_is_inside_the_gate() -> None:
    layer = network([2, 2]).hidden[0]
    torch.nn.init.constant_(layer.bias, -1e6)
    assert not layer.gate(torch.randn(5, 12)).any()


def test_before_its_first_refresh_a_layer_computes_every_unit() -> None:
    layer = ConditionalLinear(12, 10, gated=True)
    x = torch.randn(5, 12)
    assert layer.gate(x).all()
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias).relu())


def test_a_layer_written_out() -> None:
    layer, x = network([3, 3], threshold=0.2).hidden[0], torch.randn(16, 12)
    preactivation = x @ layer.weight.T + layer.bias
    gate = x @ layer.u @ layer.v + layer.bias - 0.2 > 0
    assert (~gate & (preactivation > 0)).any()  # else the gate would make no difference
    trace = layer.trace(x)
    assert trace.inputs is x
    torch.testing.assert_close(trace.preactivation, preactivation)
    assert torch.equal(trace.gate, gate)
    torch.testing.assert_close(trace.activation, torch.where(gate & (preactivation > 0), preactivation, 0.0))
    assert torch.equal(layer(x), trace.activation)
    plain = layer.trace(x, gated=False)
    assert plain.gate is None
    torch.testing.assert_close(plain.activation, preactivation.clamp(min=0))


@pytest.mark.parametrize("sizes", [[6, 5, 3], [6, 5, 7, 4, 3]])
def test_a_network_written_out(sizes: list[int]) -> None:
    torch.manual_seed(0)
    net, x = ConditionalMLP(sizes, RanksConfig([2] * (len(sizes) - 2))), torch.randn(40, 6)
    net.initialise(weight_std=0.5, bias=0.1)
    net.refresh()
    a, inputs = x, []
    for layer in net.hidden:
        inputs.append(a)
        u, s, v = np.linalg.svd(layer.weight.detach().numpy().T)
        rank2 = torch.from_numpy(u[:, :2] * s[:2] @ v[:2])
        a = (a @ layer.weight.T + layer.bias).clamp(min=0) * (a @ rank2 + layer.bias > 0)
    torch.testing.assert_close(net(x), a @ net.output.weight.T + net.output.bias, rtol=0, atol=1e-5)
    for data, expected in zip(net.layer_data(x), inputs, strict=True):
        torch.testing.assert_close(data.inputs, expected.detach(), rtol=0, atol=1e-5)


def test_a_layer_has_no_estimator_unless_it_is_told() -> None:
    layer = ConditionalLinear(3, 2)
    assert (layer.gated, layer.rank, layer.running) == (False, None, None)
    assert [layer.rank for layer in ConditionalMLP([4, 3, 2]).hidden] == [None]
    assert ConditionalLinear(3, 2, gated=True).running is None
    assert network([3, 3]).hidden[0].running is None


def test_initial_weights_and_biases() -> None:
    net = ConditionalMLP([400, 300, 200, 100])
    for std, expected in ((0.5, [0.5] * 3), (0.0, [(2 / n) ** 0.5 for n in (400, 300, 200)])):
        net.initialise(weight_std=std, bias=0.25)
        weights = [layer.weight.detach() for layer in net.linears()]
        assert [float(w.std()) for w in weights] == pytest.approx(expected, rel=0.03)
        assert [float(w.mean()) for w in weights] == pytest.approx([0.0] * 3, abs=0.02)
    assert [layer.bias.unique().tolist() for layer in net.linears()] == [[0.25], [0.25], [0.0]]


def test_dropout_in_training_only() -> None:
    net = network([3, 3], dropout_input=0.2, dropout_hidden=0.6)
    x = 1 + torch.rand(500, 12)
    first, second = net.train().trace(x)[1]
    torch.testing.assert_close(first.inputs[first.inputs != 0], (x / 0.8)[first.inputs != 0])
    assert float((first.inputs == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    torch.testing.assert_close(
        second.inputs[second.inputs != 0], (first.activation / 0.4)[second.inputs != 0]
    )
    positive = first.activation > 0
    assert float((second.inputs[positive] == 0).float().mean()) == pytest.approx(0.6, abs=0.03)
    first, second = net.eval().trace(x)[1]
    assert torch.equal(first.inputs, x)
    assert torch.equal(second.inputs, first.activation)


def test_gradients_flow_through_computed_units_only() -> None:
    layer = network([3, 3]).hidden[0]
    x = torch.randn(1, 12)
    trace = layer.trace(x)
    trace.activation.sum().backward()
    off = ~trace.gate[0]
    missed = off & (trace.preactivation[0] > 0)
    assert off.any()
    assert (layer.weight.grad[off] == 0).all()
    assert (layer.bias.grad[off] == 0).all()
    assert (layer.weight.grad[trace.gate[0] & (trace.preactivation[0] > 0)] != 0).any()
    assert missed.sum() == 0 or (trace.activation[0][missed] == 0).all()


def test_the_control_has_no_estimator_and_no_extra_state() -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(12, 10), torch.nn.Linear(10, 8), torch.nn.Linear(8, 4))
    control = network(None)
    assert sum(t.numel() for t in control.state_dict().values()) == sum(
        t.numel() for t in plain.state_dict().values()
    )
    assert all(t.gate is None for t in control.trace(torch.randn(2, 12))[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_types_and_devices(dtype: torch.dtype, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    net = network([3, 3]).to(device=device, dtype=dtype)
    net.refresh()
    logits, traces = net.trace(torch.randn(6, 12, device=device, dtype=dtype))
    assert logits.dtype == dtype
    assert traces[0].gate.dtype == torch.bool
    logits.sum().backward()


def test_dropout_of_the_callers_own() -> None:
    net, x, asked = network([3, 3]).train(), torch.randn(5, 12), []

    def half(values: torch.Tensor, level: int) -> torch.Tensor:
        asked.append((level, values.shape[1]))
        return 0.5 * values

    first, second = net.trace(x, half)[1]
    assert asked == [(0, 12), (1, 10), (2, 8)]
    assert torch.equal(first.inputs, 0.5 * x)
    assert torch.equal(first.kept, 0.5 * first.activation)
    assert torch.equal(second.inputs, first.kept)
    assert torch.equal(second.kept, 0.5 * second.activation)
    assert torch.equal(net.layer_data(x)[0].inputs, x)
    assert torch.equal(net.eval().trace(x, half)[1][0].inputs, x)  # none outside training


def test_a_checkpoint_carries_the_factors_whatever_their_rank() -> None:
    saved, other = (ConditionalMLP([12, 10, 8, 4], RanksConfig(energy=share)) for share in (0.5, 0.99))
    saved.refresh()
    other.refresh()
    assert [layer.rank for layer in saved.hidden] != [layer.rank for layer in other.hidden]
    other.load_state_dict(saved.state_dict())
    assert [layer.rank for layer in saved.hidden] == [layer.rank for layer in other.hidden]
    x = torch.randn(9, 12)
    torch.testing.assert_close(saved(x), other(x), rtol=0, atol=0)


def test_a_control_takes_no_checkpoint_with_factors() -> None:
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"hidden.0.u\""):
        network(None).load_state_dict(network([3, 3]).state_dict())


def test_factors_go_stale_until_refreshed() -> None:
    net = network([3, 3])
    before = net.hidden[0].u.clone()
    with torch.no_grad():
        net.hidden[0].weight.mul_(-2)
    assert torch.equal(net.hidden[0].u, before)
    net.refresh()
    assert not torch.equal(net.hidden[0].u, before)


def test_where_the_gate_is_on() -> None:
    net, x = network([3, 3]), torch.randn(9, 12)

    def gates() -> list[bool]:
        return [t.gate is not None for t in net.trace(x)[1]]

    assert gates() == [True, True]
    net.gate_in_training = False
    assert gates() == [False, False]
    net.eval()
    assert gates() == [True, True]
    first = network([3], placement="first")
    assert [layer.rank for layer in first.hidden] == [3, None]
    assert [t.gate is not None for t in first.trace(x)[1]] == [True, False]


def test_an_estimator_sees_what_the_layers_get_without_dropout() -> None:
    net, x = network([3, 3], dropout_input=0.5, dropout_hidden=0.5).train(), torch.randn(9, 12)
    first, second = net.layer_data(x)
    assert torch.equal(first.inputs, x)
    assert torch.equal(second.inputs, net.hidden[0](x))
    assert net.training


def test_whitened_factors_and_thresholds_come_from_the_images() -> None:
    net, x = network([3, 3], name="whitened", energy_loss=0.01), torch.randn(200, 12)
    net.refresh(x)
    assert all(layer.shift.unique().numel() > 1 for layer in net.hidden)
    with pytest.raises(UserError, match="the 12x10 layer needs calibration samples; found none"):
        net.refresh()


@pytest.mark.parametrize("name", ["svd", "whitened", "whitened-centred", "learned", "random"])
def test_every_layer_keeps_its_promise_on_the_images_with_all_gates_on(name: str) -> None:
    x = torch.randn(400, 12, generator=torch.Generator().manual_seed(1))
    net = network([3, 3], 1, name)
    net.estimator.energy_loss = 0.05
    net.refresh(x)
    for trace in net.trace(x)[1]:
        energy = trace.preactivation.relu().square()
        assert ((energy * ~trace.gate).sum(0) <= 0.05 * energy.sum(0) + 1e-6).all()
    net.estimator.energy_loss, net.estimator.density = None, 0.2
    net.refresh(x)
    assert densities(net, x) == pytest.approx([0.2, 0.2], abs=0.002)


def test_running_moments_belong_to_gated_layers_and_to_checkpoints() -> None:
    net, other = (network([3], placement="first", moments="running") for _ in range(2))
    assert [layer.running is not None for layer in net.hidden] == [True, False]
    net.hidden[0].running.update(torch.randn(20, 12))
    other.load_state_dict(net.state_dict())
    assert other.layer_data()[0].moments.samples == 20


def test_the_smallest_ranks_that_keep_the_energy() -> None:
    net = ConditionalMLP([12, 10, 8, 4], RanksConfig(energy=0.7))
    net.refresh()
    for layer in net.hidden:
        energy = np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False) ** 2
        kept = np.cumsum(energy) / energy.sum()
        assert kept[layer.rank - 1] >= 0.7 > kept[layer.rank - 2]


def test_ranks_within_a_budget_of_the_whole_network() -> None:
    net, x = ConditionalMLP([12, 10, 8, 4], RanksConfig(budget=0.5)), torch.randn(200, 12)
    net.refresh(x)
    dense = 12 * 10 + 10 * 8 + 8 * 4
    first, second = (layer.rank for layer in net.hidden)
    assert 0.5 * dense - 22 < first * (12 + 10) + second * (10 + 8) <= 0.5 * dense


def test_ranks_lie_between_one_and_what_the_layer_has() -> None:
    assert [layer.rank for layer in network([1, 8]).hidden] == [1, 8]
    for ranks, message in (
        ([0, 3], "rank 0 for the 12x10 layer: expected 1 to 10"),
        ([3, 9], "rank 9 for the 10x8 layer: expected 1 to 8"),
    ):
        with pytest.raises(UserError, match=f"^{message}$"):
            network(ranks)


def test_a_number_moves_every_threshold() -> None:
    free, strict = network([4, 4], name="svd"), network([4, 4], threshold=0.7)
    for a, b in zip(free.hidden, strict.hidden, strict=True):
        torch.testing.assert_close(b.shift, a.shift - 0.7)


def test_a_warm_refresh_is_one_step_from_the_factors_before() -> None:
    net = network([3, 3], refresh="warm")
    with torch.no_grad():
        for layer in net.hidden:
            layer.weight.add_(torch.randn_like(layer.weight))
    weights = [layer.weight.T.clone() for layer in net.hidden]
    starts = [torch.linalg.qr(w @ layer.v.T)[0] for w, layer in zip(weights, net.hidden, strict=True)]
    net.refresh()
    for w, q, layer in zip(weights, starts, net.hidden, strict=True):
        torch.testing.assert_close(layer.u @ layer.v, q @ q.T @ w, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["svd", "whitened", "learned"])
def test_thresholds_do_not_add_up_from_one_warm_refresh_to_the_next(name: str) -> None:
    net, x = network([4, 4], name=name, threshold=50.0, refresh="warm"), torch.randn(400, 12)
    for _ in range(4):
        net.refresh(x)
    assert [float(layer.shift.mean()) for layer in net.hidden] == pytest.approx([-50, -50], abs=5)


def test_what_the_caller_has_is_not_computed_again() -> None:
    net, x = network([3, 3], name="whitened", density=0.3), torch.randn(300, 12)
    layers = net.layer_data(x)
    net.refresh(layers=layers)
    assert "inputs" in vars(layers[0])
    assert densities(net, x) == pytest.approx([0.3, 0.3], abs=0.002)
    before = [layer.factors for layer in net.hidden]
    net.refresh(torch.zeros(5, 12), layers)  # directions by the layers, thresholds by the images
    for old, layer in zip(before, net.hidden, strict=True):
        torch.testing.assert_close(layer.u, old.u)
        assert not torch.equal(layer.shift, old.shift)
