import re

import numpy as np
import pytest

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.moments import RunningMoments
from tests.estimator.conftest import make


@pytest.mark.parametrize(("name", "centred"), [("whitened", False), ("whitened-centred", True)])
def test_written_out_by_way_of_a_cholesky_factor(name: str, centred: bool) -> None:
    """``L L^T = C``, ``L^T W = P S Q^T``, factors ``W Q`` and ``Q^T``, as the classes' docstrings have it."""
    layer = make(8, 6, samples=100)
    x, w = layer.inputs.double().numpy(), layer.weight.double().numpy()
    m = x.mean(0) if centred else np.zeros(8)
    _, s, q = np.linalg.svd(np.linalg.cholesky((x - m).T @ (x - m) / 100).T @ w)
    np.testing.assert_allclose(ESTIMATORS[name].spectrum(layer).values.numpy(), s, rtol=1e-3, atol=1e-4)
    u, v, shift = (t.double().numpy() for t in ESTIMATORS[name].factors(layer, 3))
    expected = w @ q[:3].T @ q[:3]
    np.testing.assert_allclose(u @ v, expected, atol=1e-3)
    np.testing.assert_allclose(shift, m @ w - m @ expected, atol=1e-3)


def test_as_many_samples_as_the_rank_are_enough() -> None:
    assert ESTIMATORS["whitened"].factors(make(12, 9, samples=6), 6).u.shape == (12, 6)


def test_too_few_samples_in_running_moments() -> None:
    layer, running = make(12, 9), RunningMoments(12)
    running.update(layer.inputs[:5])
    seen = LayerData(layer.weight, layer.bias, None, running.moments())
    message = (
        "estimator.moments=running: whitened factors of rank 6 for the 12x9 layer need at least 6 "
        "calibration samples; found 5"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        ESTIMATORS["whitened"].factors(seen, 6)
