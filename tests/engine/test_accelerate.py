"""Models of any kind: what is found, what is left, and that answers stay."""

import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

from ccsweep.engine import accelerate as module
from ccsweep.engine import tune
from ccsweep.engine.accelerate import Chain, accelerate
from ccsweep.engine.chains import Found, Left, search
from ccsweep.engine.layers import Layer, layer_of
from ccsweep.engine.layers import chain as layers_chain
from ccsweep.errors import UserError
from ccsweep.estimator.factors import Factors
from tests.engine.conftest import draw


@pytest.fixture(autouse=True)
def _short_races(monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """Samples near a 6-dimensional subspace, as real data are."""
    torch.manual_seed(0)
    return torch.randn(800, 6) @ torch.randn(6, 60) + 0.05 * torch.randn(800, 60)


def linear(inputs: int, units: int, bias: float = 0.0) -> nn.Linear:
    layer = nn.Linear(inputs, units)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.constant_(layer.bias, bias)
    return layer


def classifier(bias: float = -3.0) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        linear(60, 256, bias), nn.ReLU(), nn.Dropout(0.5), linear(256, 64), nn.ReLU(), linear(64, 5)
    ).eval()


class Holder(nn.Module):
    """Modules that hold Sequentials: only those are understood."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.norm = nn.LayerNorm(60)
        self.blocks = nn.Sequential(
            nn.Sequential(linear(60, 128), nn.ReLU()), nn.Sequential(linear(128, 40), nn.Tanh())
        )
        self.head = nn.Sequential(nn.Flatten(), linear(40, 5), nn.Softmax(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.norm(x)) * 2)


def test_exact_skip_alone_changes_nothing(inputs):
    model = classifier()
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert fast.report.disagreement == 0
    for batch in (0, 1, 7, 300):
        torch.testing.assert_close(fast(inputs[:batch]), model(inputs[:batch]).detach(), rtol=1e-4, atol=1e-4)
    assert {plan.batch_size for plan in fast.plans} == {1, 8, 1024}


def test_estimators_keep_the_answers(inputs):
    model = classifier()
    # The predictions of a network that was never trained are easily changed.
    fast = accelerate(model, inputs, max_disagreement=0.1, batch_sizes=[1], threads=1)
    assert fast.report.disagreement <= 0.1
    assert fast.report.held_out == 200
    (chain,) = (part for part in fast.modules() if isinstance(part, Chain))
    assert chain.layout.layers[0].gate is not None
    changed = (fast(inputs).argmax(1) != model(inputs).argmax(1)).float().mean()
    assert changed <= 0.15
    assert [plan.batch_size for plan in fast.plans] == [1, 1024]
    assert re.match(r"in the engine: 0 to 5: 60-256-64-5, ranks \d+-\d+-0\n", str(fast.report))


def test_modules_that_hold_chains(inputs):
    model = Holder().eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    torch.testing.assert_close(fast(inputs), model(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert str(fast.report).splitlines() == [
        "in the engine: blocks.0.0 to blocks.1.0: 60-128-40, ranks 0-0",
        "left as it was: norm: LayerNorm outside of an nn.Sequential",
        "left as it was: blocks.1.1: Tanh is not known to the engine",
        "left as it was: head.0: Flatten is not known to the engine",
        "left as it was: head.1: Linear without a ReLU after or before it",
        "left as it was: head.2: Softmax is not known to the engine",
        "predictions that differ: 0.00% of 200 held out",
    ]
    assert not any(isinstance(part, Chain) for part in model.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_chain_deep_inside():
    inner = nn.Sequential(linear(8, 8), nn.ReLU())
    model = nn.Sequential(nn.Tanh(), nn.ModuleDict({"a": nn.ModuleList([inner])}), linear(8, 2), nn.ReLU())
    found, left = search(model)
    assert [chain.name for chain in found] == ["1.a.0.0 to 1.a.0.1", "2 to 3"]
    assert [rest.name for rest in left] == ["0"]


def test_what_is_not_understood_is_named():
    hooked = linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(hooked, nn.ReLU(), linear(4, 4).double(), nn.ReLU(), linear(4, 4), nn.GELU())
    found, left = search(model)
    assert not found
    assert [f"{name}: {reason}" for name, reason in left] == [
        "0: Linear with hooks",
        "1: ReLU is not known to the engine",
        "2: Linear in torch.float64 on cpu",
        "3: ReLU is not known to the engine",
        "4: Linear without a ReLU after or before it",
        "5: GELU is not known to the engine",
    ]


def test_more_dimensions(inputs):
    model = classifier()
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    x = inputs[:12].reshape(3, 4, 60)
    torch.testing.assert_close(fast(x), model(x).detach(), rtol=1e-4, atol=1e-4)


def test_after_modules_that_would_give_gradients(inputs):
    """Without that the chain's input would ask for gradients, and the engine has none."""
    model = nn.Sequential(nn.LayerNorm(60), classifier())
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    torch.testing.assert_close(fast(inputs), model(inputs).detach(), rtol=1e-4, atol=1e-4)
    assert not fast(inputs).requires_grad
    assert {plan.batch_size for plan in fast.plans} == {1024}


