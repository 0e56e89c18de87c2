"""Operations counted on paper: the theoretical speed-up. The clock's is the engine's business."""

from collections.abc import Sequence
from typing import NamedTuple

DENSE, INPUT_SPARSE, GATED, TWO_SIDED = WAYS = ("dense", "input-sparse", "gated", "two-sided")
"""Ways to run a layer: leaving out nothing, zero inputs, units that the gate turns off, or both."""


class LayerCost(NamedTuple):
    """What the operation count needs to know of one layer."""

    inputs: int
    units: int
    rank: int | None = None
    """None: no estimator, every unit is computed."""
    density: float = 1.0
    """Share of units computed."""
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


def products(way: str, input_density: float, unit_density: float) -> float:
    """Share of a layer's dense products that a way computes, the estimator's own not counted."""
    inputs = input_density if way in (INPUT_SPARSE, TWO_SIDED) else 1.0
    return inputs * (unit_density if way in (GATED, TWO_SIDED) else 1.0)


def work(way: str, layer: LayerCost, input_density: float) -> float:
    """Work of a way over the dense layer's; the estimator's first factor sees the non-zero inputs alone.

    Args:
        way: one of ``WAYS``.
        layer: its rank and density only count where the way has a gate.
        input_density: share of inputs that are not zero, d'.

    Returns:
        ``alpha + r (d' d + h) / (d h)``, alpha being the share of products; without an estimator ``alpha``.
    """
    d, h = layer.inputs, layer.units
    estimate = (layer.rank or 0) * (input_density * d + h) / (d * h) if way in (GATED, TWO_SIDED) else 0.0
    return products(way, input_density, layer.density) + estimate


def limit(way: str, layer: LayerCost, input_density: float) -> float:
    """Theoretical speed-up of a way over the dense layer; arguments as of :func:`work`."""
    # Not even one product: one is the least that a table should divide by.
    return 1 / max(work(way, layer, input_density), 1 / (layer.inputs * layer.units))


def speedup_limit(layers: Sequence[LayerCost], inputs: Sequence[float]) -> float:
    """Theoretical speed-up if each layer ran in the cheapest of the four ways.

    Args:
        layers: all layers of the network, the output layer included.
        inputs: share of non-zero inputs, one per layer.
    """
    dense = left = 0.0
    for layer, input_density in zip(layers, inputs, strict=True):
        ways = WAYS[:2] if layer.rank is None else WAYS
        dense += layer.inputs * layer.units
        left += layer.inputs * layer.units * min(work(way, layer, input_density) for way in ways)
    return dense / left if left else 1.0


def _dense(layer: LayerCost, batch: int) -> float:
    return float(batch * ((2 * layer.inputs - 1) * layer.units + layer.units))
