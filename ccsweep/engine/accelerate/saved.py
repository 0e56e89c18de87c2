"""An accelerated model in a file of tensors and plain data, which another machine opens; no code is in it.

A graph is written down as its operations by name: only torch's own operators are taken back. Modules of
torch that the graph calls are kept as what they hold. Plans are made anew where the CPU is another one.
"""

import copy
import operator
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ccsweep.engine.accelerate.chain import Arithmetic, Chain, agree
from ccsweep.engine.accelerate.close import Close
from ccsweep.engine.accelerate.copying import HOOKS, brief, hooked
from ccsweep.engine.accelerate.keep import Margin
from ccsweep.engine.accelerate.report import Report
from ccsweep.engine.accelerate.tracing.chains import Left
from ccsweep.engine.accelerate.tracing.trace import Form, plain, refuse, unplain
from ccsweep.engine.accelerate.tracing.units import Unit, only
from ccsweep.engine.accelerate.whole import Whole
from ccsweep.engine.compiled import Compiled
from ccsweep.engine.layers import Layer
from ccsweep.engine.peers import UnavailableError
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.errors import UserError
from ccsweep.estimator.factors import Factors
from ccsweep.files import check_sums, whole
from ccsweep.kernels.compiling import target

VERSION = 3
ARITHMETIC = {
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "neg", "pos", "abs", "getitem",
    "iadd", "isub", "imul", "itruediv", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "invert",
}  # fmt: skip
ATTRIBUTES = {
    "shape", "dtype", "device", "ndim", "T", "mT", "H", "mH", "real", "imag", "is_cuda", "values",
    "indices",
}  # fmt: skip
NEVER = {
    "from_file", "apply_", "map_", "map2_", "backward", "register_hook", "share_memory_", "numpy",
    "untyped_storage",
}  # fmt: skip
"""Operators that reach beyond tensors."""
_OPERATORS: dict[str, Any] = {"torch": torch._C._VariableFunctions, "torch._C._nn": torch._C._nn, "F": F}


class Loaded(nn.Module):
    """A model from a file: its graph alone.

    Args:
        form: of its calls.
        graph: takes a list of the call's tensors.
    """

    def __init__(self, form: Form, graph: fx.GraphModule) -> None:
        super().__init__()
        self.form, self.graph, self.only = form, graph, only(form, graph)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """What the model gives.

        Raises:
            UserError: the call has another form than those it was calibrated with.
        """
        if self.only is not None and len(arguments) == 1 and isinstance(arguments[0], Tensor) and not options:
            return self.only(arguments[0])
        tensors = self.form.tensors(arguments, options)
        if tensors is None:
            raise UserError(
                "a loaded model takes calls of the form that it was calibrated with, and no others"
            )
        return self.graph.forward(tensors)


def write(
    model: nn.Module, report: Report, close: Close | None, other: Whole | None, path: str | Path
) -> None:
    """Write a model with chains in it to a file that :func:`read` opens anywhere.

    Raises:
        UserError: its forward is not a graph of torch's own operations and modules.
    """
    unit: Any = model if isinstance(model, Loaded) else vars(model).get("forward")
    if not isinstance(unit, Unit | Loaded) or hooked(model):
        refuse("its forward stays Python")
    modules: dict[str, nn.Module] = {}
    tensors: dict[str, Tensor] = {}
    parts = unit.graph.named_modules(remove_duplicate=False)
    chains = {name: one for name, one in parts if isinstance(one, Chain)}
    agreed = {one.together.use for one in chains.values() if one.together is not None}
    content = {
        "ccsweep accelerated": VERSION,
        "form": unit.form.as_plain(),
        "nodes": [_node(node, unit.graph, modules, tensors) for node in unit.graph.graph.nodes],
        "modules": modules,
        "tensors": tensors,
        "chains": {name: _chain(one) for name, one in chains.items()},
        "agreed": [list(use) for use in agreed if use is not None],
        "whole": other and _whole(other),
        "close": close and [*close.margin, close.least, close.share],
        "cpu": list(target()),
        "report": report._asdict() | {"left": [list(one) for one in report.left]},
    }
    with whole(Path(path)) as partial:
        torch.save(content, partial)