def test_it_only_predicts(inputs):
    fast = accelerate(classifier(), inputs, max_disagreement=0.0, threads=1)
    assert not fast.eval().training
    with pytest.raises(
        UserError, match=r"^an accelerated model only predicts: train the original and accelerate it again$"
    ):
        fast.train()


def test_the_original_keeps_its_mode(inputs):
    model = classifier().train()
    accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert model.training
    assert model[2].training


@pytest.mark.parametrize(
    ("model", "samples", "message"),
    [
        (classifier(), 3, "calibration_inputs hold 3 samples: expected 4 or more"),
        (
            nn.Sequential(nn.Tanh()),
            8,
            "no Linear -> ReLU chain in an nn.Sequential was found (0: Tanh is not known to the engine)",
        ),
        (
            classifier(bias=float("nan")),
            8,
            "layer 1 of 0 to 5 (60x256) holds NaN or infinity: nothing to compile",
        ),
    ],
)
def test_what_is_refused(inputs, model, samples, message):
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        accelerate(model, inputs[:samples])


def test_what_a_report_says():
    report = module.Report(("in the engine: it",), (Left("a", "b"), Left("c", "d")), 0.0125, 80)
    assert str(report).splitlines() == [
        "in the engine: it",
        "left as it was: a: b",
        "left as it was: c: d",
        "predictions that differ: 1.25% of 80 held out",
    ]


def plain(*sizes: int) -> list[Layer]:
    """Layers with whole numbers and without gates."""
    return [layer._replace(gate=None) for layer in draw(list(sizes), 1, seed=0)]


def chained(layers: list[Layer]) -> Found:
    linears = []
    for layer in layers:
        made = nn.Linear(layer.inputs, layer.units)
        made.weight.data, made.bias.data = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        linears.append(made)
    modules = [part for made in linears for part in (made, nn.ReLU())][:-1]
    return Found("it", tuple(modules), tuple(linears), False)


class Promises:
    """Stands in for the search for gates: says what it was asked for, gives gates that leave all on."""

    def __init__(self, many: int) -> None:
        self.asked: list[tuple[Layer, torch.Tensor]] = []
        self.many = many

    def __call__(self, layer: Layer, x: torch.Tensor) -> list[Factors]:
        self.asked.append((layer, x))
        v = torch.zeros(1, layer.units)
        return [
            Factors(torch.zeros(layer.inputs, 1), v, torch.full((layer.units,), 100.0 + k))
            for k in range(self.many)
        ]


