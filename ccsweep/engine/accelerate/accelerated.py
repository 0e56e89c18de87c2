"""A model that only predicts, called like the original: what it cannot do it refuses in one line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from ccsweep.engine.accelerate import saved
from ccsweep.engine.accelerate.chain import Chain
from ccsweep.engine.accelerate.close import Close
from ccsweep.engine.accelerate.copying import hooked, seal
from ccsweep.engine.accelerate.report import Report
from ccsweep.engine.accelerate.whole import Whole
from ccsweep.engine.compiled import Forked, torch_threads
from ccsweep.engine.plan import Plan
from ccsweep.errors import UserError

AGAIN = "change the original and accelerate it again"


class Accelerated(nn.Module):
    """A copy of a model whose chains run in the engine; its weights are fixed, its answers float32.

    Attributes and methods of the model are the copy's.

    Args:
        model: a copy, with ``chains`` in it.
        chains: all of them.
        report: what was done.
        close: which answers are computed again, exactly; None: none.
        whole: the model in ONNX Runtime, for where that is faster; None: it is not to be had.
    """

    def __init__(
        self,
        model: nn.Module,
        chains: Sequence[Chain],
        report: Report,
        close: Close | None = None,
        whole: Whole | None = None,
    ) -> None:
        super().__init__()
        seal(model)
        # Past __setattr__: from here on what is set is refused where the model has it.
        vars(self)["report"] = report
        vars(self)["chains"] = tuple(chains)
        vars(self)["hooked"] = hooked(model)
        vars(self).update(close=close, whole=whole)
        self._modules["model"] = model
        self.training = False

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """What the original gives in eval mode, without gradients; in autocast too it is float32.

        Raises:
            UserError: inputs that are not float32 on the CPU reach a chain; it is being traced or exported.
        """
        if torch.jit.is_tracing():
            self._refuse(
                "cannot be traced: a trace would record one answer; save it with save(path) or torch.save"
            )
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting():
                self._refuse(
                    "cannot be exported: the engine is no graph; save it with save(path) or torch.save"
                )
            return _uncompiled(self, arguments, options)
        if Forked.here:
            with torch_threads(1):
                return self._answer(arguments, options)
        return self._answer(arguments, options)

    def _answer(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # At batch 1 a network may take 20 us: so no context manager, no search for attributes, no second
        # round of what Module.__call__ does.
        model = self.__dict__["_modules"]["model"]
        run = model if self.hooked else model.forward
        graded = torch.is_grad_enabled()
        if graded:
            torch.set_grad_enabled(False)
        try:
            if not torch.is_autocast_enabled("cpu"):
                if self.close is self.whole is None:
                    return run(*arguments, **options)
                return self._chosen(run, arguments, options)
            arguments, options = tree.tree_map_only(Tensor, _wide, (arguments, options))
            with torch.autocast("cpu", enabled=False):
                return self._answer(arguments, options)
        finally:
            if graded:
                torch.set_grad_enabled(True)

    def _chosen(self, run: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.whole is None:
            return self.close.answer(run, arguments, options)
        return self.whole.answer(self.close.careful(run) if self.close else run, arguments, options)

    def save(self, path: str | Path) -> None:
        """Write it to a file of tensors and plain data, which ``ccsweep.load`` opens on any machine.

        Attributes and methods of the user's class do not come along, for they are code.

        Raises:
            UserError: its forward is not made of torch's own operations and modules.
        """
        saved.write(self.model, self.report, self.close, self.whole, path)

    @property
    def plans(self) -> list[Plan]:
        """All plans made so far."""
        return [compiled.plan for one in self.chains for compiled in one.compiled.values() if compiled.plan]

    def train(self, mode: bool = True) -> "Accelerated":
        """Refused: the engine holds copies of the weights."""
        if mode:
            raise UserError("an accelerated model only predicts: train the original and accelerate it again")
        return self

    def load_state_dict(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refused: the weights are laid out for the engine."""
        self._refuse(
            f"takes no other weights: load them into the original, and {AGAIN.partition(' and ')[2]}"
        )

    def requires_grad_(self, requires_grad: bool = True) -> "Accelerated":
        """Refused but for False, which holds already."""
        if requires_grad:
            self._refuse(f"has no gradients: {AGAIN}")
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Accelerated":
        """What ``to``, ``double``, ``cuda`` and their like call: nothing to do, or refused."""
        probe = torch.zeros(1)
        changed = fn(probe)
        if changed.dtype != probe.dtype or changed.device != probe.device:
            self._refuse(
                f"computes in float32 on the CPU, and cannot be cast to {changed.dtype} on {changed.device}"
            )
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        self._refuse("cannot be scripted: save it with save(path) or torch.save")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            model = vars(self).get("_modules", {}).get("model")
            if model is None or name.startswith("__"):
                raise
            return getattr(model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        model = vars(self).get("_modules", {}).get("model")
        if model is not None and name not in vars(self) and hasattr(model, name):
            self._refuse(f"is fixed, and would not heed another {name}: {AGAIN}")
        super().__setattr__(name, value)

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"an accelerated model {what}")


def _uncompiled(model: Accelerated, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What ``torch.compile`` is to call rather than to look into."""
    return torch.compiler.disable(model.forward)(*arguments, **options)


_uncompiled._torchdynamo_disable = True  # type: ignore[attr-defined]  # as the decorator, which takes a second to import


def load(path: str | Path) -> Accelerated:
    """Open what :meth:`Accelerated.save` wrote, on any machine.

    Plans are made anew where the CPU is another one. Nothing in the file is executed but torch's operators.

    Raises:
        UserError: it is no such file.
    """
    return Accelerated(*saved.read(path))


def _wide(x: Tensor) -> Tensor:
    """In autocast what comes from other layers is narrow, and the original would take it."""
    return x.float() if x.is_floating_point() else x