def holds(path: str | Path) -> bool:
    """Whether :func:`write` wrote this file."""
    with torch.serialization.safe_globals(_modules_of_torch()):
        return "ccsweep accelerated" in torch.load(path, weights_only=True, mmap=True)


def read(path: str | Path) -> tuple[nn.Module, list[Chain], Report, Close | None, Whole | None]:
    """What :func:`write` wrote, chains and all; nothing is executed but operators of torch and ONNX Runtime.

    Raises:
        UserError: it is no such file.
    """
    try:
        with torch.serialization.safe_globals(_modules_of_torch()):
            content = torch.load(path, weights_only=True)
        if content["ccsweep accelerated"] != VERSION:
            raise UserError(f"{path} was written by another version of ccsweep: accelerate the model again")
        check_sums(Path(path), "accelerate the model again")
        root = nn.Module()
        graph = fx.GraphModule(root, fx.Graph())
        for name, module in content["modules"].items():
            graph.add_submodule(name, module)
        for name, tensor in content["tensors"].items():
            parent, _, leaf = name.rpartition(".")
            if parent not in dict(graph.named_modules()):
                graph.add_submodule(parent, nn.Module())
            graph.get_submodule(parent).register_buffer(leaf, tensor)
        same_cpu = content["cpu"] == list(target())
        chains = {name: _chain_from(one, same_cpu) for name, one in content["chains"].items()}
        agree([*chains.values()], *(Arithmetic(*use) for use in content["agreed"] if same_cpu))
        for name, one in chains.items():
            graph.add_submodule(name, one)
        graph.graph = _graph(content["nodes"])
        graph.recompile()
        report = Report(
            **content["report"] | {"left": tuple(Left(*one) for one in content["report"]["left"])}
        )
        close = content["close"] and Close(Margin(*content["close"][:2]), *content["close"][2:])
        form = Form.from_plain(content["form"])
        other = content["whole"] and _whole_from(content["whole"], form, same_cpu)
        return Loaded(form, graph).eval(), list(chains.values()), report, close, other
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: expected a file that accelerated.save wrote") from error
    except UserError:
        raise
    except Exception as error:  # of many kinds: any other file
        raise UserError(f"{path} is no file that accelerated.save wrote ({brief(error)})") from error


def _chain(one: Chain) -> dict[str, Any]:
    return {
        "name": one.name,
        "flat": one.flat,
        "layers": [
            {
                "weight": torch.from_numpy(layer.weight),
                "bias": torch.from_numpy(layer.bias),
                "relu": layer.relu,
                "gate": layer.gate and list(layer.gate),
                "int8": small,
            }
            for layer, small in zip(one.layers, one.int8, strict=True)
        ],
        "inputs": one.inputs,
        "threads": one.threads,
        "share again": one.share_again,
        "plans": _plans(one),
        "plans again": _plans(one.again) if one.share_again else {},
    }


def _plans(one: Chain) -> dict[int, dict[str, Any]]:
    return {
        size: {
            "ways": list(compiled.ways),
            "threads": [compiled.threads, compiled.shared_from],
            "plan": asdict(compiled.plan),
        }
        for size, compiled in one.compiled.items()
        if compiled.plan
    }


def _chain_from(content: dict[str, Any], same_cpu: bool) -> Chain:
    layers = [
        Layer(
            each["weight"].numpy(),
            each["bias"].numpy(),
            each["relu"],
            each["gate"] and Factors(*each["gate"]),
        )
        for each in content["layers"]
    ]
    one = Chain(content["name"], layers, content["flat"])
    one.int8 = [each["int8"] for each in content["layers"]]
    one.compile(content["inputs"], content["threads"], content["share again"])
    if same_cpu:
        _plan_as(one, content["plans"])
    if same_cpu and one.share_again:
        _plan_as(one.again, content["plans again"])
    return one


def _plan_as(one: Chain, plans: dict[int, dict[str, Any]]) -> None:
    for size, known in plans.items():
        with suppress(UnavailableError):  # of ONNX Runtime here: planned anew
            compiled = Compiled(one.layout, known["ways"], *known["threads"])
            plan = known["plan"]
            layers = tuple(LayerPlan(**each) for each in plan["layers"])
            compiled.plan = Plan(**plan | {"layers": layers})
            one.compiled[size] = compiled


