"""What every data set turns into: three splits of flat images, and what to say of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.errors import UserError


class Split(NamedTuple):
    """Images and their labels.

    ``images`` is float32 (n, features), an image being flattened row by row; ``labels`` is
    int64 (n,) with values from 0 to classes - 1.
    """

    images: Tensor
    labels: Tensor

    @classmethod
    def from_numpy(cls, images: np.ndarray, labels: np.ndarray) -> "Split":
        """From arrays (n, ...) and (n,); shares their memory where the types allow it."""
        flat = np.ascontiguousarray(images, dtype=np.float32).reshape(len(images), prod(images.shape[1:]))
        return cls(torch.from_numpy(flat), torch.from_numpy(labels.astype(np.int64)))

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device; on the same device nothing is copied."""
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Split":
        """At most ``count`` images, from the beginning; None means all of them."""
        return Split(self.images[:count], self.labels[:count])


class Scaling(NamedTuple):
    """What was done to the inputs: ``(x - shift) / scale``, both float32 (features,)."""

    shift: Tensor
    scale: Tensor

    def of(self, split: Split) -> Split:
        """The split with its images scaled."""
        return Split((split.images - self.shift) / self.scale, split.labels)

    def undone(self, images: Tensor) -> Tensor:
        """Images (n, features) as they were before."""
        return images * self.scale + self.shift


# Tensors have no single truth value, so data sets are compared by digest and not by ==.
@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, ready for training.

    Attributes:
        name: The data set actually used: mnist, svhn, digits, housenumbers, or of one's own.
        label: What reports call it, e.g. "mnist", "SVHN sample (8,000 training digits)" or
            "housenumbers (stand-in for svhn)".
        shape: Of one image, e.g. (28, 28).
        classes: Number of classes.
        train: What is trained on.
        validation: What choices are made on.
        test: What is reported.
        digest: 16 hexadecimal digits that name the content: same digest, same splits.
        notes: What every report must say of this data set besides its label.
        stand_in_for: The data set that was asked for and could not be had, or None.
        class_names: What the labels stand for; empty: themselves.
        scaling: What was done to the inputs of one's own data, for who has new ones.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    classes: int
    train: Split
    validation: Split
    test: Split
    digest: str
    notes: tuple[str, ...] = ()
    stand_in_for: str | None = None
    class_names: tuple[str, ...] = ()
    scaling: Scaling | None = None

    @property
    def features(self) -> int:
        """Length of one flattened image: the network's input width."""
        return prod(self.shape)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on another device; on the same device nothing is copied."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )

    def checked(self) -> "Dataset":
        """The same data, if every split has something in it that a network can learn from or be tried on.

        Raises:
            UserError: a split is empty, or of another shape than the others, or has labels that are no class.
        """
        parts = {part: getattr(self, part) for part in ("train", "validation", "test")}
        counts = ", ".join(f"{len(split.labels):,} {part}" for part, split in parts.items())
        for part, (images, labels) in parts.items():
            if not len(labels):
                raise UserError(
                    f"{self.label}: no {part} images are left ({counts}); expected some in each: "
                    "give more data"
                )
            if images.shape != (len(labels), self.features):
                raise UserError(
                    f"{self.label}: {part} images are {tuple(images.shape)} for {len(labels):,} labels; "
                    f"expected ({len(labels)}, {self.features})"
                )
            if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
                raise UserError(
                    f"{self.label}: {part} labels go from {int(labels.min())} to {int(labels.max())}; "
                    f"expected 0 to {self.classes - 1}"
                )
        return self

    def labelled(self, samples: int | None) -> "Dataset":
        """The same data, its label saying so if only ``samples`` training images were asked for."""
        if samples is None:
            return self
        return replace(self, label=f"{self.label}, {len(self.train.labels):,} training images")

    def standing_in_for(self, wanted: str) -> "Dataset":
        """The same data, marked as used in place of ``wanted``."""
        return replace(
            self,
            label=f"{self.name} (stand-in for {wanted})",
            notes=(*self.notes, f"stand-in for {wanted}, which could not be had"),
            stand_in_for=wanted,
        )


@dataclass(frozen=True)
class Request:
    """What was asked of a data set, in the words of conf/data.

    Attributes:
        directory: Folder with one subfolder of files per data set.
        verify: Whether a file must have its official checksum.
        extra: Whether to train on SVHN's extra images too.
        samples: At most this many training images; None means all. Validation and test images
            are not affected, except that drawn data sets draw proportionally fewer of them.
        file: One's own data, and where in it labels, groups and splits are.
        label: See conf/data/arrays.yaml, as for the others.
        group: What stays together.
        split: Which part a row is of.
        scale: ``standard``, ``max`` or ``none``.
        loader: A function that has the data instead.
    """

    directory: Path
    verify: bool = True
    extra: bool = False
    samples: int | None = None
    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    scale: str | None = "standard"
    loader: str | None = None


Loader = Callable[[Request], Dataset]


def digest(**content: object) -> str:
    """16 hexadecimal digits that stand for whatever is handed in (JSON values)."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