def test_the_first_gate_that_keeps_the_answers_is_taken(monkeypatch):
    promises = Promises(3)
    monkeypatch.setattr(module, "_promising", promises)
    layers = [plain(9, 4), plain(6, 5, 8, 3)]
    shares, tried = iter([0.3, 0.2, 0.1]), []

    def disagreement(candidate):
        tried.append([[layer.gate and layer.gate.shift[0].item() for layer in one] for one in candidate])
        return next(shares)

    x = torch.randint(-2, 3, (40, 6)).float()
    made = module._with_gate(layers, 1, 1, x, disagreement, 0.2)
    assert made.gate.shift[0] == 101  # the second: as many as allowed may change
    assert np.array_equal(made.weight, layers[1][1].weight)
    assert tried == [[[None], [None, shift, None]] for shift in (100, 101)]
    assert all(layer.gate is None for one in layers for layer in one)
    ((asked, given),) = promises.asked
    assert asked is layers[1][1]
    hidden = np.maximum(x.numpy() @ layers[1][0].weight.T + layers[1][0].bias, 0)
    np.testing.assert_array_equal(given, hidden)
    assert module._with_gate(layers, 1, 1, x, lambda _: 1.0, 0.2) is layers[1][1]


def test_no_gate_is_looked_for_where_none_may_be(monkeypatch):
    promises = Promises(1)
    monkeypatch.setattr(module, "_promising", promises)
    layers = [plain(6, 5, 3)]
    x = torch.ones(4, 6)
    assert module._with_gate(layers, 0, 1, x, lambda _: 0.0, 0.2) is layers[0][1]  # without a ReLU
    assert module._with_gate(layers, 0, 0, x, lambda _: 0.0, 0.0) is layers[0][0]
    assert promises.asked == []
    assert module._with_gate(layers, 0, 0, x, lambda _: 0.0, 0.001).gate is not None


def test_many_scores_are_not_held_at_once(monkeypatch):
    promises = Promises(0)
    monkeypatch.setattr(module, "_promising", promises)
    monkeypatch.setattr(module, "MOST_SCORES", 23)
    module._with_gate([plain(6, 5, 3)], 0, 0, torch.ones(40, 6), lambda _: 0.0, 1.0)
    assert len(promises.asked[0][1]) == 4  # 4 samples of 5 units


def test_gates_are_tried_in_the_order_of_what_they_promise(inputs):
    model = classifier()
    layer = layer_of(model[0], "it", relu=True)
    gates = module._promising(layer, inputs)
    d, h = 60, 256
    # 3, 6, 12 and 20 % of the dense work are what these ranks cost.
    assert {gate.u.shape[1] for gate in gates} <= {1, 3, 6, 10}
    assert len({gate.u.shape[1] for gate in gates}) > 1
    promised = []
    for gate in gates:
        assert (gate.u.shape[0], gate.v.shape[1], gate.shift.shape) == (d, h, (h,))
        on = (inputs @ gate.u @ gate.v + model[0].bias + gate.shift > 0).double().mean().item()
        promised.append(1 / (on + gate.u.shape[1] * (d + h) / (d * h)))  # all inputs are in use
    assert promised == sorted(promised, reverse=True)
    assert promised[-1] > 1.3
    positive = (inputs @ model[0].weight.T + model[0].bias > 0).double().mean().item()
    # Thresholds only close gates, so the loosest of the widest leaves on what its estimate says.
    assert max(promised) > 1 / positive * 0.5
    sign = [gate for gate in gates if gate.u.shape[1] == 10][-1]
    agreed = (
        ((inputs @ sign.u @ sign.v + model[0].bias + sign.shift > 0) == (model[0](inputs) > 0))
        .double()
        .mean()
    )
    assert agreed > 0.97


def test_one_direction_is_enough_where_the_inputs_have_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=generator) @ torch.randn(1, 60, generator=generator)
    gates = module._promising(layer_of(classifier()[0], "it", relu=True), x)
    assert gates[0].u.shape[1] == 1


def test_where_exact_skip_is_as_good_no_gate_is_tried(inputs):
    layer = layer_of(classifier()[0], "it", relu=True)
    sparse = inputs * (torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) < 0.01)
    assert module._promising(layer, sparse) == []


def test_a_layer_too_small_for_any_rank_has_no_gate():
    layer = layer_of(nn.Linear(2, 2), "it", relu=True)
    assert module._promising(layer, torch.randn(10, 2)) == []


def test_ranks_are_not_above_what_the_samples_span(inputs):
    layer = layer_of(classifier()[0], "it", relu=True)
    assert {gate.u.shape[1] for gate in module._promising(layer, inputs[:4])} <= {1, 3}


