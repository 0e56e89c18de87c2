"""Linear -> ReLU chains in a graph, found by where the values go."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, fx, nn

from ccsweep.engine.accelerate.copying import hooked
from ccsweep.engine.accelerate.tracing.operations import (
    CLAMP_MIN,
    LINEAR,
    MATMUL,
    RELU,
    SHAPE,
    Affine,
    affine_of,
    after,
    called,
    constant_of,
    finite,
    input_of,
    is_relu,
    is_silent,
    linear_of,
    of_scaled,
    scaled,
    usable,
)
from ccsweep.engine.layers import Layer


class Found(NamedTuple):
    """Operations that the engine can run in one go."""

    name: str
    """Where they are, e.g. ``classifier.0 to classifier.4``."""
    nodes: tuple[fx.Node, ...]
    layers: tuple[Layer, ...]
    flat: bool
    """Whether they are the chain for inputs (batch, features) only."""


class Left(NamedTuple):
    """What stays as it was, and why."""

    name: str
    reason: str


class Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every value."""

    def run_node(self, n: fx.Node) -> Any:
        """The node's value."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta[SHAPE] = tuple(value.shape)
        return value


def search(graph: fx.GraphModule, prefix: str = "") -> tuple[list[Found], list[Left]]:
    """All chains of linear layers with ReLU between, and every other operation with weights or by a module.

    A chain goes on as long as each value has one use: linear layers (also as functions or matrix
    products), batch norm of (batch, features) folded into them, ReLU however it is written; what does
    nothing at inference is left out. Weights are float32 on the CPU, and may be computed from constants.

    Args:
        graph: of a module in eval mode, with shapes noted.
        prefix: the module's own name, before all names in it.
    """
    found: list[Found] = []
    taken: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node not in taken and (chain := _chain(graph, node, prefix)) is not None:
            found.append(chain)
            taken |= set(chain.nodes)
    left = [
        Left(name_of(node, prefix), _reason(graph, node))
        for node in graph.graph.nodes
        if _worth_naming(node, taken)
    ]
    return found, list(dict.fromkeys(left))


def replace(graph: fx.GraphModule, found: Found, name: str, module: nn.Module) -> None:
    """Put ``module`` under ``name`` in place of a chain."""
    graph.add_submodule(name, module)
    last = found.nodes[-1]
    with graph.graph.inserting_after(last):
        made = graph.graph.call_module(name, (input_of(graph, found.nodes[0]),))
    last.replace_all_uses_with(made)
    for node in reversed(found.nodes):
        graph.graph.erase_node(node)
    for node in reversed(graph.graph.nodes):
        if not node.users and constant_of(graph, node) is not None:  # weights that nothing reads any more
            graph.graph.erase_node(node)
    graph.recompile()


def name_of(node: fx.Node, prefix: str) -> str:
    """Where an operation is: a module's name, else the innermost module's and the operation."""
    inside = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
    names = [str(node.target)] if node.op == "call_module" else [*inside[-1:], node.name]
    parts = [part for name in names for part in name.split(".")]
    return ".".join(filter(None, [prefix, *(parts[1:] if parts[0] == "module" else parts)]))


def _chain(graph: fx.GraphModule, first: fx.Node, prefix: str) -> Found | None:
    """The longest chain that begins here; None where it is no chain."""
    begun = linear_of(graph, first)
    if begun is None:
        return None
    nodes, layers, flat = [first], [begun], False
    end, kept = 1, 0  # nodes and layers of the longest chain so far
    relu: list[bool] = [False]
    pending: Affine | None = None
    while len(nodes[-1].users) == 1:
        (node,) = nodes[-1].users
        if sum(used is nodes[-1] for used in node.all_input_nodes) != 1 or node.op == "output":
            break
        linear, affine = linear_of(graph, node), affine_of(graph, node)
        if is_silent(graph, node):
            nodes.append(node)
            continue
        if is_relu(graph, node):
            if pending is not None:  # a positive part of what is scaled: not folded
                break
            relu[-1] = True
        elif affine is not None and not relu[-1]:
            layers[-1] = scaled(layers[-1], affine)
            flat |= affine.flat
        elif affine is not None:
            pending = affine if pending is None else after(pending, affine)
        elif linear is not None and relu[-1] and linear[0].shape[1] == layers[-1][0].shape[0]:
            if pending is not None:
                linear = of_scaled(linear, pending)
                flat |= pending.flat
                pending = None
            layers.append(linear)
            relu.append(False)
        else:
            break
        nodes.append(node)
        if pending is None:
            end, kept = len(nodes), len(layers)
    made = [
        Layer(_array(weight), _array(bias), on)
        for (weight, bias), on in zip(layers[:kept], relu[:kept], strict=True)
    ]
    if not made or (len(made) == 1 and not made[0].relu):
        return None
    names = dict.fromkeys((name_of(nodes[0], prefix), name_of(nodes[end - 1], prefix)))
    return Found(" to ".join(names), tuple(nodes[:end]), tuple(made), flat)


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().numpy())


def _worth_naming(node: fx.Node, taken: set[fx.Node]) -> bool:
    if node in taken:
        return False
    return node.op == "call_module" or called(node, LINEAR | MATMUL | RELU | CLAMP_MIN)


def _reason(graph: fx.GraphModule, node: fx.Node) -> str:
    if node.op != "call_module":
        return f"{node.name} without a ReLU next to it, or of weights that are not constant"
    module = graph.get_submodule(str(node.target))
    kind = type(module).__name__
    if hooked(module):
        return f"{kind} with hooks"
    if type(module) is nn.Linear:
        if not usable(module.weight):
            return f"{kind} in {module.weight.dtype} on {module.weight.device}"
        if not finite(*module.parameters()):
            return f"{kind} holds NaN or infinity"
        return f"{kind} without a ReLU after or before it"
    return f"{kind} is not known to the engine"


def widths(layers: Sequence[Layer]) -> str:
    """As in ``784-1000-10``."""
    return "-".join(str(size) for size in (layers[0].inputs, *(layer.units for layer in layers)))
