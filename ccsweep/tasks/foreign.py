"""A model that others made, read from a file: an exported program, a state dict of an MLP, or ONNX."""

import copy
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ccsweep.errors import UserError, first_line

EXPECTED = "an exported program (.pt2), a state dict of linear layers (.pt, .pth) or an ONNX file (.onnx)"


def read(path: str) -> nn.Module:
    """The model in a file, by its suffix; no code in it is executed.

    Args:
        path: ``.pt2`` is what ``torch.export.save`` wrote; ``.pt`` or ``.pth`` a state dict, its matrices
            linear layers with ReLU between; ``.onnx`` a chain of Gemm, MatMul, Add and Relu.

    Raises:
        UserError: it is missing, or none of these.
    """
    readers = {".pt2": _exported, ".pt": _state_dict, ".pth": _state_dict, ".onnx": _onnx}
    file = Path(path).expanduser()
    if file.suffix not in readers:
        raise UserError(f"model={path}: expected {EXPECTED}")
    if not file.is_file():
        raise UserError(f"model={path}: no such file; expected {EXPECTED}")
    try:
        return readers[file.suffix](file)
    except UserError as error:
        raise UserError(f"model={path}: {error}") from error
    except Exception as error:  # of many kinds: whatever else is in the file
        raise UserError(f"model={path}: cannot be read ({first_line(error)}); expected {EXPECTED}") from error


def _exported(file: Path) -> nn.Module:
    module = torch.export.load(file).module()
    graph = copy.deepcopy(module.graph)
    for node in reversed(graph.nodes):  # what checks shapes does so by values, which tracing cannot
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    return fx.GraphModule(module, graph).eval()


def _state_dict(file: Path) -> nn.Module:
    content = torch.load(file, weights_only=True, map_location="cpu")
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]  # a checkpoint's
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError("holds no state dict; expected one: torch.save(model.state_dict(), path)")
    left = {key: value.float() for key, value in content.items()}
    layers = []
    for key in [key for key in left if key.endswith("weight")]:
        weight, bias = left.pop(key), left.pop(key.removesuffix("weight") + "bias", None)
        if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            raise UserError(
                f"{key} of shape {tuple(weight.shape)} is no linear layer's; expected an MLP's, or a .pt2"
            )
        layers.append((weight, bias))
    if left or not layers:
        found = next(iter(left), "nothing")
        raise UserError(f"holds {found}, which is no linear layer's; expected an MLP's state dict, or a .pt2")
    for (one, _), (other, _) in pairwise(layers):
        if len(one) != other.shape[1]:
            raise UserError(
                f"a layer of {len(one)} units stands before one of {other.shape[1]} inputs; expected a chain"
            )
    return _sequential(layers, relu=[True] * (len(layers) - 1) + [False])


def _onnx(file: Path) -> nn.Module:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise UserError("onnx is not installed: pip install onnx") from error
    graph = onnx.load(str(file)).graph
    known = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    (value,) = [one.name for one in graph.input if one.name not in known]
    layers: list[tuple[Tensor, Tensor | None]] = []
    relu: list[bool] = []
    for node in graph.node:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Constant":
            known[node.output[0]] = numpy_helper.to_array(given["value"])
            continue
        others = [known[name] for name in node.input if name in known]
        if [name for name in node.input if name not in known] != [value]:
            raise UserError(f"{node.op_type} {node.name} is not next in a chain; expected one path of layers")
        if node.op_type in ("Gemm", "MatMul"):
            weight = others[0] if given.get("transB") else others[0].T
            if node.input[0] != value or given.get("transA") or weight.ndim != 2:
                raise UserError(f"{node.op_type} {node.name} is no linear layer of the inputs")
            bias = _tensor(others[1] * given.get("beta", 1.0)) if len(others) > 1 else None
            layers.append((_tensor(weight * given.get("alpha", 1.0)), bias))
            relu.append(False)
        elif node.op_type == "Add" and layers and not relu[-1]:
            known_weight, known_bias = layers[-1]
            shift = _tensor(others[0]).reshape(-1)
            layers[-1] = known_weight, shift if known_bias is None else shift + known_bias
        elif node.op_type == "Relu" and layers:
            relu[-1] = True
        elif node.op_type not in ("Flatten", "Identity", "Dropout", "Cast"):
            raise UserError(f"{node.op_type} {node.name} is not known; expected Gemm, MatMul, Add and Relu")
        value = node.output[0]
    if not layers:
        raise UserError("holds no Gemm and no MatMul; expected a chain of them")
    return _sequential(layers, relu)


def _sequential(layers: list[tuple[Tensor, Tensor | None]], relu: list[bool]) -> nn.Module:
    parts: list[nn.Module] = []
    for (weight, bias), positive in zip(layers, relu, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        linear.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        parts += [linear, nn.ReLU()] if positive else [linear]
    return nn.Sequential(*parts).eval()


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))  # a copy: what onnx gives is not writable
