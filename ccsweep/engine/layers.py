"""A network as the engine sees it: a chain of layers, plain arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ccsweep.errors import UserError
from ccsweep.estimator.factors import Factors
from ccsweep.network import ConditionalMLP

Array = np.ndarray


class Layer(NamedTuple):
    """One layer, all of it float32: ``relu(x @ weight.T + bias)``, without ReLU where it is the last."""

    weight: Array
    """(units, in_features), as in ``nn.Linear``."""
    bias: Array
    """(units,)"""
    relu: bool
    gate: Factors | None = None

    @property
    def inputs(self) -> int:
        """Features that come in."""
        return self.weight.shape[1]

    @property
    def units(self) -> int:
        """Features that go out."""
        return self.weight.shape[0]

    def __call__(self, x: Array, gated: bool = True) -> Array:
        """Outputs (batch, units) of x (batch, in_features), every one computed; then the gate, if wanted."""
        out = x @ self.weight.T + self.bias
        if not self.relu:
            return out
        on = self.on(x) if gated else None
        return np.maximum(out, 0) if on is None else np.where(on, np.maximum(out, 0), 0)

    def on(self, x: Array) -> Array | None:
        """The gate, bool (batch, units), or None without one."""
        if self.gate is None:
            return None
        on: Array = self.gate.gate(torch.from_numpy(x), torch.from_numpy(self.bias)).numpy()
        return on


def layers_of(network: ConditionalMLP) -> list[Layer]:
    """The layers of a network, sharing its memory where they can.

    Raises:
        UserError: a weight, bias or factor is NaN or infinite.
    """
    layers = []
    for number, linear in enumerate(network.hidden, 1):
        gate = Factors(*(part.float().cpu() for part in linear.factors)) if linear.gated else None
        layers.append(layer_of(linear, f"layer {number}", relu=True, gate=gate))
    return [*layers, layer_of(network.output, "the output layer", relu=False)]


def layer_of(linear: nn.Linear, name: str, relu: bool, gate: Factors | None = None) -> Layer:
    """One layer, checked: where a weight is not finite, leaving out a zero input changes the answer.

    Raises:
        UserError: a weight, bias or factor is NaN or infinite.
    """
    bias = np.zeros(linear.out_features, np.float32) if linear.bias is None else array(linear.bias)
    layer = Layer(array(linear.weight), bias, relu, gate)
    finite = bool(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all())
    if gate is not None:
        # A shift may be infinite: such a unit is always, or never, computed.
        finite &= bool(gate.u.isfinite().all() and gate.v.isfinite().all() and not gate.shift.isnan().any())
    if not finite:
        raise UserError(f"{name} ({layer.inputs}x{layer.units}) holds NaN or infinity: nothing to compile")
    return layer


def array(tensor: Tensor) -> Array:
    """A float32 array on the CPU; the tensor's own memory where it is that already."""
    found: Array = tensor.detach().float().cpu().numpy()
    return found


def chain(layers: Sequence[Layer], x: Array, gated: bool = True) -> list[Array]:
    """What each layer gets, and the last one's output: (batch, features) each, one more than layers."""
    passed = [x]
    for layer in layers:
        passed.append(layer(passed[-1], gated))
    return passed
