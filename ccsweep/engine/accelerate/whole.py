"""The whole model in ONNX Runtime, in float32, at batch sizes where that is faster than the engine."""

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx, nn

from ccsweep.engine import peers, tune
from ccsweep.engine.accelerate.chain import CHOOSING, size_class
from ccsweep.engine.accelerate.copying import brief
from ccsweep.engine.accelerate.tracing.trace import Form
from ccsweep.engine.accelerate.tracing.units import same
from ccsweep.engine.clock import turns
from ccsweep.engine.compiled import Forked, all_finite
from ccsweep.engine.layers import Array

MOST = 2**29
"""Bytes of weights that are held once more."""

log = logging.getLogger("ccsweep.engine")


class Whole:
    """A model of ONNX for calls of one form.

    Args:
        model: it takes the call's tensors in order, as ``x0``, ``x1`` ...
        form: of the calls.
        likes: type and shape but for the first axis of each tensor; others are not taken.
        threads: to use.
    """

    def __init__(
        self, model: bytes, form: Form, likes: Sequence[tuple[torch.dtype, tuple[int, ...]]], threads: int
    ) -> None:
        self.model, self.form, self.likes, self.threads = model, form, likes, threads
        self.faster: dict[int, bool] = {}
        """By size class, whether it is."""
        self._begin()

    def __reduce__(self) -> tuple[Any, ...]:
        return Whole, (self.model, self.form, self.likes, self.threads), {"faster": self.faster}

    def __call__(self, arrays: Sequence[Array]) -> Tensor:
        """What the model gives for a call's tensors."""
        if Forked.here is not self._forked:  # its threads are not there any more
            self._begin()
        return torch.from_numpy(self._run(dict(zip(self._names, arrays, strict=True)))[0])

    def given(self, *arguments: Any, **options: Any) -> Tensor | None:
        """The same for a call; None for one that it does not take."""
        tensors = self.form.tensors(arguments, options)
        arrays = self._arrays(tensors) if tensors else None
        return None if arrays is None else self(arrays)

    def answer(self, run: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What ``run``, the model with the engine in it, or this gives, whichever is faster at this size."""
        tensors = self.form.tensors(arguments, options)
        size = size_class(len(tensors[0])) if tensors and tensors[0].dim() else 0
        faster = self.faster.get(size)
        if tensors is None or faster is False or (arrays := self._arrays(tensors)) is None:
            return run(*arguments, **options)
        if faster is None:
            run(*arguments, **options)  # chooses its own plans first
            with CHOOSING:
                runs = {True: lambda: self(arrays), False: lambda: run(*arguments, **options)}
                timed = turns(runs, tune.SECONDS)
                took = {name: median(one for turn in timed for one in turn[name]) for name in runs}
            faster = self.faster[size] = took[True] * tune.MARGIN < took[False]
            log.info("batches of up to %d: %s", size, "ONNX Runtime" if faster else "the engine")
        if not faster:
            return run(*arguments, **options)
        try:
            return self(arrays)
        except Exception:  # what it refuses the model itself does, in its own words
            return run(*arguments, **options)

    def _arrays(self, tensors: Sequence[Tensor]) -> list[Array] | None:
        """The call's, where it gives the right answer to it; to ask torch takes 9 us for one sample."""
        try:
            arrays: list[Array] = [tensor.numpy() for tensor in tensors]
        except (RuntimeError, TypeError):  # with gradients, on another device, or sparse
            return None
        first = arrays[0].shape[:1]
        for tensor, array, (dtype, shape) in zip(tensors, arrays, self.likes, strict=True):
            if tensor.dtype is not dtype or array.shape != first + shape:
                return None
            # It would take NaN for 0 in places, and count from the end where an index is negative.
            if not (all_finite(tensor, array) if dtype.is_floating_point else (array >= 0).all()):
                return None
        return arrays if first and first[0] else None

    def _begin(self) -> None:
        self._forked = Forked.here
        self._run = peers.direct(self.model, 1 if Forked.here else self.threads)
        self._names = [f"x{k}" for k in range(len(self.likes))]


def exported(
    graph: fx.GraphModule, form: Form, examples: Sequence[tuple[list[Tensor], Any]], threads: int
) -> Whole | None:
    """The graph in ONNX Runtime, where that can be had and gives what the graph gives, but for rounding.

    Args:
        graph: of a model, without chains; it takes a list of tensors.
        form: of its calls.
        examples: tensors of calls, and what came out; the first with several samples.
        threads: to use.
    """
    tensors, output = examples[0]
    known = all(
        type(graph.get_submodule(str(node.target))).__module__.startswith("torch.nn.")
        for node in graph.graph.nodes
        if node.op == "call_module"
    )
    weights = sum(part.nbytes for part in graph.parameters())
    if not known or not isinstance(output, Tensor) or weights > MOST or not all(map(Tensor.dim, tensors)):
        return None
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        return None
    try:
        likes = [(tensor.dtype, tuple(tensor.shape[1:])) for tensor in tensors]
        found = Whole(_onnx(_Flat(graph), tensors), form, likes, threads)
        good = all(same(found([part.numpy() for part in given]), expected) for given, expected in examples)
    except Exception as error:  # of many kinds: not everything can be exported
        log.debug("not exported to ONNX: %s", brief(error))
        return None
    return found if good else None


class _Flat(nn.Module):
    """A graph that takes its tensors one by one."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, *tensors: Tensor) -> Tensor:
        output: Tensor = self.graph.forward(list(tensors))
        return output


def _onnx(model: nn.Module, tensors: Sequence[Tensor]) -> bytes:
    written, names = io.BytesIO(), [f"x{k}" for k in range(len(tensors))]
    fast, said = torch.backends.mha.get_fastpath_enabled(), torch._C._jit_onnx_log
    torch.backends.mha.set_fastpath_enabled(False)  # ONNX knows no such operator
    # A graph that cannot be exported would be printed whole: torch's own switch leaves that on.
    torch._C._jit_onnx_log = lambda *words: None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # this exporter is the older one, which needs no more packages
            torch.onnx.export(
                model.eval(),
                tuple(tensors),
                written,  # type: ignore[arg-type]
                input_names=names,
                output_names=["outputs"],
                dynamic_axes={name: {0: "batch"} for name in [*names, "outputs"]},
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._jit_onnx_log = said
    return written.getvalue()
