"""Anyone's model made fast: estimators fitted to its Linear -> ReLU chains, plans for each batch size."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccsweep.engine.chains import Found, Left, replace, search
from ccsweep.engine.compiled import Compiled
from ccsweep.engine.layers import Layer, chain, layer_of
from ccsweep.engine.layout import Layout
from ccsweep.engine.plan import Plan
from ccsweep.engine.tune import Tuner
from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.cost import GATED, INPUT_SPARSE, TWO_SIDED, LayerCost, limit
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.thresholds import energy_thresholds

# Of the calibration inputs, the last share is kept to verify on.
HELD_OUT = 0.25
# Estimators tried for a layer: what they cost, as a share of the dense work, and the share of each
# unit's activation energy that its threshold may lose; 0 is no threshold, just the estimate's sign.
COSTS, LOSSES = (0.03, 0.06, 0.12, 0.2), (0.03, 0.01, 0.003, 0.001, 0.0)
# What a gate must promise on paper over the best way without one, to be worth its errors.
PROMISE = 1.3
# Scores held at once while thresholds are found.
MOST_SCORES = 2**22
# One plan serves batches up to each of these, the last one larger ones too.
CLASSES = (1, 8, 32, 256, 1024)
BATCH = 256  # samples at a time through the model while calibrating

log = logging.getLogger("ccsweep.engine")


class Report(NamedTuple):
    """What was done to a model."""

    chains: tuple[str, ...]
    """One line for each chain that runs in the engine."""
    left: tuple[Left, ...]
    """All that stays as it was."""
    disagreement: float
    """Share of held-out predictions that all gates together change."""
    held_out: int
    """Samples it was found on."""

    def __str__(self) -> str:
        lines = [*self.chains, *(f"left as it was: {name}: {reason}" for name, reason in self.left)]
        lines.append(f"predictions that differ: {self.disagreement:.2%} of {self.held_out} held out")
        return "\n".join(lines)


class Chain(nn.Module):
    """The engine in place of a chain of modules; a plan for each size class, made on first use.

    Args:
        found: the modules; they go on to serve inputs that are not float32 on the CPU.
        layers: the same as layers, with their gates.
        inputs: (samples, in_features), what the chain gets on calibration data.
        threads: of the plans.
    """

    def __init__(self, found: Found, layers: Sequence[Layer], inputs: Tensor, threads: int) -> None:
        super().__init__()
        self.original = nn.Sequential(*found.modules)
        self.layout = Layout(layers)
        self.compiled: dict[int, Compiled] = {}
        self._inputs, self._threads = inputs[: CLASSES[-1]], threads

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., units) of x (..., in_features)."""
        if not x.is_cpu or x.dtype != torch.float32:
            return self.original(x)
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        out = self.at(rows.shape[0])(rows)
        return out if x.dim() == 2 else out.reshape(*x.shape[:-1], out.shape[1])

    def at(self, batch_size: int) -> Compiled:
        """What serves batches of this size."""
        size = next((size for size in CLASSES if batch_size <= size), CLASSES[-1])
        if size not in self.compiled:
            self.compiled[size] = self._compile(size)
        return self.compiled[size]

    def train(self, mode: bool = True) -> "Chain":
        """Refused: the engine holds a copy of the weights.

        Raises:
            UserError: ``mode`` is True.
        """
        if mode:
            raise UserError("an accelerated model only predicts: train the original and accelerate it again")
        return super().train(mode)

    def _compile(self, size: int) -> Compiled:
        log.info("choosing a plan for batches of up to %d", size)
        tuner = Tuner(self.layout, self._inputs, size, self._threads, gated=False, int8=False)
        # All gates together were verified; leaving out some brings answers nearer to the original's.
        ways, plan = tuner.plan("auto", max_disagreement=1.0)
        compiled = Compiled(self.layout, ways, tuner.workers)
        compiled.plan = plan(compiled)
        return compiled


