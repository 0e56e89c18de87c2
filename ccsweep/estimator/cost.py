"""Operations counted on paper: the theoretical speed-up. The clock's is the engine's business."""

from collections.abc import Sequence
from typing import NamedTuple

from ccsweep.estimator.lowrank import OVERSAMPLING, POWER_ITERATIONS


class LayerCost(NamedTuple):
    """What the operation count needs to know of one layer."""

    inputs: int
    units: int
    rank: int | None = None
    """None: no estimator, every unit is computed."""
    density: float = 1.0
    refresh: float = 0.0
    """Operations of one refresh; see ``refresh_operations``."""


def svd_operations(inputs: int, units: int) -> float:
    """Floating-point operations of a thin SVD of (inputs, units).

    The cheaper of Golub-Reinsch, ``14 m n^2 + 8 n^3``, and R-SVD, ``6 m n^2 + 20 n^3``, with
    ``m >= n``: Golub & Van Loan, Matrix Computations (recalled). The paper writes ``c d h min(d, h)``.
    """
    m, n = max(inputs, units), min(inputs, units)
    return min(14.0 * m * n**2 + 8.0 * n**3, 6.0 * m * n**2 + 20.0 * n**3)


def refresh_operations(inputs: int, units: int, rank: int, method: str, metric: bool) -> float:
    """Floating-point operations of one refresh of a layer's factors; looking at data is not counted.

    A product of (m, k) and (k, n) counts ``2 m k n``, a QR of (units, k) ``4 units k^2``, symmetric
    eigenvectors ``9 n^3``: Golub & Van Loan, Matrix Computations (recalled).

    Args:
        inputs: d.
        units: h.
        rank: r.
        method: ``full``, ``randomised`` or ``warm``; see ``LowRank.factors``.
        metric: whether errors are measured in a metric on the inputs, as ``whitened`` does.
    """
    d, h = float(inputs), float(units)
    project = 2 * d * h * rank
    if method == "full":
        if metric:
            return 2 * d * d * h + 2 * d * h * h + 9 * h**3 + project
        return svd_operations(inputs, units)
    k, times = rank, 1
    if method == "randomised":
        k, times = min(rank + OVERSAMPLING, inputs, units), POWER_ITERATIONS + 1
    once = 4 * d * h * k + (2 * d * d * k if metric else 0.0) + 4 * h * k * k
    return times * once + project


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


def _dense(layer: LayerCost, batch: int) -> float:
    return float(batch * ((2 * layer.inputs - 1) * layer.units + layer.units))
