"""A network as plain layers: by hand, and against torch."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ccsweep.engine.layers import Layer, array, chain, layer_of, layers_of
from ccsweep.errors import UserError
from ccsweep.estimator.factors import Factors
from ccsweep.network import ConditionalMLP

# Preactivations of (1, 2): 1 - 4 + 1, 2 + 2 - 1 and 6 + 0; scores 3 (1, 1, -1) + bias + shift.
GATE = Factors(torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([0.0, -2.0, 4.0]))
LAYER = Layer(
    np.array([[1, -2], [2, 1], [6, 0]], np.float32), np.array([1, -1, 0], np.float32), relu=True, gate=GATE
)
X = np.array([[1, 2]], np.float32)


def test_a_layer_by_hand():
    assert (LAYER.inputs, LAYER.units) == (2, 3)
    assert LAYER(X, gated=False).tolist() == [[0, 3, 6]]
    # Scores 4, 0 and 1: a score of 0 is off.
    assert LAYER.on(X).tolist() == [[True, False, True]]
    assert LAYER(X).tolist() == [[0, 0, 6]]
    assert LAYER._replace(relu=False)(X).tolist() == [[-2, 3, 6]]
    plain = LAYER._replace(gate=None)
    assert plain.on(X) is None
    assert plain(X).tolist() == [[0, 3, 6]]


def test_a_chain_by_hand():
    last = Layer(np.array([[1, 1, -1]], np.float32), np.array([0.5], np.float32), relu=False)
    assert [passed.tolist() for passed in chain([LAYER, last], X)] == [[[1, 2]], [[0, 0, 6]], [[-5.5]]]
    assert [passed.tolist() for passed in chain([LAYER, last], X, gated=False)][1:] == [[[0, 3, 6]], [[-2.5]]]
    assert chain([], X) == [X]


def test_the_layers_of_a_network(network):
    layers = layers_of(network)
    assert [(layer.inputs, layer.units) for layer in layers] == list(pairwise([40, 24, 16, 5]))
    assert [layer.relu for layer in layers] == [True, True, False]
    assert [layer.gate and layer.gate.u.shape[1] for layer in layers] == [20, 14, None]
    for layer, linear in zip(layers, network.linears(), strict=True):
        assert np.shares_memory(layer.weight, linear.weight.detach().numpy())
        assert np.array_equal(layer.bias, linear.bias.detach().numpy())
    for layer, linear in zip(layers, network.hidden, strict=False):
        assert all(torch.equal(a, b) for a, b in zip(layer.gate, linear.factors, strict=True))
    x = torch.randn(50, 40)
    torch.testing.assert_close(torch.from_numpy(chain(layers, x.numpy())[-1]), network(x).detach())


def test_gates_of_another_type_become_float32(network):
    double = ConditionalMLP([4, 3, 2], network.ranks).double()
    double.hidden[0].factors = Factors(torch.ones(4, 1), torch.ones(1, 3), torch.ones(3))
    assert {part.dtype for part in layers_of(double)[0].gate} == {torch.float32}
    assert layers_of(double)[0].weight.dtype == np.float32


def test_a_control_has_no_gates():
    assert [layer.gate for layer in layers_of(ConditionalMLP([6, 5, 3]))] == [None, None]


def test_without_a_bias_it_is_zero():
    layer = layer_of(nn.Linear(4, 3, bias=False), "it", relu=True)
    assert layer.bias.tolist() == [0, 0, 0]
    assert layer.bias.dtype == np.float32
    assert layer.relu
    assert layer.gate is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["weight", "bias", "u", "v"])
def test_what_is_not_finite_is_refused(place, bad):
    linear, gate = nn.Linear(4, 3), Factors(torch.ones(4, 2), torch.ones(2, 3), torch.ones(3))
    held = getattr(linear, place).data if place in ("weight", "bias") else getattr(gate, place)
    held.view(-1)[1] = bad
    message = "layer 7 (4x3) holds NaN or infinity: nothing to compile"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        layer_of(linear, "layer 7", relu=True, gate=gate)


def test_a_shift_may_be_infinite_but_not_nan(network):
    linear, gate = nn.Linear(4, 3), Factors(torch.ones(4, 2), torch.ones(2, 3), torch.ones(3))
    for infinite in (torch.inf, -torch.inf):
        gate.shift[1] = infinite
        assert layer_of(linear, "it", relu=True, gate=gate).gate is gate
    gate.shift[1] = torch.nan
    with pytest.raises(UserError, match=r"^it \(4x3\) holds NaN or infinity: nothing to compile$"):
        layer_of(linear, "it", relu=True, gate=gate)


def test_which_layer_is_named():
    network = ConditionalMLP([4, 3, 3, 2])
    for place, name in ((network.hidden[1], "layer 2 (3x3)"), (network.output, "the output layer (3x2)")):
        kept = place.bias.detach().clone()
        nn.init.constant_(place.bias, torch.nan)
        with pytest.raises(UserError, match=re.escape(name)):
            layers_of(network)
        place.bias.data = kept
    assert len(layers_of(network)) == 3


def test_an_array_of_any_tensor():
    parameter = nn.Parameter(torch.tensor([1.5, 2.0], dtype=torch.float64))
    assert array(parameter).dtype == np.float32
    assert array(parameter).tolist() == [1.5, 2.0]
