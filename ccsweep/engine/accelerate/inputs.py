"""Calibration inputs, in whatever container they come: a model's arguments, many samples of them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree
from torch.utils.data import DataLoader, Dataset

from ccsweep.engine.accelerate.copying import brief
from ccsweep.errors import UserError

MOST = 2**30
"""Bytes taken of a loader, which may hold more than the memory."""
BATCH = 256
"""Samples at a time through the model."""
EXPECTED = (
    "expected a tensor or array (samples, ...), a tuple of them for several inputs, a dict of them by name, "
    "or a loader of batches"
)


class Samples:
    """Arguments of many calls, one sample after the other along the first axis of each tensor.

    Args:
        arguments: positional; nested containers, whose tensors have the samples on their first axis.
        options: by keyword, likewise.

    Raises:
        UserError: no tensors, of several lengths, or fewer than four samples.
    """

    def __init__(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._leaves, self._spec = tree.tree_flatten((arguments, options))
        lengths = {len(leaf) for leaf in self._leaves if holds_samples(leaf)}
        if not lengths:
            raise UserError(f"calibration_inputs hold no tensor: {EXPECTED}")
        if len(lengths) > 1:
            found = " and ".join(map(str, sorted(lengths)))
            raise UserError(
                f"calibration_inputs hold tensors of {found} samples: expected as many in each; a tuple is "
                "taken as "
                "several inputs"
            )
        (self.count,) = lengths
        if self.count < 4:
            raise UserError(f"calibration_inputs hold {self.count} samples: expected 4 or more")

    def __getitem__(self, chosen: Tensor | slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and options of a call with some of the samples."""
        leaves = [leaf[chosen] if holds_samples(leaf) else leaf for leaf in self._leaves]
        arguments, options = tree.tree_unflatten(leaves, self._spec)
        return arguments, options

    def features(self) -> list[int]:
        """Numbers in a sample of each tensor."""
        return [leaf[:1].numel() for leaf in self._leaves if holds_samples(leaf)]


def rows_of(call: Any, rows: Tensor) -> Any:
    """Arguments and options of a call with these samples alone."""
    return tree.tree_map_only(Tensor, lambda part: part[rows] if holds_samples(part) else part, call)


def samples(given: Any, model: nn.Module) -> Samples:
    """What the user handed over as the model's arguments; NumPy's float64 becomes float32.

    A tensor or an array is one input, a tuple several, a mapping several by name. A list, a loader or any
    other iterable gives batches; of a batch's parts as many are taken as the model requires, for the rest
    are labels.

    Args:
        given: by the user.
        model: whose arguments they are.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(given, Dataset) and not isinstance(given, Iterable):
        given = DataLoader(given, BATCH)
    if isinstance(given, Tensor) or hasattr(given, "__array__"):
        return Samples((_tensor(given),), {})
    if isinstance(given, tuple):
        return Samples(tuple(map(_tensors, given)), {})
    if isinstance(given, Mapping):
        return Samples(*_mapped(given, model))
    if isinstance(given, Dataset):
        given = DataLoader(given, BATCH)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        return _joined(given, model)
    raise UserError(f"calibration_inputs are of type {type(given).__name__}: {EXPECTED}")


def _joined(batches: Iterable[Any], model: nn.Module) -> Samples:
    """All batches in one, as far as memory allows."""
    leaves: list[list[Any]] = []
    spec, held = None, 0
    for batch in _each(batches):
        flat, form = tree.tree_flatten(_call(batch, model))
        if spec is None:
            spec, leaves = form, [[] for _ in flat]
        shapes = [leaf.shape[1:] if holds_samples(leaf) else None for leaf in flat]
        if form != spec or any(
            one and one[0].shape[1:] != shape
            for one, shape in zip(leaves, shapes, strict=True)
            if shape is not None
        ):
            raise UserError(
                "calibration_inputs: a list is taken as batches, and these are of different shapes; "
                "expected a tuple "
                "for several inputs, torch.stack(list) for samples"
            )
        for one, leaf in zip(leaves, flat, strict=True):
            one.append(leaf)
        held += sum(leaf.nbytes for leaf in flat if isinstance(leaf, Tensor))
        if held >= MOST:
            break
    if spec is None:
        raise UserError(f"calibration_inputs hold no batches: {EXPECTED}")
    whole = [torch.cat(one) if holds_samples(one[0]) else one[0] for one in leaves]
    return Samples(*tree.tree_unflatten(whole, spec))


def _each(batches: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except Exception as error:  # the user's own loader
        raise UserError(f"calibration_inputs: the loader fails ({brief(error)})") from error


def _call(batch: Any, model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return _mapped(batch, model)
    if isinstance(batch, tuple | list):
        return tuple(map(_tensors, batch[: _required(model.forward, len(batch))])), {}
    return (_tensor(batch),), {}


def _mapped(batch: Mapping[Any, Any], model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Options by name, where the model has arguments of these names; else one argument."""
    named = {key: _tensors(value) for key, value in batch.items()}
    try:
        inspect.signature(model.forward).bind(**named)
    except TypeError:
        return (named,), {}
    return (), named


def _required(forward: Callable[..., Any], most: int) -> int:
    """How many positional arguments must be given, of at most so many that could be."""
    known = inspect.signature(forward).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in known):
        return most
    wanted = [one for one in known if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return max(1, sum(one.default is one.empty for one in wanted))


def _tensors(given: Any) -> Any:
    """Nested containers with tensors in place of arrays; what is no array is the same for all samples."""
    return tree.tree_map(lambda leaf: _tensor(leaf) if hasattr(leaf, "__array__") else leaf, given)


def _tensor(given: Any) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach().cpu()
    if isinstance(given, Mapping | Sequence | str | int | float) or not hasattr(given, "__array__"):
        raise UserError(f"calibration_inputs hold {type(given).__name__}: {EXPECTED}")
    array = np.asarray(given)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except TypeError as error:
        raise UserError(f"calibration_inputs hold an array of {array.dtype}: expected numbers") from error


def holds_samples(leaf: Any) -> bool:
    """Whether it is a tensor with the samples on its first axis."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0
