"""``data=arrays``: one's own data, from a file (``data.file``) or a function (``data.loader``).

Classes and features are what is there. Where no splits are given, of ten rows of a class in their order two
are for testing and one is for validation: no seed, and rows added later change no earlier one's part.
"""

import hashlib
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb

import numpy as np
import torch

from ccsweep.data.dataset import Dataset, Request, Scaling, Split, digest
from ccsweep.data.own.reading import Arrays, from_mapping, read
from ccsweep.errors import UserError, first_line

CYCLE = ("train", "train", "test", "train", "validation", "train", "train", "test", "train", "train")
"""Where the rows of a class go, over and over; of groups, whole ones."""
ENTRY_POINTS = "ccsweep.data"
"""The group in which an installed package may name its loader."""


def load(request: Request) -> Dataset:
    """The data of ``request.file`` or of ``request.loader``.

    Raises:
        UserError: a file or an array that is not right; one line naming it.
    """
    if request.loader is not None:
        of = f"data.loader={request.loader}"
        found = _loaded(request, of)
        if isinstance(found, Dataset):
            return found
        name = (
            request.loader.replace(":", ".").rpartition(".")[2]
            if request.file is None
            else _stem(request.file)
        )
    else:
        assert request.file is not None  # data.check
        of, name = f"data.file={request.file}", _stem(request.file)
        found = read(Path(request.file).expanduser(), request.label, request.group, request.split)
    return dataset(found, name, of, request)


def dataset(arrays: Arrays, name: str, of: str, request: Request) -> Dataset:
    """Arrays as a data set: checked, split, scaled.

    Args:
        arrays: as they were read.
        name: of the data set.
        of: what an error calls it.
        request: says how to scale, and how many training rows there may be.
    """
    inputs = _inputs(arrays.inputs, of, arrays.columns)
    labels, classes = _labels(arrays.labels, of)
    if len(inputs) != len(labels):
        raise UserError(f"{of}: inputs {inputs.shape} and labels {labels.shape}; expected as many of both")
    parts = arrays.parts
    groups = None if arrays.groups is None else _groups(arrays.groups, len(labels), of)
    if parts is None:
        parts = split(labels, groups)
    elif len(parts) != len(labels):
        raise UserError(f"{of}: {len(parts):,} splits for {len(labels):,} rows; expected one for each")
    elif "validation" not in parts and "train" in parts:  # some of the training rows are held back
        rows = np.flatnonzero(parts == "train")
        parts = parts.astype("U10")
        parts[rows[split(labels[rows], None if groups is None else groups[rows]) == "validation"]] = (
            "validation"
        )
    splits = {
        part: Split.from_numpy(inputs[parts == part], labels[parts == part])
        for part in ("train", "validation", "test")
    }
    train = splits["train"].first(request.samples)
    scaling = _scaling(train, request.scale)
    content = hashlib.sha256()
    for array in (np.ascontiguousarray(inputs), labels, parts.astype("S10")):
        content.update(array.tobytes())
    return Dataset(
        name=name,
        label=name,
        shape=inputs.shape[1:],
        classes=len(classes),
        train=scaling.of(train) if scaling else train,
        validation=scaling.of(splits["validation"]) if scaling else splits["validation"],
        test=scaling.of(splits["test"]) if scaling else splits["test"],
        digest=digest(content=content.hexdigest(), scale=request.scale, samples=request.samples),
        class_names=classes,
        scaling=scaling,
    )


