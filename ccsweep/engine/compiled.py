"""A compiled network: a callable that maps inputs to logits by a fixed way for each layer."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine import peers
from ccsweep.engine.layers import Array
from ccsweep.engine.layout import Dense, Layout
from ccsweep.engine.plan import Plan
from ccsweep.engine.ways import BFLOAT16, MASKED, MIXED, ONNX, kind, library, runs
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE
from ccsweep.kernels import skipping
from ccsweep.kernels.compiling import announced
from ccsweep.kernels.memory import TILE
from ccsweep.kernels.table import LAYER

# Samples from which on torch computes x U.
PROJECTED = 16
NOT_PROJECTED = np.empty((0, 0), np.float32)
FLOAT32 = np.dtype(np.float32)
ALONE = 10_000  # numbers up to which OpenBLAS multiplies with one thread


class Skipping:
    """Consecutive layers that skip work: one compiled call, or one for each thread's share of the rows.

    Args:
        layout: the weights.
        first: the first layer's number.
        ways: of these layers, none dense.
        threads: at most so many work at a time.
        shared_from: samples from which more than one thread does.
        together: samples that go through a layer together; by default :func:`samples_together`.
    """

    def __init__(
        self,
        layout: Layout,
        first: int,
        ways: Sequence[str],
        threads: int = 1,
        shared_from: int = 2,
        together: int | None = None,
    ) -> None:
        layers = layout.layers[first : first + len(ways)]
        self._layout = layout  # the table holds addresses into it
        self._first, self._ways = first, ways
        self._table = layout.table(first, ways)
        self._units, self._together = layers[-1].units, together or samples_together(ways)
        widest = max(max(layer.inputs, layer.units) for layer in layers)
        self._numbers = np.arange(widest + 2 * TILE, dtype=np.int32)
        self._threads, self._shared_from = threads, shared_from
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        # With all inputs in use, x U is a dense product: for a batch torch is the faster one at it.
        self._u = torch.from_numpy(layout.u(first)) if ways[0] in (GATED, GATED + MIXED) else None

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy must not hold addresses into the original's layout.
        given = self._layout, self._first, self._ways, self._threads, self._shared_from, self._together
        return Skipping, given

    def __call__(self, x: Tensor) -> tuple[Tensor, bool]:
        """Outputs (batch, units) of x (batch, in_features), and whether x was finite."""
        out = np.empty((x.size(0), self._units), np.float32)
        finite = self.fill(x.numpy(), out)
        return torch.from_numpy(out), finite

    def fill(self, rows: Array, out: Array) -> bool:
        """The same on arrays, written to ``out``; whether all rows were finite."""
        batch = len(rows)
        if batch == 1:  # a few microseconds in all: every line here would count
            return skipping.run(rows, NOT_PROJECTED, self._numbers, self._table, self._together, out)
        if self._u is not None and batch >= PROJECTED:
            with torch_threads(self._threads):
                projected = torch.mm(torch.from_numpy(rows), self._u).numpy()
        else:
            projected = NOT_PROJECTED
        if self._threads == 1 or batch < self._shared_from:
            return self._run(rows, projected, out)
        share = -(-batch // self._threads)
        first, *rest = (slice(start, start + share) for start in range(0, batch, share))
        others = [self._workers().submit(self._run, rows[part], projected[part], out[part]) for part in rest]
        own = self._run(rows[first], projected[first], out[first])
        return all([own, *(other.result() for other in others)])

    def _workers(self) -> ThreadPoolExecutor:
        """The other threads, of this process: a forked one inherits the pool, but nobody in it."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(self._threads - 1)
        return self._pool[1]

    def _run(self, rows: Array, projected: Array, out: Array) -> bool:
        return skipping.run(rows, projected, self._numbers, self._table, self._together, out)


def samples_together(ways: Sequence[str]) -> int:
    """Samples that go through layers run in these ways together."""
    has_lists = any(kind(way) not in (DENSE, MASKED) for way in ways)
    return skipping.SAMPLES if has_lists else skipping.DENSE_SAMPLES


