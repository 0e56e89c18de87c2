"""What the kernels know of a layer: a record of numbers and addresses, which the engine's layout fills in."""

import numpy as np

INPUT_SPARSE, GATED, TWO_SIDED = range(3)
"""Ways to run a layer."""

LAYER = np.dtype(
    [
        ("way", np.int64),
        ("inputs", np.int64),
        ("units", np.int64),
        ("relu", np.int64),
        ("block", np.int64),  # units that all samples go through together
        # Addresses of float32 arrays, and what lies between two rows of one, in floats.
        ("rows", np.int64),  # a row for each input if input-sparse, else for each unit
        ("stride", np.int64),
        ("bias", np.int64),
        # Of the estimator.
        ("u", np.int64),
        ("rank", np.int64),
        ("v", np.int64),
        ("gate_bias", np.int64),
        ("gate_stride", np.int64),
    ]
)
"""One layer; a kernel gets all of them as one array of int64, which numba's dispatcher knows at once."""
