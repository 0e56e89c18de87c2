"""Modules of a copied model whose forward becomes a graph, with chains for the engine in it.

Every graph, and every chain in it, is compared with what it takes the place of on the model's own
calls; where it gives anything else, what was there stays.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ccsweep.engine.accelerate.chain import Chain
from ccsweep.engine.accelerate.copying import brief
from ccsweep.engine.accelerate.tracing.chains import Left, Shapes, replace, search
from ccsweep.engine.accelerate.tracing.trace import Form, Root, tensors_in, trace

TOLERANCE = 1e-4
"""Of outputs that are the same but for rounding, against the largest of them."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
Example = tuple[list[Tensor], Any]
"""Tensors of a call, and what came out."""
Export = Callable[[fx.GraphModule, Form, Sequence[Example]], None]


class Unit:
    """In place of a module's ``forward``: a graph for calls of one form, and what was there for all others.

    Args:
        owner: the module.
        method: ``forward``, or another that ends in the same.
        form: of the calls.
        graph: takes a list of the call's tensors.
    """

    def __init__(self, owner: nn.Module, method: str, form: Form, graph: fx.GraphModule) -> None:
        self._owner, self._method, self.form, self.graph = owner, method, form, graph
        self._set = vars(owner).get(method)  # on the instance, by the user
        self.only = only(form, graph)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What the module gives."""
        if self.only is not None and len(arguments) == 1 and isinstance(arguments[0], Tensor) and not options:
            return self.only(arguments[0])
        tensors = self.form.tensors(arguments, options)
        return self.plain(*arguments, **options) if tensors is None else self.graph.forward(tensors)

    def plain(self, *arguments: Any, **options: Any) -> Any:
        """What was there."""
        if self._set is not None:
            return self._set(*arguments, **options)
        return getattr(type(self._owner), self._method)(self._owner, *arguments, **options)


def only(form: Form, graph: fx.GraphModule) -> Callable[[Tensor], Tensor] | None:
    """What a graph comes to that is one chain and nothing else: going through it takes 4 us."""
    nodes = [node for node in graph.graph.nodes if node.op != "placeholder"]
    if form.flat != 1 or [node.op for node in nodes] != ["call_function", "call_module", "output"]:
        return None
    module = graph.get_submodule(str(nodes[1].target))
    passed_on = nodes[1].args == (nodes[0],) and nodes[2].args == (nodes[1],)
    return module.forward if isinstance(module, Chain) and passed_on else None


class FeedForward(nn.Module):
    """The part of torch's transformer layers that is a chain; their own forward cannot be traced."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.linear1, self.dropout, self.linear2 = layer.linear1, layer.dropout, layer.linear2
        self.activation = layer.activation

    def forward(self, x: Tensor) -> Tensor:
        """As in the layer."""
        return self.linear2(self.dropout(self.activation(self.linear1(x))))  # type: ignore[operator]


FEED_FORWARDS = {
    nn.TransformerEncoderLayer: ("_ff_block", "activation_relu_or_gelu"),
    nn.TransformerDecoderLayer: ("_ff_block", ""),
}
"""Torch's layers: their method that is a ``FeedForward``, and what makes them leave the method out."""