def split(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """``train``, ``validation`` or ``test`` for each row, by the rule above; the same rows, the same parts.

    Args:
        labels: int (rows,).
        groups: (rows,); what has the same one stays together, and counts as a row of its commonest class.
    """
    if groups is None:
        unit, of_unit = np.arange(len(labels)), labels
    else:
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        unit = np.argsort(np.argsort(first))[unit]  # numbered as they come
        of_unit = np.array([np.bincount(labels[unit == u]).argmax() for u in range(len(first))])
    place = np.empty(len(of_unit), dtype=int)
    for label in np.unique(of_unit):
        rows = np.flatnonzero(of_unit == label)
        place[rows] = np.arange(len(rows))
    return np.array(CYCLE)[place % len(CYCLE)][unit]


def _stem(file: str) -> str:
    return Path(file).expanduser().absolute().stem


def _loaded(request: Request, of: str) -> Arrays | Dataset:
    """What the function of ``data.loader`` returns, called with the request."""
    assert request.loader is not None
    place = request.loader
    if ":" not in place:
        known = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
        if place not in known:
            shown = ", ".join(sorted(known)) or "none"
            raise UserError(
                f"{of}: expected module:function, or the name of an entry point in the group {ENTRY_POINTS} "
                f"(installed: {shown})"
            )
        place = known[place]
    module, _, function = place.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m has it; the command ccsweep has not
        sys.path.insert(0, here)
    try:
        loader = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{of}: cannot be imported ({error}); expected module:function, in {here} or installed"
        ) from error
    try:
        found = loader(request)
    except UserError:
        raise
    except Exception as error:
        frame = extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{of}: failed in {frame.filename}:{frame.lineno} ({reason}); mend it") from error
    if isinstance(found, Dataset):
        return found
    if isinstance(found, Mapping):
        return from_mapping(found, of, request.label, request.group, request.split)
    if isinstance(found, tuple) and len(found) == 2:
        return Arrays(np.asarray(found[0]), np.asarray(found[1]))
    raise UserError(
        f"{of}: returned {type(found).__name__}; expected (X, y), a dict of arrays with the keys of an .npz, "
        "or a ccsweep.data.dataset.Dataset"
    )


def _inputs(inputs: np.ndarray, of: str, columns: list[str]) -> np.ndarray:
    """float32 (rows, ...), all of it finite."""
    if inputs.ndim < 2 or 0 in inputs.shape[1:]:
        raise UserError(
            f"{of}: inputs have the shape {inputs.shape}; expected (rows, features) or (rows, height, width)"
        )
    if inputs.dtype.kind not in "biuf":
        raise UserError(f"{of}: inputs are {inputs.dtype}; expected numbers")
    with np.errstate(over="ignore"):
        inputs = inputs.astype(np.float32)
    finite = np.isfinite(inputs)
    if not finite.all():
        row, *place = np.argwhere(~finite)[0].tolist()
        where = columns[place[0]] if columns else ", ".join(map(str, place))
        raise UserError(
            f"{of}: input {where} of row {row + 1} is no finite 32-bit number; fill it in, or leave it out"
        )
    return inputs


def _labels(labels: np.ndarray, of: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint64 indices (rows,) into the sorted classes, and what these are called."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(f"{of}: labels have the shape {labels.shape}; expected one a row, (rows,)")
    if labels.dtype.kind == "O" or labels.dtype.kind not in "biufUS":  # a table's: text, or with gaps
        if any(value is None or value != value for value in labels):
            _refuse_label(labels, [value is None or value != value for value in labels], of)
        labels = np.array([str(value) if isinstance(value, str) else value for value in labels])
    if labels.dtype.kind == "f":
        odd = ~(np.isfinite(labels) & (labels == np.floor(labels)))
        if odd.any():
            _refuse_label(labels, odd, of)
        labels = labels.astype(np.int64)
    names, indices = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        found = f"only the class {names[0]}" if len(names) else "no rows"
        raise UserError(f"{of}: has {found}; expected at least 2 classes")
    if len(names) > len(labels) / 2:
        raise UserError(
            f"{of}: {len(names):,} classes in {len(labels):,} rows; "
            "expected labels that repeat, and no quantity"
        )
    return indices.astype(np.int64), tuple(map(str, names.tolist()))


def _refuse_label(labels: np.ndarray, odd: "np.ndarray | list[bool]", of: str) -> None:
    row = int(np.argmax(odd))
    raise UserError(
        f"{of}: the label of row {row + 1} is {labels[row]}; expected a whole number, or a word, in every row"
    )


def _groups(groups: np.ndarray, rows: int, of: str) -> np.ndarray:
    if groups.shape != (rows,):
        raise UserError(f"{of}: groups have the shape {groups.shape}; expected one a row, ({rows},)")
    return groups.astype(str)


def _scaling(train: Split, how: str | None) -> Scaling | None:
    """What is taken from each input and what it is divided by, from training rows alone."""
    images = train.images.double()
    if how == "none" or not len(images):
        return None
    if how == "max":
        most = float(images.abs().max()) or 1.0
        return Scaling(torch.zeros(images.shape[1]), torch.full((images.shape[1],), most))
    deviation = images.std(dim=0, correction=0)
    deviation[deviation < 1e-6 * images.abs().amax(dim=0).clamp(min=1e-30)] = 1.0  # a constant stays 0
    return Scaling(images.mean(dim=0).float(), deviation.float())
