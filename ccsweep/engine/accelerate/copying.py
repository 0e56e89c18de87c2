"""A copy of a model that shares nothing with it: in eval mode, its parameters frozen, its weights plain."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from ccsweep.errors import UserError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def detached(model: nn.Module) -> nn.Module:
    """A copy of the model, which is not changed.

    A ``forward`` that was set on an instance comes along, and with it what it was closed over. Weights that
    are computed at each call (``torch.nn.utils.prune``, weight and spectral norm) become what they come to.

    Raises:
        UserError: it cannot be copied.
    """
    # A weight that a hook computes anew at each call is no leaf, and such a tensor refuses to be copied.
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    memo: dict[int, Any] = dict(computed)
    try:
        with torch.no_grad():  # a ScriptModule's copy would know what it was copied from
            own = copy.deepcopy(model, memo).eval()
        for module in own.modules():
            for name, value in vars(module).items():
                if isinstance(value, FunctionType):
                    vars(module)[name] = _own_function(value, memo)
            _make_plain(module)
    except Exception as error:  # whatever the user's own classes raise
        raise UserError(
            f"the model cannot be copied ({brief(error)}): copy.deepcopy(model) must work"
        ) from error
    for parameter in own.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return own


def seal(model: nn.Module) -> None:
    """Refuse hooks from now on: a module whose work is done elsewhere would never call them."""
    for module in model.modules():
        for name in HOOKS if not isinstance(module, torch.jit.ScriptModule) else ():
            sealed = _Sealed()
            for key, hook in getattr(module, name).items():
                OrderedDict.__setitem__(sealed, key, hook)
            setattr(module, name, sealed)


def hooked(module: nn.Module) -> bool:
    """Whether someone listens to the module's calls, or its class has a ``__call__`` of its own."""
    own = type(module).__call__ is not nn.Module.__call__ and not isinstance(module, fx.GraphModule)
    return bool(own or module._forward_hooks or module._forward_pre_hooks)


def brief(error: BaseException) -> str:
    """An error of whatever kind, on one line."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class _Sealed(OrderedDict[int, Callable[..., Any]]):
    """Hooks of a module to which none can be added."""

    def __setitem__(self, key: int, value: Callable[..., Any]) -> None:
        raise UserError(
            "a module inside of an accelerated model takes no hooks, its work may be done elsewhere: put "
            "them "
            "on the original and accelerate it again, or on the accelerated model itself"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _sealed, (list(self.items()),)


def _sealed(items: list[tuple[int, Callable[..., Any]]]) -> _Sealed:
    made = _Sealed()
    for key, hook in items:
        OrderedDict.__setitem__(made, key, hook)
    return made


def _own_function(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    """The function closed over copies, if it is closed over anything: ``deepcopy`` hands it on as it is."""

    def own(value: Any) -> Any:
        return _own_function(value, memo) if isinstance(value, FunctionType) else copy.deepcopy(value, memo)

    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults, options = function.__defaults__ or (), function.__kwdefaults__ or {}
    held = [*cells, *defaults, *options.values()]
    copies = [own(value) for value in held]
    if all(one is value for one, value in zip(copies, held, strict=True)):
        return function
    closure = tuple(map(CellType, copies[: len(cells)]))
    given = tuple(copies[len(cells) : len(cells) + len(defaults)])
    made = FunctionType(function.__code__, function.__globals__, function.__name__, given, closure)
    made.__kwdefaults__ = dict(zip(options, copies[len(cells) + len(defaults) :], strict=True))
    return made


def _make_plain(module: nn.Module) -> None:
    if parametrize.is_parametrized(module):
        # The class, which the weights are properties of, is the original's too.
        kind = type(module)
        content = {
            name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")
        }
        module.__class__ = type(kind.__name__, kind.__bases__, content)
        for name in tuple(dict(module.parametrizations.named_children())):  # type: ignore[union-attr]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            with torch.no_grad():
                remove_spectral_norm(module, hook.name)