def test_a_chain_with_its_gates_for_verification():
    layers = draw([6, 5, 3], 2, seed=0)
    x = torch.randint(-2, 3, (2, 4, 6)).float()
    out = module._Gated(layers)(x)
    assert out.shape == (2, 4, 3)
    np.testing.assert_array_equal(
        out.reshape(8, 3).numpy(), layers_chain(layers, x.reshape(8, 6).numpy())[-1]
    )


def test_layers_of_a_chain():
    for relu in (False, True):
        found = chained(plain(6, 5, 3))._replace(ends_in_relu=relu)
        assert [layer.relu for layer in module._layers(found)] == [True, relu]
    found.linears[1].bias.data[0] = torch.nan
    with pytest.raises(UserError, match=r"^layer 2 of it \(5x3\) holds NaN or infinity: nothing to compile$"):
        module._layers(found)


def test_predictions_are_the_largest_outputs(monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "BATCH", 3)

    def model(x):
        sizes.append(len(x))
        assert not torch.is_grad_enabled()
        return x

    x = torch.randn(7, 4)
    found = module._predictions(model, x)
    assert found.tolist() == [[k] for k in x.argmax(1).tolist()]
    assert sizes == [3, 3, 1]
    deep = torch.randn(7, 2, 5, 4)
    assert torch.equal(module._predictions(model, deep), deep.argmax(-1).reshape(7, 10))


@pytest.mark.parametrize("outputs", [lambda x: (x,), lambda x: x.sum(1), lambda x: {"logits": x}])
def test_outputs_that_hold_no_predictions(outputs):
    message = "the model gives no tensor (batch, ..., classes): its predictions cannot be compared"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        module._predictions(outputs, torch.ones(2, 4))


def test_what_each_chain_gets_is_caught(inputs, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 300)
    model = Holder().eval()
    found, _ = search(model)
    (caught,) = module._inputs_of(model, found, inputs)
    torch.testing.assert_close(caught, model.norm(inputs).detach())
    assert not caught.requires_grad
    deep = nn.Sequential(nn.Unflatten(1, (4, 15)), linear(15, 6), nn.ReLU())
    (caught,) = module._inputs_of(deep, search(deep)[0], inputs)
    assert torch.equal(caught, inputs.reshape(3200, 15))


def test_a_chain_that_cannot_be_calibrated(inputs):
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Identity(), nn.Sequential(linear(60, 4), nn.ReLU())

        def forward(self, x):
            return self.used(x)

    model = Unused()
    with pytest.raises(
        UserError, match=r"^spare\.0 to spare\.1 was never called by the model on the calibration inputs$"
    ):
        module._inputs_of(model, search(model)[0], inputs)
    model = nn.Sequential(linear(60, 4), nn.ReLU())
    inputs = inputs.clone()
    inputs[799, 3] = torch.inf
    with pytest.raises(UserError, match=r"^0 to 1 gets NaN or infinity on the calibration inputs$"):
        module._inputs_of(model, search(model)[0], inputs)


def test_a_quarter_is_held_out_and_the_rest_calibrates(inputs, monkeypatch):
    model = classifier()
    seen = []
    monkeypatch.setattr(module, "_inputs_of", lambda m, f, x: seen.append(x) or [x])
    verified = []
    predictions = module._predictions
    monkeypatch.setattr(module, "_predictions", lambda m, x: verified.append(x) or predictions(m, x))
    fast = accelerate(model, inputs[:10], max_disagreement=0.0, threads=1)
    assert fast.report.held_out == 2
    assert torch.equal(seen[0], inputs[:8])
    assert all(torch.equal(x, inputs[8:10]) for x in verified)
    (part,) = (part for part in fast.modules() if isinstance(part, Chain))
    assert part._threads == 1
    assert torch.equal(part._inputs, inputs[:8])
    assert accelerate(model, inputs[:4]).report.held_out == 1
    assert Chain(chained(plain(6, 3)), plain(6, 3), torch.ones(2000, 6), 1)._inputs.shape == (1024, 6)


def test_threads_are_torchs_where_none_are_given(inputs):
    fast = accelerate(classifier(), inputs[:40], max_disagreement=0.0)
    assert (
        next(part for part in fast.modules() if isinstance(part, Chain))._threads == torch.get_num_threads()
    )


