"""Single operations of a graph, as layers see them: a product with weights, a shift, a ReLU, or nothing."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ccsweep.engine.accelerate.copying import hooked

aten = torch.ops.aten
# What leaves values as they are at inference.
SILENT = (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
SILENT_CALLS = {
    "contiguous",
    "detach",
    "clone",
    aten.clone.default,
    aten.detach.default,
    aten.contiguous.default,
}
DROPOUT = {F.dropout, F.alpha_dropout, torch.dropout, aten.dropout.default}
LINEAR = {F.linear, torch._C._nn.linear, aten.linear.default}
MATMUL = {torch.matmul, torch.mm, operator.matmul, "matmul", "mm", aten.matmul.default, aten.mm.default}
ADD = {operator.add, torch.add, "add", operator.iadd, "add_", aten.add.Tensor}
RELU = {F.relu, torch.relu, torch.relu_, "relu", "relu_", aten.relu.default, aten.relu_.default}
CLAMP_MIN = {torch.clamp_min, "clamp_min", "clamp_min_", aten.clamp_min.default}
CLAMP = {torch.clamp, torch.clip, "clamp", "clip", "clamp_", "clip_", aten.clamp.default}
BATCH_NORM = (nn.BatchNorm1d, nn.SyncBatchNorm)
SHAPE = "ccsweep_shape"
"""Where a node's metadata has the shape that its value had on the inputs looked at."""


class Affine(NamedTuple):
    """``scale * x + shift`` for each feature."""

    scale: Tensor
    shift: Tensor
    flat: bool
    """Whether it holds for inputs (batch, features) only."""


Weights = tuple[Tensor, Tensor]
"""(units, in_features) and (units,), float64."""


