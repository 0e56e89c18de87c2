"""House numbers: drawn pictures in the manner of SVHN; needs no files.

Every picture has its own seed, so it is the same however many are drawn and by however many
processes.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

import numpy as np

from ccsweep.data import contrast, drawing, progress
from ccsweep.data.cache import Arrays, cached
from ccsweep.data.dataset import Dataset, Request, Split, digest

# Images of each split when nothing is said, and the seed it is drawn from. With fewer training
# images the others shrink in proportion.
SIZES = {"train": 18_000, "validation": 2_000, "test": 4_000}
SEEDS = {"train": 101, "validation": 102, "test": 103}
CHUNK = 250  # pictures drawn in one go: about a quarter of a second
SHAPE = (drawing.SIDE, drawing.SIDE)


def load(request: Request) -> Dataset:
    """House numbers, preprocessed as SVHN is; drawn once, then read from the cache.

    ``request.samples`` draws that many training images, 18,000 at most.
    """
    share = min(1.0, (request.samples or SIZES["train"]) / SIZES["train"])
    sizes = {name: max(1, round(size * share)) for name, size in SIZES.items()}
    # Another FreeType draws slightly different letters; it comes with Pillow.
    libraries = {name: version(name) for name in ("pillow", "matplotlib", "numpy")}
    key = digest(drawing=drawing.VERSION, seeds=SEEDS, **sizes, **libraries, **contrast.settings())
    arrays = cached("housenumbers", key, partial(_compute, sizes))

    def split(name: str) -> Split:
        return Split.from_numpy(arrays[name], arrays[f"{name}_labels"])

    return Dataset(
        name="housenumbers",
        label="housenumbers",
        shape=SHAPE,
        classes=10,
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        digest=key,
    )


def _compute(sizes: dict[str, int]) -> Arrays:
    arrays = {}
    drawn = draw_many([(SEEDS[name], size) for name, size in sizes.items()])
    for name, (images, labels) in zip(sizes, drawn, strict=True):
        arrays[name] = contrast.preprocess(images, "house numbers")
        arrays[f"{name}_labels"] = labels
    return arrays


def draw_many(
    series: list[tuple[int, int]], processes: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws several series of pictures; shows progress when it takes over a second.

    Args:
        series: The seed and the length of each. Of one seed, the first k pictures are the same
            for every length.
        processes: How many draw; None takes what the machine has and the work is worth.

    Returns:
        For each series uint8 (length, 32, 32, 3) in red, green, blue; uint8 (length,) labels.
    """
    tasks = [
        (seed, start, min(start + CHUNK, length))
        for seed, length in series
        for start in range(0, length, CHUNK)
    ]
    if processes is None:
        processes = _worthwhile_processes(len(tasks))
    drawn: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {seed: [] for seed, _ in series}
    with ExitStack() as stack:
        if processes > 1:
            # Spawned, for a fork of a process with torch's threads may hang.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context))
            chunks = pool.map(drawing.draw_series, *zip(*tasks, strict=True))
        else:
            chunks = map(drawing.draw_series, *zip(*tasks, strict=True))
        total = sum(length for _, length in series)
        bar = stack.enter_context(progress.Bar("drawing house numbers", total, "images"))
        for (seed, _, _), (images, labels) in zip(tasks, chunks, strict=True):
            drawn[seed].append((images, labels))
            bar.update(len(labels))
    return [
        (np.concatenate([images for images, _ in parts]), np.concatenate([y for _, y in parts]))
        for parts in drawn.values()
    ]


def _worthwhile_processes(chunks: int) -> int:
    """One per core, each with a few chunks to draw; a process takes half a second to start."""
    if multiprocessing.current_process().daemon:
        return 1  # daemons may not have children
    return max(1, min(os.cpu_count() or 1, chunks // 4))