def test_gates_count_together(inputs, monkeypatch):
    """What one layer's gate changes is in the next one's count, and all of it in the report."""
    monkeypatch.setattr(module, "_promising", Promises(1))
    model = classifier()
    fast = accelerate(model, inputs, max_disagreement=0.001, threads=1)
    (chain,) = (part for part in fast.modules() if isinstance(part, Chain))
    assert [layer.gate is not None for layer in chain.layout.layers] == [True, True, False]
    assert fast.report.chains == ("in the engine: 0 to 5: 60-256-64-5, ranks 1-1-0",)
    assert fast.report.disagreement == 0

    def shut(layer, x):
        return [
            Factors(
                torch.zeros(layer.inputs, 1), torch.zeros(1, layer.units), torch.full((layer.units,), -1e9)
            )
        ]

    monkeypatch.setattr(module, "_promising", shut)
    fast = accelerate(model, inputs, max_disagreement=1.0, threads=1)
    verifying = inputs[-200:]
    only = model[5].bias.argmax()
    assert fast.report.disagreement == (model(verifying).argmax(1) != only).double().mean().item()
    assert accelerate(model, inputs, max_disagreement=0.01, threads=1).report.disagreement == 0


def test_size_classes():
    layers = plain(6, 5, 3)
    part = Chain(chained(layers), layers, torch.randn(30, 6), 1)
    made = []
    part._compile = lambda size: made.append(size) or size
    sizes = (0, 1, 2, 8, 9, 32, 33, 256, 257, 1024, 5000)
    assert [part.at(size) for size in sizes] == [1, 1, 8, 8, 32, 32, 256, 256, 1024, 1024, 1024]
    assert made == [1, 8, 32, 256, 1024]


def test_a_plan_is_chosen_for_its_size_and_said_so(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    layers = draw([6, 5, 3], 2, seed=0)
    part = Chain(chained(layers), layers, torch.randn(30, 6), 2)
    compiled = part.at(20)
    assert caplog.messages == ["choosing a plan for batches of up to 32"]
    assert (compiled.plan.batch_size, compiled.plan.threads, compiled.threads, compiled.plan.engine) == (
        32,
        2,
        2,
        "auto",
    )
    assert compiled.layout is part.layout


def test_another_type_goes_through_the_original(inputs):
    layers = plain(6, 5, 3)
    part = Chain(chained(layers), layers, torch.randn(30, 6), 1)
    x = torch.randint(-2, 3, (4, 6)).float()
    expected = torch.from_numpy(layers_chain(layers, x.numpy())[-1])
    part.double()
    torch.testing.assert_close(part(x.double()), expected.double())
    assert part.compiled == {}
    assert part(x).dtype == torch.float32
    assert list(part.compiled) == [8]
    assert part(x[0]).shape == (3,)
    assert part(x.reshape(2, 2, 6)).shape == (2, 2, 3)
    meta = Chain(Found("it", (nn.Linear(6, 3, device="meta"),), (), False), layers, torch.ones(2, 6), 1)
    assert meta(torch.ones(4, 6, device="meta")).is_meta


def test_plans_of_all_chains(inputs):
    model = nn.Sequential(linear(60, 20), nn.ReLU(), nn.Tanh(), linear(20, 10), nn.ReLU())
    fast = accelerate(model, inputs, max_disagreement=0.0, batch_sizes=[1, 5], threads=1)
    assert [(plan.batch_size, plan.layers[0].inputs) for plan in fast.plans] == [
        (1, 60),
        (8, 60),
        (1, 20),
        (8, 20),
    ]
    assert not fast.training
    assert not fast(inputs[:2]).requires_grad
    assert torch.equal(fast(input=inputs[:2]), fast(inputs[:2]))


def test_tensors_are_shared_with_the_original(inputs):
    model = Holder().train()
    model.register_buffer("kept", torch.ones(1))
    fast = accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert fast.model.norm.weight is model.norm.weight
    assert fast.model.kept is model.kept
    assert not fast.model.norm.training
    assert model.norm.training
