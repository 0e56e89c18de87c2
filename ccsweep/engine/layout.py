"""Weights in memory, once for each direction in which a kernel goes through them.

Every array starts at a cache line and has rows of whole vectors; the kernels get their addresses.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine.layers import Array, Layer
from ccsweep.estimator.cost import INPUT_SPARSE, WAYS
from ccsweep.estimator.factors import Factors
from ccsweep.kernels.memory import aligned, block, spaced, vectors
from ccsweep.kernels.table import LAYER


class Dense(NamedTuple):
    """A layer for torch."""

    transposed: Tensor
    """(in_features, units), a view."""
    bias: Tensor
    relu: bool


class Layout:
    """The weights of one network, laid out as its ways need them; a copy, which training does not change.

    Args:
        layers: of the network.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._arrays: dict[tuple[int, str], Array] = {}
        self.layers: list[Layer] = []
        for k, layer in enumerate(layers):
            rows = self._keep(k, "units", layer.weight, vectors(layer.inputs))
            bias = self._keep(k, "bias", layer.bias[None], spaced(layer.units))
            gate = None if layer.gate is None else Factors(*(part.clone() for part in layer.gate))
            self.layers.append(Layer(rows[:, : layer.inputs], bias[0, : layer.units], layer.relu, gate))

    def __reduce__(self) -> tuple[Any, ...]:
        return Layout, (self.layers,)  # laid out anew: copied arrays would not start at a cache line

    @property
    def bytes(self) -> int:
        """Memory held."""
        gates = (part.nbytes for layer in self.layers for part in layer.gate or ())
        return sum(array.nbytes for array in self._arrays.values()) + sum(gates)

    def dense(self, k: int) -> Dense:
        """Layer k for torch."""
        layer = self.layers[k]
        return Dense(torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias), layer.relu)

    def table(self, first: int, ways: Sequence[str]) -> Array:
        """The kernels' table for consecutive layers from ``first``, none of them dense."""
        table = np.zeros(len(ways), LAYER)
        for k, (row, way) in enumerate(zip(table, ways, strict=True), first):
            layer = self.layers[k]
            row["way"] = WAYS.index(way) - 1
            row["inputs"], row["units"] = layer.inputs, layer.units
            row["relu"] = layer.relu
            row["bias"] = _address(self._arrays[k, "bias"])
            if way == INPUT_SPARSE:
                rows = self._rows_of_inputs(k)
                row["block"] = block(layer.inputs, rows.shape[1])
            else:
                rows = self._arrays[k, "units"]
                row["block"] = block(rows.shape[1], layer.units)
                self._gate(k, row)
            row["rows"], row["stride"] = _address(rows), rows.shape[1]
        return table.view(np.int64)

    def u(self, k: int) -> Array:
        """The estimator's first factor, (in_features, rank in whole vectors)."""
        gate = self.layers[k].gate
        assert gate is not None, "only layers with an estimator run gated"
        return self._keep(k, "u", gate.u.numpy(), vectors(gate.u.shape[1]))

    def _gate(self, k: int, row: np.void) -> None:
        layer = self.layers[k]
        gate, u = layer.gate, self.u(k)
        assert gate is not None
        rank = gate.u.shape[1]
        v = self._keep(k, "v", gate.v.numpy(), spaced(layer.units))
        # Units that only fill up the last vector are never on.
        bias = self._keep(
            k, "gate bias", (layer.bias + gate.shift.numpy())[None], spaced(layer.units), filled_with=-np.inf
        )
        row["u"], row["v"], row["gate_bias"] = _address(u), _address(v), _address(bias)
        row["rank"], row["gate_stride"] = rank, spaced(layer.units)

    def _rows_of_inputs(self, k: int) -> Array:
        weight = self.layers[k].weight.T
        return self._keep(k, "inputs", weight, spaced(weight.shape[1]))

    def _keep(self, k: int, name: str, values: Array, width: int, filled_with: float = 0.0) -> Array:
        """The array of this name: ``values`` in rows of ``width``, made once."""
        if (k, name) not in self._arrays:
            made = aligned(values.shape[0], width)
            made[:] = filled_with
            made[:, : values.shape[1]] = values
            self._arrays[k, name] = made
        return self._arrays[k, name]


def _address(array: Array) -> int:
    return array.ctypes.data
