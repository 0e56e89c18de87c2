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
from tqdm import tqdm

from ccsweep.data import contrast, drawing
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
    splits = {name: Split.from_numpy(arrays[name], arrays[f"{name}_labels"]) for name in sizes}
    return Dataset(
        name="housenumbers", label="housenumbers", shape=SHAPE, classes=10, digest=key, **splits
    )


def _compute(sizes: dict[str, int]) -> Arrays:
    arrays = {}
    for name, size in sizes.items():
        images, labels = draw_many(size, SEEDS[name], what=f"{name} house numbers")
        arrays[name] = contrast.preprocess(images, "house numbers")
        arrays[f"{name}_labels"] = labels
    return arrays


def draw_many(
    count: int, seed: int, *, processes: int | None = None, what: str = "house numbers"
) -> tuple[np.ndarray, np.ndarray]:
    """Draws ``count`` pictures.

    Args:
        count: How many; the first k of them are the same for every count.
        seed: Names the series of pictures.
        processes: How many draw; None takes what the machine has and the work is worth.
        what: Their name on the progress bar, shown when it takes over two seconds.

    Returns:
        uint8 (count, 32, 32, 3) in red, green, blue; uint8 (count,) labels 0 to 9.
    """
    draw = partial(drawing.draw_series, seed)
    starts = list(range(0, count, CHUNK))
    stops = [*starts[1:], count]
    if processes is None:
        processes = _worthwhile_processes(len(starts))
    with ExitStack() as stack:
        if processes > 1:
            # Spawned, for a fork of a process with torch's threads may hang.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context))
            chunks = pool.map(draw, starts, stops)
        else:
            chunks = map(draw, starts, stops)
        bar = stack.enter_context(tqdm(total=count, desc=f"drawing {what}", delay=2))
        images, labels = [], []
        for chunk, chunk_labels in chunks:
            images.append(chunk)
            labels.append(chunk_labels)
            bar.update(len(chunk))
    return np.concatenate(images), np.concatenate(labels)


def _worthwhile_processes(chunks: int) -> int:
    """One per core, each with a few chunks to draw; a process takes half a second to start."""
    if multiprocessing.current_process().daemon:
        return 1  # daemons may not have children
    return max(1, min(os.cpu_count() or 1, chunks // 4))
