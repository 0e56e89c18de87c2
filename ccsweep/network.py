"""Where a gate meets a layer: the conditional network.

    S = [x U V + b > threshold]        the gate, one bit per sample and unit
    a = relu(x W + b) * S              only units with S = 1 count

Here the gate is applied to a dense product: it gives the answers and the gradients of conditional
computation, not its speed. Skipping the work for real is the engine's business.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccsweep.estimator.factors import ESTIMATORS


class Estimator(NamedTuple):
    """How one layer guesses signs: a name in ``ESTIMATORS``, and a rank or a share of energy."""

    name: str = "svd"
    rank: int | None = None
    energy: float | None = None
    threshold: float = 0.0


class Trace(NamedTuple):
    """What happened in one hidden layer, all (batch, units); the gate is None in a control."""

    preactivation: Tensor
    gate: Tensor | None
    activation: Tensor


class ConditionalLinear(nn.Linear):
    """A linear layer with ReLU that computes the units its estimator calls positive.

    ``weight`` is (units, in_features) as in every ``nn.Linear``; the factors ``u`` (in_features,
    rank) and ``v`` (rank, units) are buffers: gradients never reach them, and a checkpoint carries
    them, so a loaded network gates exactly as the saved one did. Without an estimator the layer is a
    plain linear layer with ReLU and costs nothing extra.
    """

    u: Tensor
    v: Tensor

    def __init__(self, in_features: int, units: int, estimator: Estimator | None = None) -> None:
        super().__init__(in_features, units)
        self.estimator = estimator
        if estimator is not None:
            self.register_buffer("u", self.weight.new_zeros(in_features, 0))
            self.register_buffer("v", self.weight.new_zeros(0, units))
            self.refresh()

    @property
    def rank(self) -> int | None:
        """Columns of U; None without an estimator."""
        return None if self.estimator is None else self.u.shape[1]

    @torch.no_grad()
    def refresh(self) -> None:
        """Recompute the factors from the current weights."""
        if self.estimator is not None:
            name, rank, energy, _ = self.estimator
            self.u, self.v = ESTIMATORS[name](self.weight.T, rank=rank, energy=energy)

    @torch.no_grad()
    def gate(self, x: Tensor) -> Tensor | None:
        """The units to compute, bool (batch, units), for x (batch, in_features)."""
        if self.estimator is None:
            return None
        return torch.addmm(self.bias, x @ self.u, self.v) > self.estimator.threshold

    def trace(self, x: Tensor) -> Trace:
        """Forward pass of x (batch, in_features) that keeps what lies between."""
        preactivation = F.linear(x, self.weight, self.bias)
        gate = self.gate(x)
        activation = preactivation.relu()
        # The product's gradient is zero where the gate is: only computed units learn.
        return Trace(preactivation, gate, activation if gate is None else activation * gate)

    def forward(self, x: Tensor) -> Tensor:
        """Activations (batch, units) of x (batch, in_features)."""
        return self.trace(x).activation

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # With ranks by energy the factors' shapes are a result of training, not of the config.
        for name in ("u", "v") if self.estimator is not None else ():
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class ConditionalMLP(nn.Module):
    """A ReLU network whose hidden layers may be gated; the output layer never is (paper, section 3).

    Args:
        sizes: inputs, hidden units and outputs, e.g. ``[784, 1000, 600, 400, 10]``.
        estimators: one per hidden layer; None for the control.
        dropout_input: share of inputs zeroed in training.
        dropout_hidden: share of each hidden layer's activations zeroed in training.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        estimators: Sequence[Estimator] | None = None,
        dropout_input: float = 0.0,
        dropout_hidden: float = 0.0,
    ) -> None:
        super().__init__()
        each = estimators if estimators is not None else [None] * (len(sizes) - 2)
        pairs = zip(sizes, sizes[1:-1], each, strict=False)
        # A ModuleList says too little of what it holds.
        self.hidden: Sequence[ConditionalLinear] = nn.ModuleList(  # type: ignore[assignment]
            ConditionalLinear(d, h, e) for d, h, e in pairs
        )
        self.output = nn.Linear(sizes[-2], sizes[-1])
        self.dropout_input = dropout_input
        self.dropout_hidden = dropout_hidden

    def initialise(self, weight_std: float, bias: float) -> None:
        """Draw all weights from N(0, weight_std^2), set hidden biases, refresh the factors.

        Args:
            weight_std: standard deviation; 0 means He's ``sqrt(2 / in_features)`` for each layer.
            bias: of hidden units; the output layer's is 0.
        """
        for layer in self.linears():
            nn.init.normal_(layer.weight, std=weight_std or (2 / layer.in_features) ** 0.5)
            nn.init.constant_(layer.bias, 0.0 if layer is self.output else bias)
        self.refresh()

    def linears(self) -> list[nn.Linear]:
        """All layers in order, the output layer last."""
        return [*self.hidden, self.output]

    def refresh(self) -> None:
        """Recompute every layer's factors from its current weights."""
        for layer in self.hidden:
            layer.refresh()

    def trace(self, x: Tensor) -> tuple[Tensor, list[Trace]]:
        """Logits (batch, classes) of x (batch, in_features), and what every hidden layer did."""
        traces = []
        x = F.dropout(x, self.dropout_input, self.training)
        for layer in self.hidden:
            traces.append(layer.trace(x))
            x = F.dropout(traces[-1].activation, self.dropout_hidden, self.training)
        return self.output(x), traces

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of x (batch, in_features)."""
        return self.trace(x)[0]
