"""How a module is called, and what it computes then: a graph, by torch.fx, as far as its Python allows."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as tree

from ccsweep.engine.accelerate.copying import brief, hooked
from ccsweep.errors import UserError


class Form:
    """The form of a call: names of its arguments, containers in them, and what is no tensor.

    Args:
        forward: of the module; its signature says which arguments are the same.
        arguments: of the call, positional.
        options: of the call, by keyword.
    """

    def __init__(
        self, forward: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        known = inspect.signature(forward).parameters.values()
        self.signature = inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in known])
        tensors_only = not options and all(isinstance(one, Tensor) for one in arguments)
        self.flat = len(arguments) if tensors_only else 0
        """How many tensors it is, in order and nothing else; 0: it is more."""
        leaves, self.spec = tree.tree_flatten(self._bound(arguments, options))
        self.constants = [None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]

    def tensors(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Tensor] | None:
        """The tensors of a call of this form, in order; None where it has another."""
        if self.flat and len(arguments) == self.flat and not options:  # to bind them would take 10 us
            return [*arguments] if all(isinstance(one, Tensor) for one in arguments) else None
        try:
            leaves, spec = tree.tree_flatten(self._bound(arguments, options))
        except TypeError:  # no such argument: the module itself says so
            return None
        if spec != self.spec or not all(map(_same, leaves, self.constants)):
            return None
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def call(self, tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and options of a call of this form with these tensors."""
        left = iter(tensors)
        leaves = [next(left) if constant is None else constant[0] for constant in self.constants]
        arguments, options = tree.tree_unflatten(leaves, self.spec)
        return tuple(arguments), options

    def __len__(self) -> int:
        return sum(constant is None for constant in self.constants)

    def as_plain(self) -> dict[str, Any]:
        """It in plain data."""
        parameters = [
            [one.name, one.kind.name, *([] if one.default is one.empty else [plain(one.default)])]
            for one in self.signature.parameters.values()
        ]
        constants = [None if constant is None else [plain(constant[0])] for constant in self.constants]
        spec = tree.treespec_dumps(self.spec)
        return {"parameters": parameters, "flat": self.flat, "spec": spec, "constants": constants}

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "Form":
        """What ``as_plain`` gave."""
        form = cls.__new__(cls)
        parameters = [
            inspect.Parameter(
                name,
                inspect._ParameterKind[kind],
                default=unplain(default[0], {}) if default else inspect.Parameter.empty,
            )
            for name, kind, *default in content["parameters"]
        ]
        form.signature, form.flat = inspect.Signature(parameters), content["flat"]
        form.spec = tree.treespec_loads(content["spec"])
        form.constants = [None if one is None else (unplain(one[0], {}),) for one in content["constants"]]
        return form

    def _bound(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        bound = self.signature.bind(*arguments, **options)
        return list(bound.args), dict(sorted(bound.kwargs.items()))


def _same(leaf: Any, constant: tuple[Any] | None) -> bool:
    if constant is None or isinstance(leaf, Tensor):
        return constant is None and isinstance(leaf, Tensor)
    plain = isinstance(leaf, bool | int | float | str) and type(leaf) is type(constant[0])
    return leaf is constant[0] or (plain and leaf == constant[0])


def tensors_in(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in a model's output, each with where it stands: in tuples, mappings and dataclasses."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_in(value, f"{name}[{key!r}]")
    elif isinstance(output, list | tuple):
        for place, value in enumerate(output):
            yield from tensors_in(value, f"{name}[{place}]")
    elif dataclasses.is_dataclass(output):
        for field in dataclasses.fields(output):
            yield from tensors_in(getattr(output, field.name), f"{name}.{field.name}")


class Root(nn.Module):
    """A module that is called with a list of tensors, in place of the call's own form."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any], form: Form) -> None:
        super().__init__()
        self.module = module
        # Not the module itself: its hooks are called by whoever calls the module.
        self._run: tuple[Callable[..., Any], Form] = (forward, form)

    def forward(self, tensors: list[Tensor]) -> Any:
        """What the module gives for a call of its form."""
        forward, form = self._run
        arguments, options = form.call([tensors[k] for k in range(len(form))])
        return forward(*arguments, **options)


class Tracer(fx.Tracer):
    """Traces through all modules but torch's own and those that cannot be: these are called as they are.

    Args:
        opaque: ids of modules not to look into.
    """

    def __init__(self, opaque: set[int]) -> None:
        super().__init__()
        self._opaque = opaque
        self.reasons: dict[str, str] = {}
        """Why a module was not looked into, by its name."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is called rather than looked into."""
        if hooked(m) or id(m) in self._opaque:
            return True
        if "forward" in vars(m):  # the class says nothing of what it computes
            return False
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Look into a module; where that fails, forget what was seen and call it as it is."""
        if m not in (self.submodule_paths or {}):  # made by a forward: a slice of a Sequential
            return forward(*args, **kwargs)
        seen, stack = len(self.graph.nodes), self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # anything: it is the user's Python that met a value that is none
            name = self.path_of_module(m)
            if self.is_leaf_module(m, name):
                raise
            for node in reversed(list(self.graph.nodes)[seen:]):
                self.graph.erase_node(node)
            self.module_stack = stack
            self._opaque.add(id(m))
            self.reasons[name.removeprefix("module.")] = brief(error)
            return super().call_module(m, forward, args, kwargs)


def trace(root: Root, opaque: set[int]) -> tuple[fx.GraphModule | None, dict[str, str]]:
    """The root as a graph, if it can be traced, and why modules in it are called as they are."""
    tracer = Tracer(opaque)
    before = set(vars(root))
    try:
        graph = tracer.trace(root)
    except Exception as error:  # as above, in the outermost forward
        return None, {"": brief(error)}
    graph._tracer_cls = None  # of ours, which unpickling would trace with
    made = fx.GraphModule(root, graph)
    for name in set(vars(root)) - before:
        vars(root).pop(name, None)
    return made, tracer.reasons


def refuse(reason: str) -> Any:
    """Say why a model is not written down.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"the model cannot be saved without its own code ({reason}): use torch.save, which keeps it pickled"
    )


def plain(value: Any) -> list[Any]:
    """An argument of an operation in tagged lists, which no code is needed to read.

    Raises:
        UserError: it is of a type that is not plain.
    """
    if isinstance(value, fx.Node):
        return ["node", value.name]
    if isinstance(value, slice):
        return ["slice", *map(plain, (value.start, value.stop, value.step))]
    if type(value) in (list, tuple, fx.immutable_collections.immutable_list):
        return ["tuple" if isinstance(value, tuple) else "list", *map(plain, value)]
    if isinstance(value, dict):
        return ["dict", *([key, plain(one)] for key, one in value.items())]
    if value is Ellipsis:
        return ["ellipsis"]
    if value is None or isinstance(
        value, bool | int | float | str | torch.dtype | torch.device | torch.memory_format
    ):
        return ["value", value]
    return refuse(f"it holds {type(value).__name__}")


def unplain(value: list[Any], known: dict[str, fx.Node]) -> Any:
    """What :func:`plain` was given; nodes by name."""
    kind, *rest = value
    if kind == "node":
        return known[rest[0]]
    if kind == "slice":
        return slice(*(unplain(one, known) for one in rest))
    if kind in ("list", "tuple"):
        made = [unplain(one, known) for one in rest]
        return made if kind == "list" else tuple(made)
    if kind == "dict":
        return {key: unplain(one, known) for key, one in rest}
    return ... if kind == "ellipsis" else rest[0]
