"""The one idea behind all estimators: keep the r directions in which pre-activations vary most.

With a metric C on the inputs, the factors of rank r that minimise the error

    tr((W - U V)^T C (W - U V))

are ``U = W Q``, ``V = Q^T``, where Q (units, r) holds the leading eigenvectors of ``W^T C W``: with
``C = L L^T`` they are the leading right singular vectors of ``L^T W``, and Eckart and Young apply.
C = 1 is the paper's truncated SVD; C = A^T A / N is the mean squared error of the pre-activations on
the inputs A. No inverse of C is taken, so a singular one is as good as any other.
"""

import torch
from torch import Tensor

from ccsweep.estimator.cost import svd_operations
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData, Spectrum

OVERSAMPLING, POWER_ITERATIONS = 8, 2  # Halko, Martinsson & Tropp 2011, section 4.4 and 4.5


class LowRank:
    """Base of all estimators, its metric the identity; another chooses its own, or the directions."""

    name = ""
    weighs_inputs = False
    """Whether the metric is another than the identity."""

    def metric(self, layer: LayerData) -> Tensor | None:
        """C (in_features, in_features); None stands for the identity."""
        return None

    def factors(
        self, layer: LayerData, rank: int, method: str = "full", previous: Factors | None = None
    ) -> Factors:
        """Factors of one rank.

        Args:
            layer: weights, and inputs where the metric comes from them.
            rank: columns of U, at most ``min(in_features, units)``.
            method: ``full`` (SVD or eigenvectors), ``randomised``, or ``warm``: one subspace iteration
                from ``previous``; without a ``previous`` of this rank it is ``full``.
            previous: the layer's factors before.

        Raises:
            UserError: no calibration samples, or fewer than the rank.
        """
        self.check(layer, rank)
        if method == "warm" and previous is not None and len(previous.v) == rank:
            return self._warm(layer, previous)
        return self.project(
            layer, (self._randomised if method == "randomised" else self._leading)(layer, rank)
        )

    def prepare(self, layer: LayerData, method: str) -> None:
        """Compute once what ``factors`` of any rank begin with, where many are to come."""
        if method != "randomised":
            self.spectrum(layer)

    def spectrum(self, layer: LayerData) -> Spectrum:
        """The full decomposition, computed once for each layer."""
        if self.name not in layer.spectra:
            layer.spectra[self.name] = self._decompose(layer)
        return layer.spectra[self.name]

    def project(self, layer: LayerData, directions: Tensor) -> Factors:
        """The best factors that keep ``directions`` (units, rank), whose columns are orthonormal."""
        u, v = layer.weight @ directions, directions.T.contiguous()
        return Factors(u, v, self.constant(layer, u, v))

    def constant(self, layer: LayerData, u: Tensor, v: Tensor) -> Tensor:
        """What the estimate needs besides ``x U V + b``: (units,)."""
        return torch.zeros_like(layer.bias)

    def operations(self, inputs: int, units: int, rank: int, method: str) -> float:
        """Floating-point operations of one call of ``factors``; looking at data is not counted.

        A product of (m, k) and (k, n) counts ``2 m k n``, a QR of (units, k) ``4 units k^2``, symmetric
        eigenvectors ``9 n^3``: Golub & Van Loan, Matrix Computations (recalled).
        """
        d, h = float(inputs), float(units)
        project = 2 * d * h * rank
        if method == "full":
            if self.weighs_inputs:
                return 2 * d * d * h + 2 * d * h * h + 9 * h**3 + project
            return svd_operations(inputs, units)
        k = rank if method == "warm" else min(rank + OVERSAMPLING, inputs, units)
        once = 4 * d * h * k + (2 * d * d * k if self.weighs_inputs else 0.0)
        if method == "warm":
            return once + 4 * d * k * k
        return (POWER_ITERATIONS + 1) * (once + 4 * h * k * k) + project

    def check(self, layer: LayerData, rank: int) -> None:
        """Raise UserError where the layer's data cannot give factors of this rank."""

    def _decompose(self, layer: LayerData) -> Spectrum:
        metric = self.metric(layer)
        if metric is None:
            _, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
            return Spectrum(values, right.T)
        squares, vectors = torch.linalg.eigh(self._weighed(layer, metric))
        k = min(layer.weight.shape)  # eigh sorts upwards
        return Spectrum(squares.flip(0)[:k].clamp(min=0).sqrt(), vectors.flip(1)[:, :k])

    def _weighed(self, layer: LayerData, metric: Tensor) -> Tensor:
        """``W^T C W``."""
        product = layer.weight.T @ (metric @ layer.weight)
        layer.require_finite("second moments", product)  # weights and inputs may be finite and yet overflow
        return product

    def _leading(self, layer: LayerData, rank: int) -> Tensor:
        """The spectrum's first directions, (units, rank); those alone, where nobody asked for all of it."""
        if self.name in layer.spectra or layer.weight.device.type != "cpu":  # only SciPy finds some of them
            return self.spectrum(layer).directions[:, :rank]
        metric = self.metric(layer)
        if metric is not None:
            return _last_eigenvectors(self._weighed(layer, metric), rank)
        # In float64, for a square costs half of the digits: still half the time of W's SVD in float32.
        weight = layer.weight.double()
        if weight.shape[0] >= weight.shape[1]:
            return _last_eigenvectors(weight.T @ weight, rank).float()
        return torch.linalg.qr(weight.T @ _last_eigenvectors(weight @ weight.T, rank))[0].float()

    def _apply(self, layer: LayerData, directions: Tensor) -> Tensor:
        """``W^T C W`` times directions (units, k), without forming the product."""
        image = layer.weight @ directions
        metric = self.metric(layer)
        return layer.weight.T @ (image if metric is None else metric @ image)

    def _warm(self, layer: LayerData, previous: Factors) -> Factors:
        """One subspace iteration, from V: with ``U`` spanning ``W V^T`` the best V follows.

        It spares a product with W that ``project`` would need. ``(U^T C U) V = U^T C W`` has a solution
        whatever C is.
        """
        u = torch.linalg.qr(layer.weight @ previous.v.T.float())[0]
        metric = self.metric(layer)
        if metric is None:
            v = u.T @ layer.weight
        else:
            weighed = (metric @ u).T
            v = torch.linalg.pinv(weighed @ u, hermitian=True) @ (weighed @ layer.weight)
        return Factors(u, v, self.constant(layer, u, v))

    def _subspace(self, layer: LayerData, start: Tensor, iterations: int) -> Tensor:
        for _ in range(iterations):
            start = torch.linalg.qr(self._apply(layer, start))[0]
        return start

    def _randomised(self, layer: LayerData, rank: int) -> Tensor:
        width = min(rank + OVERSAMPLING, *layer.weight.shape)
        start = random_directions(layer, width)
        found = self._subspace(layer, start, POWER_ITERATIONS)
        small = found.T @ self._apply(layer, found)
        vectors = torch.linalg.eigh((small + small.T) / 2)[1]
        return found @ vectors.flip(1)[:, :rank]


def _last_eigenvectors(symmetric: Tensor, count: int) -> Tensor:
    """Those with the largest values, (n, count), largest first; ``symmetric`` is overwritten."""
    from scipy.linalg import eigh  # a fifth of a second that who only runs a network need not wait for

    n = len(symmetric)
    found = eigh(symmetric.numpy(), subset_by_index=[n - count, n - 1], overwrite_a=True, check_finite=False)[
        1
    ]
    return torch.from_numpy(found).flip(1)


def random_directions(layer: LayerData, width: int) -> Tensor:
    """Orthonormal (units, width), the same at every call: a gate must not flicker between refreshes."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(layer.weight.shape[1], width, generator=generator)
    return torch.linalg.qr(drawn.to(layer.weight))[0]


def energy_rank(values: Tensor, share: float) -> int:
    """The smallest rank that keeps ``share`` of the spectral energy.

    Args:
        values: singular values, descending.
        share: of ``sum(values ** 2)``, above 0 and at most 1.

    Returns:
        A rank of at least 1.
    """
    kept = values.double().square().cumsum(0)
    # Rounding may leave the last sum a hair short of the whole, hence the tolerance.
    enough = kept >= share * kept[-1] * (1 - 1e-12)
    return int(enough.int().argmax()) + 1