class Accelerated(nn.Module):
    """A model whose chains run in the engine; it is called like the original, and only predicts.

    Args:
        model: with :class:`Chain` modules in it.
        report: what was done.
    """

    def __init__(self, model: nn.Module, report: Report) -> None:
        super().__init__()
        self.model, self.report = model, report
        self.eval()

    def forward(self, *arguments: object, **options: object) -> object:
        """What the original gives in eval mode, without gradients."""
        with torch.no_grad():
            return self.model(*arguments, **options)

    def train(self, mode: bool = True) -> "Accelerated":
        """Refused, as by every :class:`Chain`."""
        for part in self.children():
            part.train(mode)
        self.training = mode
        return self

    @property
    def plans(self) -> list[Plan]:
        """All plans made so far."""
        chains = [part for part in self.modules() if isinstance(part, Chain)]
        return [compiled.plan for part in chains for compiled in part.compiled.values() if compiled.plan]


def accelerate(
    model: nn.Module,
    calibration_inputs: Tensor,
    max_disagreement: float = 0.001,
    batch_sizes: Sequence[int] = (),
    threads: int | None = None,
) -> Accelerated:
    """The model, faster: its Linear -> ReLU chains skip work, all else stays as it was.

    Leaving out zero inputs changes nothing. An estimator is added to a layer where it promises more, of
    the rank and thresholds that promise most among those that keep the model's predictions (the largest
    of its outputs) on all but ``max_disagreement`` of held-out calibration inputs, together with all
    others. The original is not changed; when it is trained on, accelerate it again.

    Args:
        model: takes one tensor; used in eval mode.
        calibration_inputs: (samples, ...), real inputs, none that the model was trained on: it is surer of
            those. A quarter is held out; to see one change in a thousand, a few thousand are needed.
        max_disagreement: share of predictions that may change; 0 rules estimators out.
        batch_sizes: to choose plans for now, rather than when a batch of that size class first comes.
        threads: to use; None means as many as torch uses now.

    Returns:
        A module; its ``report`` names what was done and what was left, ``plans`` are tables.

    Raises:
        UserError: no chain was found, too few or unusable calibration inputs, weights not finite.
    """
    held = int(HELD_OUT * len(calibration_inputs))
    if held < 1:
        raise UserError(f"calibration_inputs hold {len(calibration_inputs)} samples: expected 4 or more")
    # Modules of its own, in eval mode, which share the original's tensors.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, shared).eval()
    found, left = search(model)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left)
        raise UserError(f"no Linear -> ReLU chain in an nn.Sequential was found ({reasons})")
    threads = torch.get_num_threads() if threads is None else threads
    fitting, verifying = calibration_inputs[:-held], calibration_inputs[-held:]
    inputs = _inputs_of(model, found, fitting)
    layers = [_layers(one) for one in found]
    answers = _predictions(model, verifying)

    def disagreement(tried: list[list[Layer]]) -> float:
        gated = replace(model, found, lambda i: _Gated(tried[i]))
        return float((_predictions(gated, verifying) != answers).double().mean())

    for i in range(len(found)):
        for k in range(len(layers[i])):
            layers[i][k] = _with_gate(layers, i, k, inputs[i], disagreement, max_disagreement)
    changed = disagreement(layers)
    parts = [Chain(*each, threads) for each in zip(found, layers, inputs, strict=True)]
    for part in parts:
        for size in batch_sizes:
            part.at(size)
    lines = [_described(*each) for each in zip(found, layers, strict=True)]
    return Accelerated(
        replace(model, found, lambda i: parts[i]), Report(tuple(lines), tuple(left), changed, held)
    )


