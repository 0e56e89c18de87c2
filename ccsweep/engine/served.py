"""A trained network in a file of its own, which MLflow loads and serves on the engine.

The file holds weights and plans, and no code: MLflow is told this module's name as the loader, so
ccsweep has to be installed where a model is loaded.
"""

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine.accelerate import Accelerated
from ccsweep.engine.accelerate import load as load_accelerated
from ccsweep.engine.accelerate.saved import holds
from ccsweep.engine.compiled import Compiled, warm_up
from ccsweep.engine.layers import Layer, layers_of
from ccsweep.engine.layout import Layout
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED
from ccsweep.estimator.factors import Factors
from ccsweep.files import check_sums
from ccsweep.network import ConditionalMLP

Ways = Sequence[str]


def faithful(plan: Plan) -> list[str]:
    """The fastest ways that keep every gate in use, so that the answers are the network's own.

    ``auto`` may leave a gate out, which computes more units and so gives other logits; a model whose
    test error was reported has to give the logits that the error is of.
    """

    def fastest(layer: LayerPlan) -> str:
        ways = (DENSE, INPUT_SPARSE) if layer.rank is None else (GATED, TWO_SIDED)
        return min(ways, key=lambda way: layer.microseconds[way])

    return [fastest(layer) for layer in plan.layers]


def save(
    path: Path,
    network: ConditionalMLP,
    ways: Mapping[int, Ways],
    scaling: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write a network and its ways, by the batch size that they are fast at.

    Args:
        path: of the file.
        network: as it was trained.
        ways: of its layers, by batch size.
        scaling: what to take from the inputs and what to divide them by, (in_features,) each, before the
            network sees them; None: nothing.
    """
    layers = [
        {
            "weight": torch.from_numpy(weight),
            "bias": torch.from_numpy(bias),
            "relu": relu,
            "gate": gate and list(gate),
        }
        for weight, bias, relu, gate in layers_of(network)
    ]
    torch.save(
        {
            "layers": layers,
            "ways": {size: list(each) for size, each in ways.items()},
            "scaling": scaling and tuple(scaling),
        },
        path,
    )


class Served:
    """What MLflow calls.

    Args:
        layers: of the network.
        ways: of these layers, by batch size.
        scaling: as :func:`save` has it.
    """

    def __init__(
        self, layers: Sequence[Layer], ways: Mapping[int, Ways], scaling: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self._scaling = scaling
        warm_up()
        layout = Layout(layers)
        # One thread each: a server answers several requests at a time.
        self._compiled = {size: Compiled(layout, each) for size, each in ways.items()}

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Logits (batch, classes) of inputs (batch, in_features), array or data frame, not scaled yet."""
        # A copy: what a data frame gives may not be writable, which torch wants.
        x = torch.from_numpy(np.array(model_input, np.float32))
        if self._scaling is not None:
            shift, scale = self._scaling
            x = (x - shift) / scale
        return self._at(len(x))(x).numpy()

    def _at(self, batch: int) -> Compiled:
        """What was planned for the size nearest to this one, as a ratio."""
        return self._compiled[min(self._compiled, key=lambda size: abs(log(max(batch, 1) / size)))]


class ServedAccelerated:
    """The same for what ``ccsweep.accelerate`` made.

    Args:
        model: of one tensor.
    """

    def __init__(self, model: Accelerated) -> None:
        warm_up()
        self._model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Outputs (batch, ...) of inputs (batch, ...), an array or a data frame."""
        outputs: np.ndarray = self._model(torch.from_numpy(np.array(model_input, np.float32))).numpy()
        return outputs


def load(path: str | Path) -> Served | ServedAccelerated:
    """Read what ``save`` wrote, or an accelerated model's; nothing in it is ever executed.

    Raises:
        UserError: the file is damaged.
    """
    if holds(path):
        return ServedAccelerated(load_accelerated(path))
    check_sums(Path(path), "log the model again, with task=benchmark run=ID")
    saved = torch.load(path, weights_only=True)
    return Served([_layer(**layer) for layer in saved["layers"]], saved["ways"], saved.get("scaling"))


_load_pyfunc = load  # the name that MLflow calls


def _layer(weight: Tensor, bias: Tensor, relu: bool, gate: list[Tensor] | None) -> Layer:
    return Layer(weight.numpy(), bias.numpy(), relu, None if gate is None else Factors(*gate))
