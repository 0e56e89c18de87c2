"""Finding Linear -> ReLU chains in a model, and putting something in their place."""

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

# They do nothing at inference.
SILENT = (nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)


class Found(NamedTuple):
    """Consecutive modules of one ``nn.Sequential`` that the engine can run."""

    name: str
    """Where they are, e.g. ``classifier.0 to classifier.4``."""
    modules: tuple[nn.Module, ...]
    linears: tuple[nn.Linear, ...]
    ends_in_relu: bool


class Left(NamedTuple):
    """A module that stays as it was, and why."""

    name: str
    reason: str


def search(model: nn.Module, name: str = "") -> tuple[list[Found], list[Left]]:
    """Chains of linear layers with ReLU between, and every other module that has no children.

    A chain is looked for in each ``nn.Sequential``, those inside of it included as if their modules stood
    there; what another module does in its ``forward`` is not known. Only layers with plain float32
    weights on the CPU count, and only modules without hooks.

    Args:
        model: where to look.
        name: of the model, before all names found in it.
    """
    found: list[Found] = []
    left: list[Left] = []
    for place, module in _outermost(model, name):
        if _sequential(module):
            _search_sequence(list(_flat(module, place)), found, left)
        elif not list(module.children()):
            left.append(Left(place, f"{type(module).__name__} outside of an nn.Sequential"))
    return found, left


def replace(model: nn.Module, chains: list[Found], make: Callable[[int], nn.Module]) -> nn.Module:
    """The model with ``make(i)`` in place of chain i; the model itself is not changed.

    Modules on the way to a chain are copied, all others are shared. A Sequential with a chain in it
    comes back flat.
    """
    first = {id(chain.modules[0]): i for i, chain in enumerate(chains)}
    inside = {id(module) for chain in chains for module in chain.modules}

    def rebuilt(module: nn.Module) -> nn.Module:
        if _sequential(module):
            parts = []
            flat = [part for _, part in _flat(module, "")]
            if not any(id(part) in inside for part in flat):
                flat = list(module.children())
            for part in flat:
                if id(part) in first:
                    parts.append(make(first[id(part)]))
                elif id(part) not in inside:
                    parts.append(rebuilt(part))
            same = len(parts) == len(flat) and all(a is b for a, b in zip(parts, flat, strict=True))
            return module if same else nn.Sequential(*parts)
        children = {name: rebuilt(child) for name, child in module.named_children()}
        if all(child is getattr(module, name) for name, child in children.items()):
            return module
        clone = copy.copy(module)
        clone._modules = {**module._modules, **children}
        return clone

    return rebuilt(model)


def _outermost(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Sequentials that are in no other, and modules without children."""
    if _sequential(module) or not list(module.children()):
        yield name or type(module).__name__, module
        return
    for part, child in module.named_children():
        yield from _outermost(child, f"{name}.{part}" if name else part)


def _flat(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a Sequential and of those inside of it, in order."""
    prefix = "" if name == "Sequential" else name
    for part, child in module.named_children():
        inner = f"{prefix}.{part}" if prefix else part
        if _sequential(child):
            yield from _flat(child, inner)
        else:
            yield inner, child


def _search_sequence(modules: list[tuple[str, nn.Module]], found: list[Found], left: list[Left]) -> None:
    start = 0
    while start < len(modules):
        end, linears, relu = _chain_from(modules, start)
        if len(linears) > 1 or (linears and relu):
            names = modules[start][0], modules[end - 1][0]
            parts = tuple(module for _, module in modules[start:end])
            found.append(Found(" to ".join(dict.fromkeys(names)), parts, tuple(linears), relu))
            start = end
            continue
        name, module = modules[start]
        if list(module.children()):
            inner = search(module, name)
            found += inner[0]
            left += inner[1]
        else:
            left.append(Left(name, _reason(module)))
        start += 1


def _chain_from(modules: list[tuple[str, nn.Module]], start: int) -> tuple[int, list[nn.Linear], bool]:
    """Where the chain that begins here ends, its linear layers, and whether a ReLU follows the last."""
    linears: list[nn.Linear] = []
    end, relu = start, True
    for place, (_, module) in enumerate(modules[start:], start):
        if hooked(module):
            break
        if isinstance(module, nn.Linear):
            if not _plain(module) or not relu:
                break
            linears.append(module)
            relu = False
        elif type(module) is nn.ReLU and linears:
            relu = True
        elif not isinstance(module, SILENT) or not linears:
            break
        if not isinstance(module, SILENT):
            end = place + 1
    return end, linears, relu


def hooked(module: nn.Module) -> bool:
    """Whether someone listens to the module's calls."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _sequential(module: nn.Module) -> bool:
    return type(module) is nn.Sequential and not hooked(module)


def _plain(module: nn.Module) -> bool:
    if type(module) is not nn.Linear:
        return False
    return module.weight.dtype == torch.float32 and module.weight.is_cpu and len(module.weight) > 0


def _reason(module: nn.Module) -> str:
    kind = type(module).__name__
    if hooked(module):
        return f"{kind} with hooks"
    if type(module) is nn.Linear:
        if not _plain(module):
            return f"{kind} in {module.weight.dtype} on {module.weight.device}"
        return f"{kind} without a ReLU after or before it"
    return f"{kind} is not known to the engine"
