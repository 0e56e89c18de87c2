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
        flat = np.ascontiguousarray(images, dtype=np.float32).reshape(len(images), -1)
        return cls(torch.from_numpy(flat), torch.from_numpy(labels.astype(np.int64)))

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device; on the same device nothing is copied."""
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Split":
        """At most ``count`` images, from the beginning; None means all of them."""
        return Split(self.images[:count], self.labels[:count])


# Tensors have no single truth value, so data sets are compared by digest and not by ==.
@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, ready for training.

    Attributes:
        name: The data set actually used: mnist, svhn, digits or housenumbers.
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
    """

    directory: Path
    verify: bool = True
    extra: bool = False
    samples: int | None = None


Loader = Callable[[Request], Dataset]


def digest(**content: object) -> str:
    """16 hexadecimal digits that stand for whatever is handed in (JSON values)."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
