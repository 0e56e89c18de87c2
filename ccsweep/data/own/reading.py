"""One's own files as arrays: .npz, a pair of .npy, tables with a column of labels, folders of images.

Nothing is guessed that could be wrong in silence: what is not one row of finite numbers a sample, with one
label each, is refused in one line that names the file and the place in it.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ccsweep.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

INPUTS = ("x", "images", "image", "data", "inputs")
LABELS = ("y", "labels", "label", "target", "targets")
PARTS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".webp"}
KINDS = ".npz, .npy, .csv, .parquet, or a folder with a subfolder of images for each class"


@dataclass
class Arrays:
    """What a file holds, not looked at yet."""

    inputs: np.ndarray
    """(samples, ...)."""
    labels: np.ndarray
    """(samples,), of any kind."""
    groups: np.ndarray | None = None
    """(samples,): what has the same one stays together."""
    parts: np.ndarray | None = None
    """(samples,) of ``train``, ``validation`` and ``test``; None: by rule."""
    columns: list[str] = field(default_factory=list)
    """Names of the inputs, of a table."""


def read(path: Path, label: str | None, group: str | None, split: str | None) -> Arrays:
    """The arrays of a file or of a folder of images.

    Args:
        path: what ``data.file`` names.
        label: a column, a key of an .npz, or beside an .npy the file with the labels; None: the usual names.
        group: a column or a key; None: each sample is on its own.
        split: a column or a key of ``train``, ``validation`` and ``test``; None: as the keys of an .npz or
            the folders say, else by rule.

    Raises:
        UserError: the file is missing, damaged, of an unknown kind, or lacks what is asked for.
    """
    if path.is_dir():
        _refuse(path, data_label=label, data_group=group, data_split=split)
        return _folder(path)
    if not path.exists():
        raise UserError(f"data.file={path}: there is no such file in {Path.cwd()}; give its path")
    readers: Mapping[str, Any] = {".npz": _npz, ".npy": _npy, ".csv": _table, ".parquet": _table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"data.file={path}: cannot be read; expected {KINDS}")
    try:
        found: Arrays = reader(path, label, group, split)
    except UserError:
        raise
    except Exception as error:  # dozens of kinds, one per way of being damaged
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, which may run anything when read; save plain numbers"
        raise UserError(f"data.file={path}: cannot be read ({reason})") from error
    return found


def from_mapping(
    content: Mapping[str, Any],
    of: str,
    label: str | None = None,
    group: str | None = None,
    split: str | None = None,
) -> Arrays:
    """The arrays of named ones: ``X`` and ``y``, or ``x_train``, ``y_train``, ... for given splits.

    Args:
        content: arrays by name.
        of: what an error calls it.
        label: key of the labels.
        group: key of the groups.
        split: key of the parts.

    Raises:
        UserError: inputs or labels are missing, or what is asked for is.
    """
    arrays = {name: np.asarray(array) for name, array in content.items()}
    known = ", ".join(arrays) or "nothing"
    for key, name in (("label", label), ("group", group), ("split", split)):
        if name is not None and name not in arrays:
            raise UserError(f"data.{key}={name}: {of} has no such array; it has {known}")
    inputs: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        role, part = _role(name)
        if name == label or (role == "labels" and label is None):
            labels[part] = array
        elif role == "inputs":
            inputs[part] = array
    whole = [*inputs] == [""]
    if not inputs or set(inputs) != set(labels) or ("" in inputs and not whole):
        raise UserError(
            f"{of}: has {known}; expected X and y, or images and labels, or x_train, y_train, x_test, y_test"
        )
    groups, parts = (None if name is None else arrays[name] for name in (group, split))
    if whole:
        return Arrays(inputs[""], labels[""], groups, None if parts is None else _parts(parts, of))
    if groups is not None or parts is not None:
        raise UserError(f"{of}: has its splits in {known}; leave data.group and data.split out")
    named = sorted(inputs)
    for part in named:
        _same_length(inputs[part], labels[part], f"{of}, {part}")
    shapes = {inputs[part].shape[1:] for part in named}
    if len(shapes) > 1:
        raise UserError(
            f"{of}: the parts have inputs of shapes {', '.join(map(str, sorted(shapes)))}; expected one"
        )
    sizes = [len(inputs[part]) for part in named]
    return Arrays(
        np.concatenate([inputs[part] for part in named]),
        np.concatenate([labels[part] for part in named]),
        parts=np.repeat(named, sizes),
    )


def _role(name: str) -> tuple[str | None, str]:
    """What an array is by its name, and of which part: ``x_train``, ``train_images``; ``X`` of none."""
    words = re.split(r"[_\W]+", name.lower())
    part = next((PARTS[word] for word in words if word in PARTS), "")
    rest = [word for word in words if word not in PARTS]
    if len(rest) != 1:
        return None, part
    return ("inputs" if rest[0] in INPUTS else "labels" if rest[0] in LABELS else None), part


def _parts(words: np.ndarray, of: str) -> np.ndarray:
    found = [str(word).lower() for word in words.ravel()]
    if odd := sorted(set(found) - set(PARTS)):
        raise UserError(f"{of}: a split is called {odd[0]}; expected train, validation or test")
    return np.array([PARTS[word] for word in found])


def _same_length(inputs: np.ndarray, labels: np.ndarray, of: str) -> None:
    if inputs.ndim < 1 or labels.ndim < 1 or len(inputs) != len(labels):
        raise UserError(f"{of}: inputs {inputs.shape} and labels {labels.shape}; expected as many of both")


def _npz(path: Path, label: str | None, group: str | None, split: str | None) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no whole .npz")
    with np.load(path, allow_pickle=False) as archive:
        return from_mapping(dict(archive), f"data.file={path}", label, group, split)


def _npy(path: Path, label: str | None, group: str | None, split: str | None) -> Arrays:
    _refuse(path, data_group=group, data_split=split)
    if label is None:
        raise UserError(f"data.file={path}: where are the labels? Name their file, as in data.label=y.npy")
    if not Path(label).expanduser().is_file():
        raise UserError(f"data.label={label}: there is no such file in {Path.cwd()}; give its path")
    inputs, labels = (np.load(p, allow_pickle=False) for p in (path, Path(label).expanduser()))
    return Arrays(inputs, labels)


def _refuse(path: Path, **given: str | None) -> None:
    for name, value in given.items():
        if value is not None:
            key = name.replace("_", ".")
            raise UserError(f"{key}={value}: {path} has no columns and no keys; leave {key} out")


def _table(path: Path, label: str | None, group: str | None, split: str | None) -> Arrays:
    import pandas as pd

    table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    asked = {"label": label or "label", "group": group, "split": split}
    for key, column in asked.items():
        if column is not None and column not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise UserError(f"data.{key}={column}: {path} has no such column; it has {shown}")
    columns = [name for name in names if name not in asked.values()]
    if not columns:
        raise UserError(
            f"data.file={path}: has no column beside {', '.join(names)}; expected some of numbers"
        )
    _check_columns(path, table, columns)
    parts = None if split is None else _parts(table[split].to_numpy(), f"data.split={split}")
    groups = None if group is None else table[group].to_numpy()
    inputs = table[columns].to_numpy(dtype=np.float64)
    return Arrays(inputs, table[asked["label"]].to_numpy(), groups, parts, columns)


def _check_columns(path: Path, table: "DataFrame", columns: list[str]) -> None:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for name in columns:
        column = table[name]
        if not (is_numeric_dtype(column) or is_bool_dtype(column)):
            first = column.dropna().iloc[0] if column.notna().any() else "nothing"
            raise UserError(
                f"data.file={path}: column {name} holds {first!r}, and no numbers; write it as numbers "
                "(a column of 0 and 1 for each value), or leave it out; data.label= names the labels"
            )
        if column.isna().any():
            row = int(column.isna().to_numpy().argmax()) + 1
            raise UserError(
                f"data.file={path}: column {name} has no value in row {row}; fill it in, or leave it out"
            )


def _folder(path: Path) -> Arrays:
    """``CLASS/*.png``, or ``train/CLASS/*.png`` and ``test/CLASS/*.png``."""
    below = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    parted = bool(below) and all(p.name.lower() in PARTS for p in below)
    places = [(PARTS[p.name.lower()], p) for p in below] if parted else [("", path)]
    images: list[np.ndarray] = []
    labels, parts = [], []
    first: Path | None = None
    for part, place in places:
        for folder in sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")):
            for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES):
                image = _picture(file)
                if first is None:
                    first = file
                elif image.shape != images[0].shape:
                    raise UserError(
                        f"data.file={path}: {file} is {_size(image)} and {first} {_size(images[0])}; "
                        "expected images of one size and mode"
                    )
                images.append(image)
                labels.append(folder.name)
                parts.append(part)
    if not images:
        raise UserError(f"data.file={path}: holds no images; expected {KINDS}")
    return Arrays(np.stack(images), np.array(labels), parts=np.array(parts) if parted else None)


def _picture(file: Path) -> np.ndarray:
    """uint8 (height, width), or (height, width, 3) of an image with colours."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(
                image if image.mode == "L" else image.convert("L" if image.mode == "1" else "RGB")
            )
    except Exception as error:  # Pillow raises a dozen kinds, one per way of being damaged
        raise UserError(f"{file}: is no whole image ({' '.join(str(error).split())}); take it out") from error


def _size(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    return f"{width}x{height} {'grey' if image.ndim == 2 else 'colour'}"