def linear_of(graph: fx.GraphModule, node: fx.Node) -> Weights | None:
    """Weights of a linear layer over the last axis."""
    module = _module(graph, node)
    if module is not None:
        plain = type(module) in (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
        return _weights(module.weight, module.bias) if plain and not hooked(module) else None  # type: ignore[arg-type]
    if node.op == "call_function" and node.target in LINEAR:
        given = _given(node, "input", "weight", "bias")
        weight, bias = constant_of(graph, given["weight"]), constant_of(graph, given["bias"])
        known = weight is not None and (given["bias"] is None or bias is not None)
        return _weights(weight, bias) if known and isinstance(given["input"], fx.Node) else None
    if node.target in (torch.addmm, aten.addmm.default) and not node.kwargs:
        bias, weight = constant_of(graph, node.args[0]), constant_of(graph, node.args[2])
        return None if bias is None or weight is None or weight.dim() != 2 else _weights(weight.T, bias)
    if called(node, MATMUL) and len(node.args) == 2 and not node.kwargs:
        x, weight = node.args[0], constant_of(graph, node.args[1])
        if weight is None or constant_of(graph, x) is not None or weight.dim() != 2:
            return None
        return _weights(weight.T, None)
    return None


def input_of(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The argument of a layer that is no weight."""
    return next(given for given in node.all_input_nodes if constant_of(graph, given) is None)


def _weights(weight: Tensor | None, bias: Tensor | None) -> Weights | None:
    if weight is None or not usable(weight) or weight.dim() != 2 or not len(weight) or not weight.shape[1]:
        return None
    if bias is None:
        bias = torch.zeros(len(weight))
    if not usable(bias) or bias.shape != (len(weight),) or not finite(weight, bias):
        return None
    return weight.detach().double(), bias.detach().double()


def affine_of(graph: fx.GraphModule, node: fx.Node) -> Affine | None:
    """What a batch norm of features or the addition of a constant does."""
    module = _module(graph, node)
    if isinstance(module, BATCH_NORM) and type(module) in BATCH_NORM and not hooked(module):
        # Of (batch, channels, positions) it norms the middle axis, which is no feature of a linear layer.
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None or not usable(mean) or len(node.meta.get(SHAPE, ())) != 2:
            return None
        scale = (variance.double() + module.eps).rsqrt()
        if module.affine:
            scale = scale * module.weight.detach().double()
        shift = -mean.double() * scale
        return Affine(scale, shift + module.bias.detach().double() if module.affine else shift, True)
    if called(node, ADD) and len(node.args) == 2 and not node.kwargs:
        added = [constant_of(graph, argument) for argument in node.args]
        constant = added[0] if added[1] is None else added[1]
        if constant is not None and usable(constant) and constant.shape == node.meta.get(SHAPE, (0,))[-1:]:
            return Affine(torch.ones(len(constant), dtype=torch.float64), constant.detach().double(), False)
    return None


def scaled(weights: Weights, affine: Affine) -> Weights:
    """Of a layer whose outputs go through an affine map."""
    return weights[0] * affine.scale[:, None], weights[1] * affine.scale + affine.shift


def of_scaled(weights: Weights, affine: Affine) -> Weights:
    """Of a layer whose inputs come from an affine map."""
    return weights[0] * affine.scale, weights[1] + weights[0] @ affine.shift


def after(first: Affine, second: Affine) -> Affine:
    """Two affine maps in one."""
    shift = first.shift * second.scale + second.shift
    return Affine(first.scale * second.scale, shift, first.flat or second.flat)


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an operation takes the positive part."""
    module = _module(graph, node)
    if module is not None:
        threshold = type(module) is nn.Threshold and module.threshold == 0 == module.value
        return (type(module) is nn.ReLU or threshold) and not hooked(module)
    if called(node, RELU):
        return True
    if called(node, CLAMP_MIN):
        return _given(node, "input", "min")["min"] in (0, 0.0)
    if called(node, CLAMP):
        given = _given(node, "input", "min", "max")
        return given["min"] in (0, 0.0) and given["max"] is None
    if node.op == "call_function" and node.target in (F.threshold, torch.threshold):
        given = _given(node, "input", "threshold", "value")
        return given["threshold"] == 0 == given["value"]
    return False


def is_silent(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an operation gives what it gets."""
    module = _module(graph, node)
    if module is not None:
        return isinstance(module, SILENT) and type(module) in SILENT and not hooked(module)
    if called(node, DROPOUT):
        return not _given(node, "input", "p", "training").get("training", True)
    return called(node, SILENT_CALLS)


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    if node.op != "call_module":
        return None
    plain = len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs
    found = graph.get_submodule(str(node.target))
    return found if plain and "forward" not in vars(found) else None


def called(node: fx.Node, targets: set[Any]) -> bool:
    """Whether an operation is a call of one of these."""
    return node.op in ("call_function", "call_method") and node.target in targets


def _given(node: fx.Node, *names: str) -> dict[str, Any]:
    """Arguments of a call by name; None where one is not given."""
    given: dict[str, Any] = dict.fromkeys(names)
    given.update(zip(names, node.args, strict=False))
    if called(node, DROPOUT) and len(node.args) < 3 and "training" not in node.kwargs:
        given["training"] = True
    return given | {name: value for name, value in node.kwargs.items() if name in names}


def constant_of(graph: fx.GraphModule, argument: Any) -> Tensor | None:
    """The tensor that an argument always is; None where it depends on the inputs."""
    if not isinstance(argument, fx.Node):
        return None
    if argument.op == "get_attr":
        value: Any = graph
        for part in str(argument.target).split("."):
            value = getattr(value, part)
        return value if isinstance(value, Tensor) else None
    if argument.op not in ("call_function", "call_method") or not argument.all_input_nodes:
        return None
    known = {node: constant_of(graph, node) for node in argument.all_input_nodes}
    if any(value is None for value in known.values()):
        return None
    arguments, options = fx.node.map_arg((argument.args, argument.kwargs), lambda node: known[node])
    call: Callable[..., Any]
    if argument.op == "call_method":
        call, arguments = getattr(arguments[0], str(argument.target)), arguments[1:]
    else:
        call = argument.target  # type: ignore[assignment]
    with torch.no_grad():
        value = call(*arguments, **options)
    return value if isinstance(value, Tensor) else None


def usable(tensor: Tensor) -> bool:
    """Whether the engine computes in this type and place."""
    return tensor.dtype == torch.float32 and tensor.is_cpu


def finite(*tensors: Tensor) -> bool:
    """Where a weight is not finite, leaving out a zero input changes the answer."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