def _with_gate(
    layers: list[list[Layer]],
    i: int,
    k: int,
    inputs: Tensor,
    disagreement: Callable[[list[list[Layer]]], float],
    allowed: float,
) -> Layer:
    """Layer k of chain i with the most promising gate that keeps the answers, or as it is."""
    layer = layers[i][k]
    if not layer.relu or allowed <= 0:
        return layer
    x = torch.from_numpy(chain(layers[i][:k], inputs.numpy())[-1])
    for gate in _promising(layer, x[: MOST_SCORES // layer.units]):
        tried = [list(one) for one in layers]
        tried[i][k] = layer._replace(gate=gate)
        if disagreement(tried) <= allowed:
            return tried[i][k]
    return layer


def _promising(layer: Layer, x: Tensor) -> list[Factors]:
    """Gates worth trying on inputs x, those first whose theoretical limit is the highest."""
    data = LayerData(torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias), lambda: x)
    density = float((x != 0).double().mean())
    shape = layer.inputs, layer.units
    bound = PROMISE * limit(INPUT_SPARSE, LayerCost(*shape), density)
    ranks = [round(cost * layer.inputs * layer.units / sum(shape)) for cost in COSTS]
    ranks = sorted({rank for rank in ranks if 1 <= rank <= min(*shape, len(x))})
    if not ranks:
        return []
    widest = ESTIMATORS["whitened"].factors(data, ranks[-1], "randomised")
    gates = []
    for rank in ranks:
        # Directions come strongest first, so a smaller rank is the beginning of a larger one.
        factors = Factors(widest.u[:, :rank], widest.v[:rank], widest.shift)
        scores = factors.scores(x, data.bias)
        for loss in LOSSES:
            shift = factors.shift
            if loss > 0:
                shift = shift - energy_thresholds(scores, data.preactivation, loss)
            on = float((scores + (shift - factors.shift) > 0).double().mean())
            cost = LayerCost(*shape, rank, on)
            reached = max(limit(way, cost, density) for way in (GATED, TWO_SIDED))
            if reached > bound:
                gates.append((reached, factors._replace(shift=shift)))
    return [gate for _, gate in sorted(gates, key=lambda one: -one[0])]


class _Gated(nn.Module):
    """A chain with its gates, every product computed: for verification."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = torch.from_numpy(chain(self.layers, rows.numpy())[-1])
        return out.reshape(*x.shape[:-1], out.shape[1])


def _layers(found: Found) -> list[Layer]:
    last = len(found.linears) - 1
    return [
        layer_of(linear, f"layer {k + 1} of {found.name}", relu=k < last or found.ends_in_relu)
        for k, linear in enumerate(found.linears)
    ]


@torch.no_grad()
def _predictions(model: nn.Module, inputs: Tensor) -> Tensor:
    outputs = [model(x) for x in inputs.split(BATCH)]
    if not isinstance(outputs[0], Tensor) or outputs[0].dim() < 2:
        raise UserError("the model gives no tensor (batch, ..., classes): its predictions cannot be compared")
    return torch.cat([out.argmax(-1).reshape(len(out), -1) for out in outputs])


@torch.no_grad()
def _inputs_of(model: nn.Module, found: Sequence[Found], inputs: Tensor) -> list[Tensor]:
    """What each chain gets, as rows."""
    caught: list[list[Tensor]] = [[] for _ in found]

    class Catch(nn.Module):
        def __init__(self, i: int) -> None:
            super().__init__()
            self.i, self.modules_ = i, nn.Sequential(*found[i].modules)

        def forward(self, x: Tensor) -> Tensor:
            caught[self.i].append(x.detach().reshape(-1, x.shape[-1]).float().clone())
            return self.modules_(x)

    listening = replace(model, list(found), Catch)
    for x in inputs.split(BATCH):
        listening(x)
    passed = []
    for one, rows in zip(found, caught, strict=True):
        if not rows:
            raise UserError(f"{one.name} was never called by the model on the calibration inputs")
        passed.append(torch.cat(rows))
        if not bool(passed[-1].isfinite().all()):
            raise UserError(f"{one.name} gets NaN or infinity on the calibration inputs")
    return passed


def _described(found: Found, layers: Sequence[Layer]) -> str:
    sizes = "-".join(str(size) for size in (layers[0].inputs, *(layer.units for layer in layers)))
    ranks = "-".join("0" if layer.gate is None else str(layer.gate.u.shape[1]) for layer in layers)
    return f"in the engine: {found.name}: {sizes}, ranks {ranks}"
