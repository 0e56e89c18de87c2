import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.network import ConditionalLinear, ConditionalMLP, Estimator


def network(rank: int | None, threshold: float = 0.0, seed: int = 0) -> ConditionalMLP:
    torch.manual_seed(seed)
    sizes = [12, 10, 8, 4]
    estimators = None if rank is None else [Estimator("svd", rank, None, threshold)] * 2
    net = ConditionalMLP(sizes, estimators)
    net.initialise(weight_std=0.5, bias=0.1)
    return net


def densities(net: ConditionalMLP, x: torch.Tensor) -> list[float]:
    _, traces = net.trace(x)
    return [t.gate.float().mean().item() for t in traces]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(0, 5))
def test_full_rank_gives_the_ungated_output(seed: int, batch: int) -> None:
    torch.manual_seed(seed + 1)
    x = torch.randn(batch, 12)
    gated, control = network(8, seed=seed), network(None, seed=seed)
    gated.hidden[0].estimator = Estimator("svd", 10)
    gated.refresh()
    # Only where a pre-activation is a rounding error from zero may the two differ, by that much.
    torch.testing.assert_close(gated(x), control(x), rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 8), st.floats(-3, 3), st.floats(0, 3))
def test_density_falls_as_the_threshold_rises(seed: int, rank: int, low: float, more: float) -> None:
    torch.manual_seed(seed)
    layer = ConditionalLinear(12, 10, Estimator("svd", rank, None, low))
    x = torch.randn(64, 12)
    before = layer.gate(x)
    layer.estimator = Estimator("svd", rank, None, low + more)
    after = layer.gate(x)
    assert not (after & ~before).any()


def test_extreme_thresholds() -> None:
    x = torch.randn(16, 12)
    assert densities(network(3, threshold=1e9), x) == [0.0, 0.0]
    assert densities(network(3, threshold=-1e9), x) == [1.0, 1.0]
    torch.testing.assert_close(network(3, threshold=-1e9)(x), network(None)(x))


def test_the_bias_is_inside_the_gate() -> None:
    layer = ConditionalLinear(4, 3, Estimator("svd", 2))
    torch.nn.init.constant_(layer.bias, -1e6)
    assert not layer.gate(torch.randn(5, 4)).any()


def test_gradients_flow_through_computed_units_only() -> None:
    layer = ConditionalLinear(12, 10, Estimator("svd", 3))
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
    torch.manual_seed(0)
    saved = ConditionalMLP([12, 10, 8, 4], [Estimator(energy=0.5)] * 2)
    other = ConditionalMLP([12, 10, 8, 4], [Estimator(energy=0.99)] * 2)
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