def _whole(one: Whole) -> dict[str, Any]:
    model = torch.frombuffer(bytearray(one.model), dtype=torch.uint8)
    likes = [[dtype, list(shape)] for dtype, shape in one.likes]
    return {"model": model, "likes": likes, "threads": one.threads, "faster": one.faster}


def _whole_from(content: dict[str, Any], form: Form, same_cpu: bool) -> Whole | None:
    with suppress(UnavailableError):  # of ONNX Runtime here: the engine alone
        likes = [(dtype, tuple(shape)) for dtype, shape in content["likes"]]
        one = Whole(content["model"].numpy().tobytes(), form, likes, content["threads"])
        one.faster = content["faster"] if same_cpu else {}
        return one
    return None


def _node(
    node: fx.Node, graph: fx.GraphModule, modules: dict[str, nn.Module], tensors: dict[str, Tensor]
) -> list[Any]:
    """Operation, name, target and arguments; what the target names is added to modules and tensors."""
    name: Any = node.target
    if node.op == "call_function":
        name = _name_of(node.target)
    elif node.op == "call_method":
        _method(str(name))
    elif node.op == "call_module":
        module = graph.get_submodule(name)
        if not isinstance(module, Chain):
            modules[name] = _bare(module, name)
    elif node.op == "get_attr":
        value: Any = graph
        for part in name.split("."):
            value = getattr(value, part)
        if not isinstance(value, Tensor):
            refuse(f"{name} is no tensor")
        tensors[name] = value.detach()
    return [node.op, node.name, name, plain(node.args), plain(node.kwargs)]


def _graph(nodes: list[list[Any]]) -> fx.Graph:
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for op, name, called, arguments, options in nodes:
        what = (
            _function(called) if op == "call_function" else _method(called) if op == "call_method" else called
        )
        given, named = unplain(arguments, known), unplain(options, known)
        if what is getattr and given[1] not in ATTRIBUTES:
            raise ValueError(f"attribute {given[1]}")
        known[name] = graph.create_node(op, what, given, named, name)
    return graph


def _bare(module: nn.Module, name: str) -> nn.Module:
    """A module of torch without what sealed it."""
    own = copy.deepcopy(module)
    for part in own.modules():
        if (
            type(part) not in _modules_of_torch()
            or hooked(part)
            or "forward" in vars(part)
            or "_ff_block" in vars(part)
        ):
            refuse(f"{name.removeprefix('module.')} is no plain module of torch")
        for hooks in HOOKS:
            setattr(part, hooks, OrderedDict())
    return own


def _modules_of_torch() -> list[Any]:
    kinds = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    return [*kinds, nn.modules.linear.NonDynamicallyQuantizableLinear, set, F.relu, F.gelu]


def _name_of(function: Any) -> str:
    """Where a function is found again.

    Raises:
        UserError: it is none of torch's operators.
    """
    if function is getattr:
        return "getattr"
    if isinstance(function, torch._ops.OpOverload) and function.namespace == "aten":
        return f"aten.{function._opname}.{function._overloadname}"
    name = getattr(function, "__name__", "")
    if name in ARITHMETIC and getattr(operator, name) is function:
        return f"operator.{name}"
    for place, module in _OPERATORS.items():
        if name not in NEVER and not name.startswith("__") and getattr(module, name, None) is function:
            return f"{place}.{name}"
    return refuse(f"it calls {name or function}")


def _function(name: str) -> Callable[..., Any]:
    if name == "getattr":
        return getattr
    place, _, last = name.rpartition(".")
    found: Any = None
    if place == "operator" and last in ARITHMETIC:
        found = getattr(operator, last)
    elif place.startswith("aten."):
        found = getattr(getattr(torch.ops.aten, place.removeprefix("aten.")), last)
    elif place in _OPERATORS and last not in NEVER and not last.startswith("__"):
        found = getattr(_OPERATORS[place], last)
    if not callable(found) or _name_of(found) != name:
        raise ValueError(f"function {name}")
    return found


def _method(name: str) -> str:
    if name.startswith("_") or name in NEVER or not callable(getattr(Tensor, name, None)):
        refuse(f"it calls the method {name}")
    return name
