from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.errors import UserError
from ccsweep.estimator.fit import EstimatorSettings
from ccsweep.network import ConditionalLinear, ConditionalMLP


def network(rank: int | None, threshold: float = 0.0, seed: int = 0, **options: Any) -> ConditionalMLP:
    torch.manual_seed(seed)
    estimator = (
        None
        if rank is None
        else EstimatorSettings(ranks=(rank,) * options.get("gated_layers", 2), threshold=threshold)
    )
    net = ConditionalMLP([12, 10, 8, 4], estimator, **options)
    net.initialise(weight_std=0.5, bias=0.1)
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
    gated, control = network(8, seed=seed), network(None, seed=seed)
    gated.estimator = EstimatorSettings(ranks=(10, 8))
    gated.refresh()
    # Only where a pre-activation is a rounding error from zero may the two differ, by that much.
    torch.testing.assert_close(gated(x), control(x), rtol=0, atol=1e-4)


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 8), st.floats(-3, 3), st.floats(0, 3))
def test_density_falls_as_the_threshold_rises(seed: int, rank: int, low: float, more: float) -> None:
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(seed))
    before = network(rank, low, seed).hidden[0].gate(x)
    after = network(rank, low + more, seed).hidden[0].gate(x)
    assert not (after & ~before).any()


def test_extreme_thresholds() -> None:
    x = torch.randn(16, 12)
    assert densities(network(3, threshold=1e9), x) == [0.0, 0.0]
    assert densities(network(3, threshold=-1e9), x) == [1.0, 1.0]
    torch.testing.assert_close(network(3, threshold=-1e9)(x), network(None)(x))


def test_the_bias_is_inside_the_gate() -> None:
    layer = network(2).hidden[0]
    torch.nn.init.constant_(layer.bias, -1e6)
    assert not layer.gate(torch.randn(5, 12)).any()


def test_before_its_first_refresh_a_layer_computes_every_unit() -> None:
    layer = ConditionalLinear(12, 10, gated=True)
    x = torch.randn(5, 12)
    assert layer.gate(x).all()
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias).relu())


def test_gradients_flow_through_computed_units_only() -> None:
    layer = network(3).hidden[0]
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
    net = network(3).to(device=device, dtype=dtype)
    net.refresh()
    logits, traces = net.trace(torch.randn(6, 12, device=device, dtype=dtype))
    assert logits.dtype == dtype
    assert traces[0].gate.dtype == torch.bool
    logits.sum().backward()


def test_a_checkpoint_carries_the_factors_whatever_their_rank() -> None:
    saved, other = (ConditionalMLP([12, 10, 8, 4], EstimatorSettings(energy=share)) for share in (0.5, 0.99))
    saved.refresh()
    other.refresh()
    assert [layer.rank for layer in saved.hidden] != [layer.rank for layer in other.hidden]
    other.load_state_dict(saved.state_dict())
    assert [layer.rank for layer in saved.hidden] == [layer.rank for layer in other.hidden]
    x = torch.randn(9, 12)
    torch.testing.assert_close(saved(x), other(x), rtol=0, atol=0)


def test_factors_go_stale_until_refreshed() -> None:
    net = network(3)
    before = net.hidden[0].u.clone()
    with torch.no_grad():
        net.hidden[0].weight.mul_(-2)
    assert torch.equal(net.hidden[0].u, before)
    net.refresh()
    assert not torch.equal(net.hidden[0].u, before)


def test_where_the_gate_is_on() -> None:
    net, x = network(3), torch.randn(9, 12)

    def gates() -> list[bool]:
        return [t.gate is not None for t in net.trace(x)[1]]

    assert gates() == [True, True]
    net.gate_in_training = False
    assert gates() == [False, False]
    net.eval()
    assert gates() == [True, True]
    first = network(3, gated_layers=1)
    assert [layer.rank for layer in first.hidden] == [3, None]
    assert [t.gate is not None for t in first.trace(x)[1]] == [True, False]


def test_an_estimator_sees_what_the_layers_get_without_dropout() -> None:
    net, x = network(3, dropout_input=0.5, dropout_hidden=0.5).train(), torch.randn(9, 12)
    first, second = net.layer_data(x)
    assert torch.equal(first.inputs, x)
    assert torch.equal(second.inputs, net.hidden[0](x))
    assert net.training


def test_whitened_factors_and_thresholds_come_from_the_images() -> None:
    net, x = network(3), torch.randn(200, 12)
    net.estimator = EstimatorSettings("whitened", ranks=(3, 3), energy_loss=0.01)
    net.refresh(x)
    assert all(layer.shift.unique().numel() > 1 for layer in net.hidden)
    with pytest.raises(UserError, match="the 12x10 layer needs calibration samples; found none"):
        net.refresh()


@pytest.mark.parametrize("name", ["svd", "whitened", "whitened-centred", "learned", "random"])
def test_every_layer_keeps_its_promise_on_the_images_with_all_gates_on(name: str) -> None:
    net, x = network(3, seed=1), torch.randn(400, 12, generator=torch.Generator().manual_seed(1))
    net.estimator = EstimatorSettings(name, ranks=(3, 3), energy_loss=0.05)
    net.refresh(x)
    for trace in net.trace(x)[1]:
        energy = trace.preactivation.relu().square()
        assert ((energy * ~trace.gate).sum(0) <= 0.05 * energy.sum(0) + 1e-6).all()
    net.estimator = EstimatorSettings(name, ranks=(3, 3), density=0.2)
    net.refresh(x)
    assert densities(net, x) == pytest.approx([0.2, 0.2], abs=0.002)


def test_running_moments_belong_to_gated_layers_and_to_checkpoints() -> None:
    net, other = (network(3, gated_layers=1, running=True) for _ in range(2))
    assert [layer.running is not None for layer in net.hidden] == [True, False]
    net.hidden[0].running.update(torch.randn(20, 12))
    other.load_state_dict(net.state_dict())
    assert other.layer_data()[0].moments.samples == 20
