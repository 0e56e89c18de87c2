"""Operations counted on paper: the theoretical speed-up. The clock's is the engine's business."""

from collections.abc import Sequence
from typing import NamedTuple


class LayerCost(NamedTuple):
    """What the operation count needs to know of one layer."""

    inputs: int
    units: int
    rank: int | None = None
    """None: no estimator, every unit is computed."""
    density: float = 1.0
    refresh: float = 0.0
    """Operations of one refresh; see ``LowRank.operations``."""


def svd_operations(inputs: int, units: int) -> float:
    """Floating-point operations of a thin SVD of (inputs, units).

    The cheaper of Golub-Reinsch, ``14 m n^2 + 8 n^3``, and R-SVD, ``6 m n^2 + 20 n^3``, with
    ``m >= n``: Golub & Van Loan, Matrix Computations (recalled). The paper writes ``c d h min(d, h)``.
    """
    m, n = max(inputs, units), min(inputs, units)
    return min(14.0 * m * n**2 + 8.0 * n**3, 6.0 * m * n**2 + 20.0 * n**3)


def theoretical_speedup(layers: Sequence[LayerCost], batch: int = 1, refreshes: float = 0.0) -> float:
    """``sum F_dense / sum F_conditional`` over the layers, after the paper's section 3.4.

    With d inputs, h units, rank r, density alpha and N samples::

        F_dense       = N (2d-1) h + N h
        F_conditional = N (2d-1) r + N (2r-1) h + N h + alpha (N (2d-1) h + N h) + refreshes * REFRESH

    Args:
        layers: all layers of the network, the output layer included.
        batch: N, samples of one forward pass.
        refreshes: the paper's beta, factorisations per forward pass of a batch. Training once per
            epoch of s steps has 1/s; a trained network that only predicts has 0. REFRESH is the
            layer's ``refresh``, the paper's ``c d h min(d, h)``.

    Returns:
        The ratio; above 1 the conditional network does less work.
    """
    dense = sum(_dense(layer, batch) for layer in layers)
    conditional = 0.0
    for layer in layers:
        if layer.rank is None:
            conditional += _dense(layer, batch)
            continue
        d, h, r = layer.inputs, layer.units, layer.rank
        estimate = batch * ((2 * d - 1) * r + (2 * r - 1) * h + h)
        conditional += estimate + layer.density * _dense(layer, batch)
        conditional += refreshes * layer.refresh
    return dense / conditional


def speedup_limit(layers: Sequence[LayerCost], inputs: Sequence[float]) -> float:
    """Theoretical speed-up if each layer ran in the cheapest of the engine's four ways.

    Per layer the share of the dense products that is left: 1 (dense), the density d' of its inputs
    (input-sparse), density + rank cost (gated), or density * d' + rank cost (two-sided), with rank cost
    ``r (d' d + h) / (d h)``.

    Args:
        layers: all layers of the network, the output layer included.
        inputs: share of non-zero inputs, one per layer.
    """
    left = 0.0
    for layer, nonzero in zip(layers, inputs, strict=True):
        d, h, share = layer.inputs, layer.units, min(1.0, nonzero)
        if layer.rank is not None:
            share = min(share, layer.density * nonzero + layer.rank * (nonzero * d + h) / (d * h))
        left += d * h * share
    return sum(layer.inputs * layer.units for layer in layers) / left if left else 1.0


def _dense(layer: LayerCost, batch: int) -> float:
    return float(batch * ((2 * layer.inputs - 1) * layer.units + layer.units))
