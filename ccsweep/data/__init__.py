"""Data: files in, batches out. Downloads, reads, preprocesses, splits and batches.

``load`` is the way in. Nothing heavy is imported before it is called, so a config may look at
``SOURCES`` for the names.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ccsweep.errors import UserError
from ccsweep.files import user_cache

if TYPE_CHECKING:
    from ccsweep.data.dataset import Dataset, Loader

# Where each data set's loader is. A new data set is one module, one line here and one file in
# conf/data.
SOURCES = {
    "mnist": "ccsweep.data.mnist:load",
    "svhn": "ccsweep.data.svhn:load",
    "digits": "ccsweep.data.digits:load",
    "housenumbers": "ccsweep.data.housenumbers:load",
    "arrays": "ccsweep.data.own.arrays:load",
}

# The embedded set that may take the place of one that cannot be had, and its loader in that
# set's shape: the architecture and its ranks stay valid.
STAND_INS = {
    "mnist": ("digits", "ccsweep.data.digits:load_like_mnist"),
    "svhn": ("housenumbers", "ccsweep.data.housenumbers:load"),
}

log = logging.getLogger("ccsweep.data")


def load(
    name: str,
    *,
    directory: str | Path | None = None,
    verify: bool = True,
    stand_in: str | None = None,
    extra: bool = False,
    samples: int | None = None,
    **own: str | None,
) -> "Dataset":
    """A data set, downloaded, read, preprocessed and split.

    Args:
        name: One of ``SOURCES``.
        directory: Folder with one subfolder of files per data set; None: in the user's cache.
        verify: Whether files must have their official checksums.
        stand_in: Embedded data set to use where ``name`` cannot be had at all: none of its files
            is there and no mirror has them. None makes that an error.
        extra: Whether to train on SVHN's extra images too.
        samples: At most this many training images; None means all. Validation and test images
            are not affected, except that housenumbers draws proportionally fewer of them.
        own: Of one's own data, ``name`` being arrays: file, label, group, split, scale, loader.

    Raises:
        UserError: An argument is wrong, or a file is wrong, unreadable or missing.
    """
    check(name, stand_in, extra, samples, own)
    from ccsweep.data.dataset import Request
    from ccsweep.data.files import NotAvailableError

    folder = user_cache() / "data" if directory is None else Path(directory).expanduser()
    request = Request(folder, verify=verify, extra=extra, samples=samples, **own)
    try:
        return _loader(SOURCES[name])(request).checked().labelled(samples)
    except NotAvailableError as error:
        if stand_in is None:
            if name not in STAND_INS:
                raise
            raise UserError(f"{error}, or set data.stand_in={STAND_INS[name][0]}") from error
        log.warning("%s CANNOT BE HAD, %s STANDS IN FOR IT: %s", name, stand_in, error)
        return _loader(STAND_INS[name][1])(request).standing_in_for(name).labelled(samples)


def check(
    name: str, stand_in: str | None, extra: bool, samples: int | None, own: Mapping[str, str | None]
) -> None:
    """Check what may be asked of ``load``, without reading anything.

    Raises:
        UserError: an argument is wrong; one line naming the key.
    """
    if name not in SOURCES:
        raise UserError(f"data.name={name} is unknown: use one of {', '.join(SOURCES)}")
    if stand_in is not None:
        possible = STAND_INS[name][0] if name in STAND_INS else None
        if stand_in != possible:
            way_out = f"use {possible} or null" if possible else "leave it out"
            raise UserError(f"data.stand_in={stand_in} cannot stand in for {name}: {way_out}")
    if extra and name != "svhn":
        raise UserError(f"data.extra=true is for svhn, {name} has no extra images: leave it out")
    for key, value in own.items():
        if name != "arrays" and value is not None:
            raise UserError(f"data.{key}={value}: is for one's own data; add data=arrays")
    if name == "arrays" and own.get("file") is None and own.get("loader") is None:
        raise UserError(
            "data.file=null: expected one's own data, as in data=arrays data.file=mine.npz; "
            "or data.loader=module:function"
        )
    if samples is not None and samples < 1:
        raise UserError(f"data.samples={samples} leaves nothing to train on: use 1 or more")


def _loader(place: str) -> "Loader":
    module, function = place.split(":")
    loader: Loader = getattr(import_module(module), function)
    return loader
