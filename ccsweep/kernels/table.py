"""What the kernels know of a layer: a record of numbers and addresses, which the engine's layout fills in."""

import numpy as np

DENSE, INPUT_SPARSE, GATED, TWO_SIDED, MASKED = range(5)
"""Ways to run a layer; masked: dense, then the gate."""

LAYER = np.dtype(
    [
        ("way", np.int64),
        ("int8", np.int64),  # whether its weights are bytes
        ("mixed", np.int64),  # whether its gate is in float32 all the same
        ("tiles", np.int64),  # whether a dense one may use AMX
        ("inputs", np.int64),
        ("units", np.int64),
        ("relu", np.int64),
        ("block", np.int64),  # units that all samples go through together
        # Addresses of arrays, and what lies between two rows of one, in weights.
        # A row for each input if input-sparse, else for each unit; of dense bytes four inputs beside each
        # other, for 32 units.
        ("rows", np.int64),
        ("stride", np.int64),
        ("bias", np.int64),
        # Of the estimator.
        ("u", np.int64),  # a row for each input; as bytes one for each rank, as far apart as ``rows``
        ("rank", np.int64),
        ("v", np.int64),  # a row for each rank; as bytes four ranks beside each other, for each unit
        ("gate_bias", np.int64),
        ("gate_stride", np.int64),
        # Of bytes: what each unit, rank or score is scaled by, float32, and the sum of its weights, int32.
        ("scales", np.int64),
        ("totals", np.int64),
        ("u_scales", np.int64),
        ("u_totals", np.int64),
        ("v_scales", np.int64),
        ("v_start", np.int64),  # -OFFSET times the sums
    ]
)
"""One layer; a kernel gets all of them as one array of int64, which numba's dispatcher knows at once."""