class Library:
    """Consecutive layers that torch runs in bfloat16, or ONNX Runtime.

    Args:
        layout: the weights.
        first: the first layer's number.
        ways: of these layers, all of one library.
        threads: to use.

    Raises:
        UnavailableError: it is not installed.
    """

    def __init__(self, layout: Layout, first: int, ways: Sequence[str], threads: int) -> None:
        self._forked, self._threads = Forked.here, threads
        self._run: Any
        self._model: peers.Model | None = None
        if library(ways[0]) == BFLOAT16:
            layers = layout.part(first, ways)
            self._run = peers.bfloat16(layers)
            self.bytes = sum(2 * (layer.inputs + 1) * layer.units for layer in layers)
        else:
            model = self._model = layout.onnx(first, ways)
            self._run, self.bytes = peers.direct(model, threads), len(model)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (batch, units), float32, of x (batch, in_features)."""
        if self._model is not None:
            return self.of(x.numpy())
        with torch_threads(self._threads):
            return self._run(x).float()

    def of(self, rows: Array) -> Tensor:
        """The same by ONNX Runtime, of an array."""
        if self._model is not None and Forked.here is not self._forked:  # its threads are not there any more
            self._forked = Forked.here
            self._run = peers.direct(self._model, 1)
        return torch.from_numpy(self._run({"x": rows})[0])


class Compiled:
    """Layers with their ways, ready to run.

    Runs of layers that skip work are one compiled call, dense layers are torch's or another library's. A
    row that holds NaN or infinity is computed dense, and gives what dense gives. With several threads each
    takes its share of the rows, so one row alone is computed by one thread.

    Args:
        layout: the weights.
        ways: one of ``WAYS`` for each layer.
        threads: at most so many work at a time.
        shared_from: samples from which more than one thread does, where layers skip work.
    """

    plan: Plan | None = None
    """How the ways were found, where they were timed."""

    def __init__(self, layout: Layout, ways: Sequence[str], threads: int = 1, shared_from: int = 2) -> None:
        self.layout, self.ways, self.threads = layout, tuple(ways), threads
        self.shared_from = shared_from
        self.inputs, self._units = layout.layers[0].inputs, layout.layers[-1].units
        self._dense = [layout.dense(k) for k in range(len(self.ways))]
        self.rounded = not {*self.ways} <= {DENSE, INPUT_SPARSE, DENSE + ONNX}
        """Whether answers may differ from those of all products in float32."""
        # What is not finite would not come through a gate, nor through bytes.
        self._careful = not {*self.ways} <= {DENSE, INPUT_SPARSE}
        self._stages: list[list[Dense] | Skipping | Library] = []
        for first, run in runs(self.ways):
            if run[0] == DENSE:
                self._stages.append(self._dense[first : first + len(run)])
            elif library(run[0]):
                self._stages.append(Library(layout, first, run, threads))
            else:
                self._stages.append(Skipping(layout, first, run, threads, shared_from))
        only = self._stages[0] if len(self._stages) == 1 else None
        self._only = only if isinstance(only, Skipping) else None
        self._library = only if isinstance(only, Library) and library(self.ways[0]) != BFLOAT16 else None

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.layout, self.ways, self.threads, self.shared_from), {"plan": self.plan}

    @property
    def bytes(self) -> int:
        """Memory held."""
        return self.layout.bytes + sum(stage.bytes for stage in self._stages if isinstance(stage, Library))

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (batch, classes), float32, of x (batch, in_features); no gradients are kept.

        Raises:
            UserError: x is no CPU tensor of floats of this shape.
        """
        rows = None if self._only is None else ready(x, self.inputs)
        if self._only is not None and rows is not None:
            filled = np.empty((len(rows), self._units), np.float32)
            out, finite = torch.from_numpy(filled), self._only.fill(rows, filled)
        elif self._library is not None and (rows := ready(x, self.inputs)) is not None:
            out, finite = self._library.of(rows), all_finite(x, rows)
        else:
            x = accepted(x, self.inputs)
            out, finite = self._run(x)
        if finite or not self._careful:
            return out
        good = x.isfinite().all(1)
        mixed = run_dense(self._dense, x)
        mixed[good] = self._run(x[good])[0]
        return mixed

    def run(self, x: Array, out: Array) -> Array:
        """Logits of x (batch, in_features) into out (batch, classes), which is returned.

        Both are float32 arrays in one piece, which are used as they are: for one sample this saves Python
        about as much time as a small network takes.

        Raises:
            UserError: another kind of array, or another shape.
        """
        wanted = ((len(x), self.inputs), (len(x), self._units)) if len(x.shape) == 2 else ()
        flags = x.flags, out.flags
        if (x.shape, out.shape) != wanted or not flags[0].c_contiguous or not flags[1].carray:
            raise UserError(
                f"run got arrays of shapes {x.shape} and {out.shape}: expected (batch, {self.inputs}) and "
                f"(batch, {self._units}) in one piece; np.ascontiguousarray makes one"
            )
        if x.dtype != np.float32 or out.dtype != np.float32:
            raise UserError(f"run got {x.dtype} and {out.dtype}: expected float32, use x.astype(np.float32)")
        if self._only is None or not (self._only.fill(x, out) or not self._careful):
            out[:] = self(torch.from_numpy(x)).numpy()
        return out

    def _run(self, x: Tensor) -> tuple[Tensor, bool]:
        """Logits, and whether all inputs were finite, as far as that matters."""
        # A sum is quicker than a look at each number; one that overflows is finite after all.
        finite = not self._careful or isinstance(self._stages[0], Skipping) or isfinite(x.sum().item())
        for stage in self._stages:
            if isinstance(stage, Skipping):
                x, same = stage(x)
                finite = finite and (same or not self._careful)
            elif isinstance(stage, Library):
                x = stage(x)
            else:
                with torch_threads(self.threads):
                    x = run_dense(stage, x)
        return x, finite