class Units:
    """Finds the chains of a model, and puts them where the engine can run them.

    Args:
        model: a copy of the user's, in eval mode; it is changed.
        run: runs the model on some inputs, with several batch sizes.
        export: may make something else of the whole model's graph, unless it is one chain; called with it
            before anything is replaced, with its form and examples.
    """

    def __init__(
        self, model: nn.Module, run: Callable[[], object], export: Export = lambda graph, form, examples: None
    ) -> None:
        self.model, self._run, self._export = model, run, export
        self.chains: list[Chain] = []
        self.left: list[Left] = []
        self._names = {id(module): name for name, module in model.named_modules()}
        self._done: set[int] = set()
        for module in model.modules():
            if shortcut := FEED_FORWARDS.get(type(module), ("", ""))[1]:
                setattr(module, shortcut, 0)
        self._called = self._calls()
        self._unsteady = self._setting_attributes()
        self._search(model)

    def _calls(self) -> set[int]:
        """Modules that are called, with all those that they are in."""
        called: set[str] = set()
        handles = [
            module.register_forward_pre_hook(lambda _, inputs, name=name: called.add(name))
            for name, module in self.model.named_modules(remove_duplicate=False)
            if not isinstance(module, torch.jit.ScriptModule)  # it takes no such hooks
        ]
        self._run()
        for handle in handles:
            handle.remove()
        return {
            id(module)
            for name, module in self.model.named_modules(remove_duplicate=False)
            if any(one == name or one.startswith(f"{name}." if name else "") for one in called)
        }

    def _setting_attributes(self) -> set[int]:
        """Modules that set attributes when they are called: a graph would set them once and for all."""
        self._run()  # the first call may fill caches
        before = {id(module): dict(vars(module)) for module in self.model.modules()}
        self._run()
        return {
            id(module)
            for module in self.model.modules()
            if any(before[id(module)].get(name, self) is not value for name, value in vars(module).items())
        }

    def _search(self, module: nn.Module) -> None:
        """Make the module a unit, or else modules inside of it."""
        known = type(module).__module__.startswith("torch.nn") and not list(module.children())
        if id(module) in self._done or (known and "forward" not in vars(module)):
            return
        self._done.add(id(module))
        if type(module) in FEED_FORWARDS:
            self._make_unit(module, FEED_FORWARDS[type(module)][0], FeedForward(module))
            return
        inside, reason = self._make_unit(module, "forward", module)
        if reason:
            self.left.append(Left(self._name(module), reason))
        for child in inside:
            self._search(child)

    def _make_unit(self, owner: nn.Module, method: str, module: nn.Module) -> tuple[list[nn.Module], str]:
        """Put a graph in place of a method that computes what ``module`` does; where to look on, and why."""
        children = list(module.children())
        if id(owner) not in self._called:
            return [], "never called on the calibration inputs"
        plain = getattr(owner, method)
        calls = self._recorded(owner, method)
        if not calls:  # a list of modules
            return children, ""
        if id(owner) in self._unsteady:
            return children, "its forward sets attributes"
        try:
            form = Form(plain, *calls[0])
        except (TypeError, ValueError) as error:
            return children, f"its forward cannot be traced ({brief(error)})"
        examples: list[Example] = []
        try:
            for arguments, options in calls:
                if (tensors := form.tensors(arguments, options)) is not None:
                    examples.append((tensors, _cloned(plain(*arguments, **options))))
        except Exception as error:  # whatever the user's Python needs around the call, e.g. vmap
            return children, f"its forward cannot be called alone ({brief(error)})"
        traced, reasons = trace(
            Root(module, plain if module is owner else module.forward, form), self._unsteady
        )
        if traced is None:
            return children, f"its forward cannot be traced ({reasons['']})"
        if _differs(traced, examples):
            return children, "its forward depends on more than its inputs"
        self.left += [
            Left(_joined(self._name(owner), name), f"cannot be traced ({why})")
            for name, why in reasons.items()
        ]
        graph = self._with_chains(traced, examples, self._name(owner))
        if graph is not None:
            vars(owner)[method] = Unit(owner, method, form, graph)
        if owner is self.model and (graph is None or only(form, graph) is None):
            self._export(traced, form, examples)
        called = [node for node in traced.graph.nodes if node.op == "call_module"]
        return [traced.get_submodule(str(node.target)) for node in called], ""

    def _with_chains(
        self, traced: fx.GraphModule, examples: Sequence[Example], name: str
    ) -> fx.GraphModule | None:
        """The graph with all chains in it that give what was there; None where there is none."""
        with torch.no_grad():
            Shapes(traced).run(_cloned(examples[0][0]))
        found, left = search(traced, name)
        good = [k for k in range(len(found)) if not _differs(_replaced(traced, [k], name)[0], examples)]
        graph, chains = _replaced(traced, good, name)
        if good and _differs(graph, examples):  # in place together they change what none changes alone
            good = []
        left += [
            Left(one.name, "in the engine it would give other outputs")
            for k, one in enumerate(found)
            if k not in good
        ]
        self.left += left
        if not good:
            return None
        self.chains += chains
        return graph

    def _recorded(self, owner: nn.Module, method: str) -> list[Call]:
        """Calls of a method while the model runs."""
        calls: list[Call] = []
        plain, before = getattr(owner, method), vars(owner).get(method)

        def record(*arguments: Any, **options: Any) -> Any:
            calls.append(_cloned((arguments, options)))
            return plain(*arguments, **options)

        vars(owner)[method] = record
        try:
            self._run()
        finally:
            del vars(owner)[method]
            if before is not None:
                vars(owner)[method] = before
        return calls

    def _name(self, module: nn.Module) -> str:
        return self._names.get(id(module), "")


def _replaced(traced: fx.GraphModule, kept: Sequence[int], name: str) -> tuple[fx.GraphModule, list[Chain]]:
    """A copy of the graph with some of its chains in place."""
    graph = fx.GraphModule(traced, copy.deepcopy(traced.graph))
    found = search(graph, name)[0]
    chains = [Chain(found[k].name, found[k].layers, found[k].flat) for k in kept]
    for k, chain in zip(kept, chains, strict=True):
        replace(graph, found[k], f"chain_{k}", chain)
    return graph, chains


def _differs(graph: fx.GraphModule, examples: Sequence[Example]) -> bool:
    """Whether the graph gives something else than rounding explains, or fails."""
    try:
        with torch.no_grad():
            return not all(same(graph.forward(_cloned(tensors)), output) for tensors, output in examples)
    except Exception:  # of whatever kind: what was traced does not run
        return True


def same(found: Any, expected: Any) -> bool:
    """Whether two outputs are of one form, and alike but for rounding."""
    a, b = list(tensors_in(found)), list(tensors_in(expected))
    if [name for name, _ in a] != [name for name, _ in b] or type(found) is not type(expected):
        return False
    return all(_alike(one, other) for (_, one), (_, other) in zip(a, b, strict=True))


def _alike(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point():
        return bool(torch.equal(found, expected))
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True))


def _cloned(value: Any) -> Any:
    """The value with tensors of its own: the model may change its inputs in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_cloned, value))
    if type(value) is dict:
        return {key: _cloned(one) for key, one in value.items()}
    return value


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))
