"""Where a gate meets a layer: the conditional network.

    S = [x U V + b > threshold]        the gate, one bit per sample and unit
    a = relu(x W + b) * S              only units with S = 1 count

Here the gate is applied to a dense product: it gives the answers and the gradients of conditional
computation, not its speed. Skipping the work for real is what training/skipping.py and the engine are for.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccsweep.config.schema import EstimatorConfig, RanksConfig
from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.budget import ranks_within
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import energy_rank
from ccsweep.estimator.moments import RunningMoments
from ccsweep.estimator.thresholds import density_threshold, energy_thresholds

Drop = Callable[[Tensor, int], Tensor]
"""Dropout of a level, which is numbered from the inputs, 0."""


class Trace(NamedTuple):
    """What happened in one hidden layer."""

    inputs: Tensor
    """(batch, in_features)"""
    preactivation: Tensor
    """(batch, units)"""
    gate: Tensor | None
    """bool (batch, units); None where every unit is computed."""
    activation: Tensor
    """(batch, units)"""
    kept: Tensor
    """(batch, units), what dropout leaves of it: what the next layer gets."""


class ConditionalLinear(nn.Linear):
    """A linear layer with ReLU that computes the units its estimator calls positive.

    ``weight`` is (units, in_features) as in every ``nn.Linear``; the factors ``u`` (in_features,
    rank), ``v`` (rank, units) and ``shift`` (units,) are buffers: gradients never reach them, and a
    checkpoint carries them, so a loaded network gates exactly as the saved one did. Before its first
    refresh a gated layer computes every unit; a layer that is not gated is a plain linear layer with
    ReLU and costs nothing extra.

    Args:
        in_features: inputs.
        units: outputs.
        gated: whether the layer has an estimator.
        running: keep up running moments of the inputs; see ``RunningMoments``.
    """

    u: Tensor
    v: Tensor
    shift: Tensor

    def __init__(self, in_features: int, units: int, gated: bool = False, running: bool = False) -> None:
        super().__init__(in_features, units)
        self.gated = gated
        self.running = RunningMoments(in_features) if gated and running else None
        if gated:
            self.register_buffer("u", self.weight.new_zeros(in_features, 0))
            self.register_buffer("v", self.weight.new_zeros(0, units))
            self.register_buffer("shift", self.weight.new_full((units,), torch.inf))

    @property
    def rank(self) -> int | None:
        """Columns of U; None without an estimator."""
        return self.u.shape[1] if self.gated else None

    @property
    def factors(self) -> Factors:
        """The estimator's factors."""
        return Factors(self.u, self.v, self.shift)

    @factors.setter
    def factors(self, factors: Factors) -> None:
        self.u, self.v, self.shift = (tensor.to(self.weight.dtype) for tensor in factors)

    @torch.no_grad()
    def gate(self, x: Tensor) -> Tensor | None:
        """The units to compute, bool (batch, units), for x (batch, in_features)."""
        return self.factors.gate(x, self.bias) if self.gated else None

    def trace(self, x: Tensor, gated: bool = True) -> Trace:
        """Forward pass of x (batch, in_features) that keeps what lies between.

        Args:
            x: the layer's input.
            gated: False computes every unit all the same.
        """
        preactivation = F.linear(x, self.weight, self.bias)
        gate = self.gate(x) if gated else None
        activation = preactivation.relu()
        # The product's gradient is zero where the gate is: only computed units learn.
        activation = activation if gate is None else activation * gate
        return Trace(x, preactivation, gate, activation, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Activations (batch, units) of x (batch, in_features)."""
        return self.trace(x).activation

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The factors' shapes may be a result of training, not of the config.
        for name in ("u", "v") if self.gated else ():
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Seen:
    """What layers get where images (samples, in_features) pass through them: run only as far as is asked."""

    def __init__(self, layers: Sequence[ConditionalLinear], images: Tensor) -> None:
        self._layers, self._inputs = layers, [images]

    @torch.no_grad()
    def inputs(self, k: int) -> Tensor:
        """Of layer k, counted from 0; the layers before it gated as they are when it is first asked for."""
        for layer in self._layers[len(self._inputs) - 1 : k]:
            self._inputs.append(layer(self._inputs[-1]))
        return self._inputs[k]


class ConditionalMLP(nn.Module):
    """A ReLU network whose hidden layers may be gated; the output layer never is (paper, section 3).

    Args:
        sizes: inputs, hidden units and outputs, e.g. ``[784, 1000, 600, 400, 10]``.
        ranks: how large the factors are; None for the control, which has no estimator.
        estimator: how layers guess signs, and which of them; None for the paper's truncated SVD in all.
        dropout_input: share of inputs zeroed in training.
        dropout_hidden: share of each hidden layer's activations zeroed in training.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        ranks: RanksConfig | None = None,
        estimator: EstimatorConfig | None = None,
        dropout_input: float = 0.0,
        dropout_hidden: float = 0.0,
    ) -> None:
        super().__init__()
        self.ranks = ranks or RanksConfig()
        self.estimator = estimator or EstimatorConfig("svd")
        hidden, running = len(sizes) - 2, self.estimator.moments == "running"
        gated = self.estimator.gated_layers(self.ranks, hidden)
        # A ModuleList says too little of what it holds.
        self.hidden: Sequence[ConditionalLinear] = nn.ModuleList(  # type: ignore[assignment]
            ConditionalLinear(sizes[i], sizes[i + 1], gated=i < gated, running=running) for i in range(hidden)
        )
        self.output = nn.Linear(sizes[-2], sizes[-1])
        self.gate_in_training = True
        """Whether units are gated in training too; when the module is in eval mode they always are."""
        self.dropout_input = dropout_input
        self.dropout_hidden = dropout_hidden

    def initialise(self, weight_std: float, bias: float) -> None:
        """Draw all weights from N(0, weight_std^2) and set hidden biases.

        Args:
            weight_std: standard deviation; 0 means He's ``sqrt(2 / in_features)`` for each layer.
            bias: of hidden units; the output layer's is 0.
        """
        for layer in self.linears():
            nn.init.normal_(layer.weight, std=weight_std or (2 / layer.in_features) ** 0.5)
            nn.init.constant_(layer.bias, 0.0 if layer is self.output else bias)

    def linears(self) -> list[nn.Linear]:
        """All layers in order, the output layer last."""
        return [*self.hidden, self.output]

    def layer_data(self, images: Tensor | None = None) -> list[LayerData]:
        """What an estimator may see of each hidden layer, as the network is when it looks.

        Args:
            images: calibration data (samples, in_features), passed through on demand, without dropout;
                None for estimators that look at no data.
        """
        seen = None if images is None else _Seen(self.hidden, images)
        return [
            LayerData(
                layer.weight.T,
                layer.bias,
                None if seen is None else partial(seen.inputs, i),
                None if layer.running is None else layer.running.moments(),
            )
            for i, layer in enumerate(self.hidden)
        ]

    @torch.no_grad()
    def refresh(self, images: Tensor | None = None, layers: Sequence[LayerData] | None = None) -> None:
        """Recompute the factors.

        Ranks and directions come from what the layers get now; thresholds, layer by layer, from what they
        get once the layers before them have their new gates.

        Args:
            images: calibration data (samples, in_features); None is enough for an estimator that looks at
                no data.
            layers: from :meth:`layer_data`, where the caller has them already.

        Raises:
            UserError: what the estimator asks for cannot be had from the weights and inputs.
        """
        how, gated = self.estimator, [layer for layer in self.hidden if layer.gated]
        if not gated:
            return
        layers = (self.layer_data(images) if layers is None else layers)[: len(gated)]
        found = [
            ESTIMATORS[how.name].factors(data, rank, how.refresh, layer.factors)
            for layer, data, rank in zip(gated, layers, self._ranks(layers), strict=True)
        ]
        for layer, factors in zip(gated, found, strict=True):
            layer.factors = factors._replace(shift=factors.shift - how.threshold)
        if how.energy_loss is None and how.density is None:
            return
        seen = _Seen(gated, layers[0].inputs if images is None else images)
        for i, layer in enumerate(gated):
            factors = layer.factors
            layer.factors = factors._replace(shift=factors.shift - self._thresholds(layer, seen.inputs(i)))

    def _ranks(self, layers: Sequence[LayerData]) -> Sequence[int]:
        """One rank for each gated layer."""
        estimator, asked = ESTIMATORS[self.estimator.name], self.ranks
        if asked.layers is not None:
            ranks = asked.layers[: len(layers)]
            for layer, rank in zip(layers, ranks, strict=True):
                most = min(layer.weight.shape)
                if not 1 <= rank <= most:
                    raise UserError(f"rank {rank} for the {layer} layer: expected 1 to {most}")
            return ranks
        if asked.budget is not None:
            dense = sum(layer.weight.numel() for layer in self.linears())
            return ranks_within(layers, estimator, asked.budget, dense)
        assert asked.energy is not None
        return [energy_rank(estimator.spectrum(layer).values, asked.energy) for layer in layers]

    def _thresholds(self, layer: ConditionalLinear, x: Tensor) -> Tensor:
        """Thresholds (units,) from what a layer gets, (samples, in_features)."""
        how, scores = self.estimator, layer.factors.scores(x, layer.bias)
        if how.energy_loss is not None:
            return energy_thresholds(scores, F.linear(x, layer.weight, layer.bias), how.energy_loss)
        assert how.density is not None
        return density_threshold(scores, how.density)

    def trace(self, x: Tensor, drop: Drop | None = None) -> tuple[Tensor, list[Trace]]:
        """Logits (batch, classes) of x (batch, in_features), and what every hidden layer did.

        Args:
            x: the inputs.
            drop: dropout in training, given (batch, width) and its level: 0 the inputs, k the activations
                of layer k; None: torch's.
        """
        gated = self.gate_in_training or not self.training
        drop = drop if drop is not None and self.training else self._dropout
        traces = []
        x = drop(x, 0)
        for level, layer in enumerate(self.hidden, 1):
            trace = layer.trace(x, gated)
            x = drop(trace.activation, level)
            traces.append(trace._replace(kept=x))
        return self.output(x), traces

    def _dropout(self, x: Tensor, level: int) -> Tensor:
        return F.dropout(x, self.dropout_hidden if level else self.dropout_input, self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of x (batch, in_features)."""
        return self.trace(x)[0]