def ready(x: Tensor, inputs: int) -> Array | None:
    """The array of a tensor that the kernels can read as it is; None of another.

    For one sample a call into torch costs more than a line of Python, and NumPy's array knows the rest.
    """
    try:
        rows: Array = x.numpy()  # refused on another device, with gradients, or in bfloat16
    except (AttributeError, RuntimeError, TypeError):
        return None
    fits = rows.dtype is FLOAT32 and rows.ndim == 2 and rows.shape[1] == inputs and rows.flags.c_contiguous
    return rows if fits else None


def all_finite(x: Tensor, array: Array) -> bool:
    """Whether a tensor's numbers are, of which the array is a view; False too where a sum of them overflows.

    A product takes 1 us less than torch's sum; of many numbers NumPy would start threads for it.
    """
    return isfinite(np.vdot(array, array) if array.size <= ALONE else x.sum().item())


def accepted(x: Tensor, inputs: int) -> Tensor:
    """x as contiguous float32 without gradients; the same tensor where it is that already.

    Raises:
        UserError: another shape or device, or no floats.
    """
    if not isinstance(x, Tensor) or x.dim() != 2 or x.size(1) != inputs:
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"the engine got {found}: expected a tensor of shape (batch, {inputs})")
    if not x.is_cpu:
        raise UserError(f"the engine got a tensor on {x.device}: it runs on the CPU, use x.cpu()")
    if not x.is_floating_point():
        raise UserError(f"the engine got {x.dtype}: expected floating point, use x.float()")
    if x.dtype is torch.float32 and x.is_contiguous() and not x.requires_grad:
        return x  # asking costs less than converting to what it is already
    return x.detach().to(torch.float32).contiguous()


def run_dense(layers: Sequence[Dense], x: Tensor) -> Tensor:
    """All units of each layer, by torch."""
    for layer in layers:
        x = torch.addmm(layer.bias, x, layer.transposed)
        if layer.relu:
            x.relu_()
    return x


@contextmanager
def torch_threads(wanted: int) -> Iterator[None]:
    """Torch with so many threads, which is a setting of the whole process; with one in a forked process.

    OpenMP's threads, which torch computes with, are not there any more after a fork, and are waited for.
    """
    wanted = 1 if Forked.here else wanted
    before = torch.get_num_threads()
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Forked:
    """Whether this process was forked from one that had this module already."""

    here = False

    @classmethod
    def note(cls) -> None:
        """It was."""
        cls.here = True


os.register_at_fork(after_in_child=Forked.note)


def warm_up() -> None:
    """Have the kernels ready: from the cache on disk, or compiled, which is logged."""
    with announced(skipping.run):
        x, numbers = np.zeros((1, 1), np.float32), np.zeros(1, np.int32)
        skipping.run(x[:0], x[:0], numbers, np.zeros(1, LAYER).view(np.int64), 1, x[:0])
