import numpy as np
import pytest
import torch

from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.factors import Factors
from ccsweep.estimator.layer import LayerData
from tests.estimator.conftest import make

LEARNED = ESTIMATORS["learned"]


def by_hand(layer: LayerData, start: Factors) -> list[np.ndarray]:
    """Adam on the logistic loss in batches of 250, ten times through, with gradients written out."""
    x, weight, bias = (t.double().numpy() for t in (layer.inputs, layer.weight, layer.bias))
    z = x @ weight + bias
    u, v = start.u.double().numpy(), start.v.double().numpy()
    scale = max((x @ u @ v + bias - z).std(ddof=1), 1e-3 * z.std(ddof=1)) / 1.7
    root = np.sqrt(np.maximum(np.linalg.norm(u, axis=0), 1e-12))
    found = [u / root, v * root[:, None], np.zeros_like(bias)]
    first, second = [np.zeros_like(p) for p in found], [np.zeros_like(p) for p in found]
    generator, step = torch.Generator().manual_seed(0), 0
    for _ in range(10):
        order = torch.randperm(len(x), generator=generator).numpy()
        for chosen in np.split(order, range(250, len(x), 250)):
            step += 1
            u, v, shift = found
            logits = (x[chosen] @ u @ v + bias) / scale + shift
            error = (np.exp(-np.logaddexp(0, -logits)) - (z[chosen] > 0)) / logits.size
            gradients = [x[chosen].T @ error @ v.T / scale, (x[chosen] @ u).T @ error / scale, error.sum(0)]
            for k, g in enumerate(gradients):
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g**2
                update = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
                found[k] = found[k] - 1e-3 * update
    return [found[0], found[1], found[2] * scale]


@pytest.mark.parametrize("rank", [2, 5])
@pytest.mark.parametrize("method", ["full", "warm"])
def test_written_out(rank: int, method: str) -> None:
    layer = make(6, 5, samples=300)
    layer.weight[:, 4], layer.bias[4] = 0.0, 0.0  # a unit that is never positive, nor negative
    layer.weight *= 0.3
    previous = Factors(*(t + 0.1 for t in ESTIMATORS["whitened"].factors(layer, rank)))
    start = previous if method == "warm" else ESTIMATORS["whitened"].factors(layer, rank)
    found = LEARNED.factors(layer, rank, method, previous)
    assert not any(part.requires_grad for part in found)
    for part, expected in zip(found, by_hand(layer, start), strict=True):
        torch.testing.assert_close(part.double(), torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_they_start_from_randomised_factors_where_those_are_asked_for() -> None:
    layer = make(40, 30, samples=200)
    LEARNED.factors(layer, 4, "randomised")
    assert not layer.spectra


def test_a_layer_of_zeros() -> None:
    x = make(6, 5).inputs
    factors = LEARNED.factors(LayerData(torch.zeros(6, 5), torch.zeros(5), lambda: x), 2)
    assert all(bool(part.isfinite().all()) for part in factors)
