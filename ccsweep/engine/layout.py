"""Weights in memory, once for each direction in which a kernel goes through them.

Every array starts at a cache line and has rows of whole vectors; the kernels get their addresses.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine import peers
from ccsweep.engine.layers import Array, Layer, chain
from ccsweep.engine.peers import Model
from ccsweep.engine.ways import MASKED, MIXED, ONNX, in_int8, kind, library, runs, uses_gate
from ccsweep.estimator.cost import DENSE, INPUT_SPARSE, WAYS
from ccsweep.estimator.factors import Factors
from ccsweep.kernels.int8 import OFFSET
from ccsweep.kernels.memory import TILE, aligned, block, spaced, vectors, whole
from ccsweep.kernels.table import LAYER
from ccsweep.kernels.tiles import SIDE, allowed
from ccsweep.kernels.vnni import BYTES, GROUP, ORDER

LEVELS = 127
"""Of a weight as a byte, on each side of 0."""


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
        calibration: (samples, in_features), inputs that ONNX Runtime takes scales from, where it runs layers.
    """

    def __init__(self, layers: Sequence[Layer], calibration: Tensor | None = None) -> None:
        self._arrays: dict[tuple[int, str], Array] = {}
        self._models: dict[tuple[int, tuple[str, ...]], Model] = {}
        self._rows: dict[tuple[int, str], Array] = {}
        self._calibration = calibration
        self.layers: list[Layer] = []
        for k, layer in enumerate(layers):
            rows = self._keep(k, "units", layer.weight, vectors(layer.inputs))
            bias = self._keep(k, "bias", layer.bias[None], spaced(layer.units))
            gate = None if layer.gate is None else Factors(*(part.clone() for part in layer.gate))
            self.layers.append(Layer(rows[:, : layer.inputs], bias[0, : layer.units], layer.relu, gate))

    def __reduce__(self) -> tuple[Any, ...]:
        # Laid out anew: copied arrays would not start at a cache line.
        return Layout, (self.layers,), {"_models": self._models}

    def only(self, ways: Sequence[str]) -> "Layout":
        """A copy for these ways alone: without gates that are not in use."""
        made = Layout(self.part(0, ways))
        made._models = {run: self._models[run] for run in runs(ways) if run in self._models}
        return made

    @property
    def bytes(self) -> int:
        """Memory held."""
        gates = (part.nbytes for layer in self.layers for part in layer.gate or ())
        models = map(len, self._models.values())
        return sum(array.nbytes for array in self._arrays.values()) + sum(gates) + sum(models)

    def dense(self, k: int) -> Dense:
        """Layer k for torch."""
        layer = self.layers[k]
        return Dense(torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias), layer.relu)

    def part(self, first: int, ways: Sequence[str]) -> list[Layer]:
        """Consecutive layers from ``first``, with the gates that their ways use."""
        layers = zip(self.layers[first : first + len(ways)], ways, strict=True)
        return [layer if uses_gate(way) else layer._replace(gate=None) for layer, way in layers]

    def onnx(self, first: int, ways: Sequence[str]) -> Model:
        """The same as a model of ONNX, in the numbers of their ways.

        Raises:
            UnavailableError: a library that makes it is not installed.
        """
        key = first, tuple(ways)
        if key not in self._models:
            layers = self.part(first, ways)
            if library(ways[0]) == ONNX:
                self._models[key] = peers.onnx(layers)
            else:
                assert self._calibration is not None, "scales are taken from calibration inputs"
                passed = chain(self.layers[:first], self._calibration[: peers.CALIBRATED].numpy())[-1]
                self._models[key] = peers.int8(layers, torch.from_numpy(passed))
        return self._models[key]

    def table(self, first: int, ways: Sequence[str]) -> Array:
        """The kernels' table for consecutive layers from ``first``, none of them dense."""
        rows = [self._row(k, way) for k, way in enumerate(ways, first)]
        return np.concatenate(rows).view(np.int64)

    def _row(self, k: int, way: str) -> Array:
        """A layer's row of the table, made once."""
        if (k, way) not in self._rows:
            made = np.zeros(1, LAYER)
            self._fill(made[0], k, way)
            self._rows[k, way] = made
        return self._rows[k, way]

    def _fill(self, row: np.void, k: int, way: str) -> None:
        layer = self.layers[k]
        row["way"] = (*WAYS, MASKED).index(kind(way))
        row["int8"] = in_int8(way)
        row["inputs"], row["units"] = layer.inputs, layer.units
        row["relu"] = layer.relu
        if in_int8(way):
            row["mixed"] = way.endswith(MIXED)
            self._as_bytes(k, kind(way), row)
            return
        row["bias"] = _address(self._arrays[k, "bias"])
        if way == INPUT_SPARSE:
            rows = self._rows_of_inputs(k)
            row["block"] = block(layer.inputs, rows.shape[1])
        else:
            rows = self._arrays[k, "units"]
            row["block"] = block(rows.shape[1], layer.units)
            self._gate(k, row)
        row["rows"], row["stride"] = _address(rows), rows.shape[1]

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

    def _as_bytes(self, k: int, way: str, row: np.void) -> None:
        layer = self.layers[k]
        weight, row["scales"], row["totals"] = self._quantised(k, "", layer.weight)
        # Units that only fill up the last vector are never positive.
        row["bias"] = self._number(k, "int8 bias", layer.bias)
        if way == INPUT_SPARSE:
            rows = self._keep(k, "int8 inputs", _in_order(weight.T), whole(layer.units, BYTES))
            row["block"] = block(layer.inputs, rows.shape[1], size=1)
        elif way in (DENSE, MASKED):
            row["tiles"] = allowed()
            rows = self._keep(k, "int8 panels", _panels(weight), whole(layer.inputs, BYTES))
            if way == MASKED:
                self._gate_as_bytes(k, row, in_panels=True)
        else:
            rows = self._keep(k, "int8 units", weight, whole(layer.inputs, BYTES))
            row["block"] = block(rows.shape[1], layer.units, size=1)
            gate = self._gate if row["mixed"] else self._gate_as_bytes
            gate(k, row)
        row["rows"], row["stride"] = _address(rows), rows.shape[1]

    def _gate_as_bytes(self, k: int, row: np.void, in_panels: bool = False) -> None:
        layer = self.layers[k]
        gate = layer.gate
        assert gate is not None, "only layers with an estimator run gated"
        row["rank"], row["gate_stride"] = gate.u.shape[1], whole(layer.units, TILE)
        u, row["u_scales"], row["u_totals"] = self._quantised(k, "u ", gate.u.numpy().T)
        v, row["v_scales"], _ = self._quantised(k, "v ", gate.v.numpy().T)
        inputs, rank = whole(layer.inputs, BYTES), whole(gate.u.shape[1], GROUP)
        if in_panels:
            row["u"] = _address(self._keep(k, "int8 u panels", _panels(u), inputs))
            row["v"] = _address(self._keep(k, "int8 v panels", _panels(v), whole(rank, BYTES)))
        else:
            row["u"] = _address(self._keep(k, "int8 u", _more_rows(u, rank), inputs))
            groups = np.pad(v, [(0, row["gate_stride"] - len(v)), (0, rank - v.shape[1])])
            groups = groups.reshape(len(groups), rank // GROUP, GROUP).transpose(1, 0, 2)
            groups = groups.reshape(rank // GROUP, GROUP * row["gate_stride"])
            row["v"] = _address(self._keep(k, "int8 v", groups, groups.shape[1]))
        row["v_start"] = self._number(k, "v start", -OFFSET * v.sum(1, dtype=np.int32))
        bias = layer.bias + gate.shift.numpy()
        row["gate_bias"] = self._number(k, "int8 gate bias", bias, filled_with=-np.inf)

    def _quantised(self, k: int, name: str, rows: Array) -> tuple[Array, int, int]:
        """Rows as signed bytes, and the addresses of what a step of each is worth and of each one's total."""
        scales = np.abs(rows).max(1, initial=0) / np.float32(LEVELS)
        steps = np.divide(rows, scales[:, None], out=np.zeros_like(rows), where=scales[:, None] > 0)
        made = np.rint(steps).astype(np.int8)
        totals = self._number(k, f"{name}totals", made.sum(1, dtype=np.int32))
        return made, self._number(k, f"{name}scales", scales), totals

    def _number(self, k: int, name: str, values: Array, filled_with: float = 0.0) -> int:
        """The address of one number for each unit, rank or score, in whole tiles."""
        return _address(self._keep(k, name, values[None], whole(len(values), TILE), filled_with))

    def _rows_of_inputs(self, k: int) -> Array:
        weight = self.layers[k].weight.T
        return self._keep(k, "inputs", weight, spaced(weight.shape[1]))

    def _keep(self, k: int, name: str, values: Array, width: int, filled_with: float = 0.0) -> Array:
        """The array of this name: ``values`` in rows of ``width``, made once."""
        if (k, name) not in self._arrays:
            made = aligned(values.shape[0], width, values.dtype.type)
            made[:] = filled_with
            made[:, : values.shape[1]] = values
            self._arrays[k, name] = made
        return self._arrays[k, name]


def _address(array: Array) -> int:
    return array.ctypes.data


def _more_rows(rows: Array, count: int) -> Array:
    return np.pad(rows, [(0, count - len(rows)), (0, 0)])


def _panels(rows: Array) -> Array:
    """Rows of units in blocks of ``SIDE``, four inputs of each beside each other."""
    inputs = whole(rows.shape[1], BYTES)
    filled = np.pad(_more_rows(rows, whole(len(rows), SIDE)), [(0, 0), (0, inputs - rows.shape[1])])
    blocks = filled.reshape(len(filled) // SIDE, SIDE, inputs // GROUP, GROUP).transpose(0, 2, 1, 3)
    return blocks.reshape(filled.shape)


def _in_order(rows: Array) -> Array:
    """Every 64 columns in the order in which the kernels' sums come out right."""
    wide = np.pad(rows, [(0, 0), (0, -rows.shape[1] % BYTES)])
    ordered: Array = wide.reshape(len(rows), -1, BYTES)[:, :, ORDER].reshape(wide.shape)
    return ordered
