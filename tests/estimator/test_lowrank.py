import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccsweep.errors import UserError
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.factors import subspace_angle
from ccsweep.estimator.layer import LayerData
from ccsweep.estimator.lowrank import LowRank, energy_rank, random_directions
from tests.estimator.conftest import make

sizes = st.integers(1, 24)
estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


@settings(max_examples=30)
@given(sizes, sizes, st.integers(0, 999), st.sampled_from(["svd", "whitened", "whitened-centred"]))
def test_full_rank_gives_the_preactivations_back(inputs: int, units: int, seed: int, name: str) -> None:
    layer = make(inputs, units, seed=seed)
    factors = ESTIMATORS[name].factors(layer, min(inputs, units))
    torch.testing.assert_close(
        factors.scores(layer.inputs, layer.bias),
        layer.preactivation,
        rtol=0,
        atol=2e-3 * float(layer.preactivation.abs().max()),
    )


@settings(max_examples=50)
@given(sizes, sizes, st.integers(0, 999), st.data())
def test_the_svd_leaves_out_least_of_the_weights(inputs: int, units: int, seed: int, data) -> None:
    """Eckart and Young: no rank-r factors do better than the singular values left out."""
    layer = make(inputs, units, seed=seed)
    rank = data.draw(st.integers(1, min(inputs, units)))
    u, v, _ = ESTIMATORS["svd"].factors(layer, rank)
    left_out = torch.linalg.svdvals(layer.weight)[rank:].square().sum()
    torch.testing.assert_close((layer.weight - u @ v).square().sum(), left_out, rtol=1e-3, atol=1e-3)


def preactivation_error(
    layer: LayerData, u: torch.Tensor, v: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    return (layer.inputs @ (u @ v - layer.weight) + shift).square().mean()


@settings(max_examples=8)
@given(st.integers(2, 10), st.integers(2, 10), st.integers(0, 999), st.booleans(), st.data())
def test_gradient_descent_finds_no_better_factors_than_whitened_ones(
    inputs: int, units: int, seed: int, centred: bool, data
) -> None:
    layer = make(inputs, units, seed=seed)
    rank = data.draw(st.integers(1, min(inputs, units) - 1))
    estimator = ESTIMATORS["whitened-centred" if centred else "whitened"]
    ours = preactivation_error(layer, *estimator.factors(layer, rank))
    generator = torch.Generator().manual_seed(seed)
    found = [
        torch.randn(inputs, rank, generator=generator).requires_grad_(),
        torch.randn(rank, units, generator=generator).requires_grad_(),
        torch.zeros(units, requires_grad=centred),  # only centred factors may use a constant
    ]
    optimizer = torch.optim.LBFGS(
        [p for p in found if p.requires_grad], max_iter=300, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = preactivation_error(layer, *found)
        error.backward()
        return error

    optimizer.step(loss)
    assert preactivation_error(layer, *found) >= ours * (1 - 1e-3) - 1e-6


@settings(max_examples=20)
@given(st.integers(2, 16), st.integers(2, 16), st.integers(0, 999), st.data())
def test_with_white_inputs_whitened_is_the_svd(inputs: int, units: int, seed: int, data) -> None:
    generator = torch.Generator().manual_seed(seed)
    white = torch.linalg.qr(torch.randn(40, inputs, generator=generator))[0] * 40**0.5
    layer = LayerData(torch.randn(inputs, units, generator=generator), torch.zeros(units), lambda: white)
    rank = data.draw(st.integers(1, min(inputs, units)))
    values = ESTIMATORS["svd"].spectrum(layer).values
    if rank < len(values) and values[rank] > 0.97 * values[rank - 1]:
        rank = len(values)  # two nearly equal directions: which is kept is a matter of rounding
    a, b = (ESTIMATORS[name].factors(layer, rank) for name in ("svd", "whitened"))
    torch.testing.assert_close(a.u @ a.v, b.u @ b.v, rtol=0, atol=1e-3 * float(values[0]))


def test_a_centred_estimate_is_exact_for_the_mean_input() -> None:
    layer = make(12, 9, mean=3.0)
    mean = layer.inputs.mean(0, keepdim=True)
    factors = ESTIMATORS["whitened-centred"].factors(layer, 2)
    torch.testing.assert_close(
        factors.scores(mean, layer.bias), mean @ layer.weight + layer.bias, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("name", ["whitened", "whitened-centred"])
def test_a_singular_second_moment_is_handled(name: str) -> None:
    """Constant, zero and repeated features, as border pixels are."""
    x = make(12, 9).inputs.clone()
    x[:, 0], x[:, 1], x[:, 2] = 0.0, 1.0, x[:, 3]
    layer = LayerData(
        torch.randn(12, 9, generator=torch.Generator().manual_seed(1)), torch.zeros(9), lambda: x
    )
    for method in ("full", "randomised"):
        factors = ESTIMATORS[name].factors(layer, 9, method)
        assert all(bool(f.isfinite().all()) for f in factors)
        torch.testing.assert_close(factors.scores(x, layer.bias), layer.preactivation, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["svd", "whitened", "whitened-centred"])
def test_warm_refreshes_converge_to_the_full_one(name: str) -> None:
    estimator, layer = ESTIMATORS[name], make(30, 24, samples=200)
    full = estimator.factors(layer, 6)
    factors = ESTIMATORS["random"].factors(layer, 6)
    angles = []
    for _ in range(60):
        factors = estimator.factors(layer, 6, "warm", factors)
        angles.append(subspace_angle(full, factors))
    assert angles[-1] < 0.5 < angles[0]
    torch.testing.assert_close(factors.u @ factors.v, full.u @ full.v, rtol=0, atol=0.05)


def test_one_warm_refresh_follows_a_small_change_of_the_weights() -> None:
    estimator, layer = ESTIMATORS["svd"], make(30, 24)
    before = estimator.factors(layer, 6)
    step = 0.05 * torch.randn(30, 24, generator=torch.Generator().manual_seed(1))
    moved = LayerData(layer.weight + step, layer.bias)
    full, warm = estimator.factors(moved, 6), estimator.factors(moved, 6, "warm", before)

    def residual(u: torch.Tensor, v: torch.Tensor, shift: torch.Tensor) -> float:
        return float((moved.weight - u @ v).square().sum())

    best = residual(*full)
    assert residual(*warm) - best < 0.3 * (residual(*before) - best)


@pytest.mark.parametrize("name", ["svd", "whitened", "whitened-centred"])
def test_randomised_factors_are_nearly_the_full_ones(name: str) -> None:
    layer = make(40, 30, samples=200)

    def error(method: str) -> torch.Tensor:
        u, v, shift = ESTIMATORS[name].factors(layer, 5, method)
        return (
            (layer.weight - u @ v).square().sum()
            if name == "svd"
            else preactivation_error(layer, u, v, shift)
        )

    assert error("full") <= error("randomised") * (1 + 1e-5) < 1.02 * error("full")


@estimators
def test_without_previous_factors_of_the_rank_a_warm_refresh_is_a_full_one(estimator: LowRank) -> None:
    layer = make(12, 9)
    full = estimator.factors(layer, 4)
    other = estimator.factors(layer, 5)
    for previous in (None, other):
        warm = estimator.factors(layer, 4, "warm", previous)
        assert torch.equal(warm.u @ warm.v, full.u @ full.v)


def test_learned_factors_agree_with_more_signs_than_their_start() -> None:
    layer = make(40, 60, samples=1500)

    def agreement(name: str) -> float:
        gate = ESTIMATORS[name].factors(layer, 4).gate(layer.inputs, layer.bias)
        return float((gate == (layer.preactivation > 0)).float().mean())

    assert agreement("learned") > agreement("whitened") > agreement("random")


@pytest.mark.parametrize("name", ["whitened", "whitened-centred", "learned"])
def test_too_few_calibration_samples(name: str) -> None:
    layer = make(12, 9, samples=5)
    with pytest.raises(UserError) as caught:
        ESTIMATORS[name].factors(layer, 6)
    assert str(caught.value) == (
        f"estimator.calibration: {name} factors of rank 6 for the 12x9 layer need at least 6 calibration samples; found 5"
    )


@settings(max_examples=40)
@given(sizes, sizes, st.integers(0, 999), st.floats(0.01, 1.0))
def test_energy_rank_is_enough_and_no_more(inputs: int, units: int, seed: int, share: float) -> None:
    values = torch.linalg.svdvals(make(inputs, units, seed=seed).weight).double()
    rank = energy_rank(values, share)
    energy = values.square()
    assert energy[:rank].sum() >= share * energy.sum() * (1 - 1e-9)
    assert rank == 1 or energy[: rank - 1].sum() < share * energy.sum()


@pytest.mark.parametrize("shape", [(12, 9), (9, 12)])
def test_the_spectrum_of_the_svd(shape: tuple[int, int]) -> None:
    layer = make(*shape)
    values, directions = ESTIMATORS["svd"].spectrum(layer)
    assert directions.shape == (shape[1], 9)
    torch.testing.assert_close(values, torch.linalg.svdvals(layer.weight))
    torch.testing.assert_close((layer.weight @ directions).norm(dim=0), values)
    assert ESTIMATORS["whitened"].spectrum(layer).directions.shape == (shape[1], 9)


@pytest.mark.parametrize("name", ["svd", "whitened"])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (7, 7)])
def test_the_leading_directions_are_the_spectrums_first(name: str, shape: tuple[int, int]) -> None:
    estimator, alone, whole = ESTIMATORS[name], make(*shape), make(*shape)
    expected = estimator.spectrum(whole).directions
    for rank in range(1, min(shape) + 1):
        found, directions = estimator.factors(alone, rank), expected[:, :rank]
        torch.testing.assert_close(found.v.T @ found.v, directions @ directions.T, rtol=0, atol=1e-3)
        again = estimator.factors(whole, rank)  # takes them from what is there
        assert torch.equal(again.v, directions.T)
        torch.testing.assert_close(found.u @ found.v, again.u @ again.v, rtol=0, atol=1e-3)
    assert not alone.spectra


def test_weights_of_a_low_rank_have_directions_beyond_it() -> None:
    weight = torch.zeros(6, 8)
    weight[0, 0] = 1.0
    for shaped in (weight, weight.T):
        found = ESTIMATORS["svd"].factors(LayerData(shaped, torch.zeros(shaped.shape[1])), 4)
        torch.testing.assert_close(found.v @ found.v.T, torch.eye(4))
        torch.testing.assert_close(found.u @ found.v, shaped)


@pytest.mark.parametrize("name", ["svd", "whitened"])
def test_a_randomised_refresh_written_out(name: str) -> None:
    """Halko, Martinsson and Tropp 2011, algorithm 4.4: eight directions more, two power iterations."""
    layer = make(60, 50, samples=300)
    w, x = layer.weight, layer.inputs
    product = w.T @ w if name == "svd" else (x @ w).T @ (x @ w) / 300
    q = random_directions(layer, 5 + 8)
    for _ in range(2):
        q = torch.linalg.qr(product @ q)[0]
    kept = q @ torch.linalg.svd(q.T @ product @ q)[0][:, :5]
    u, v, _ = ESTIMATORS[name].factors(layer, 5, "randomised")
    torch.testing.assert_close(u @ v, w @ kept @ kept.T, rtol=0, atol=1e-3)
    assert not layer.spectra  # nothing was decomposed in full


@pytest.mark.parametrize(
    ("name", "method", "sizes", "expected"),
    [
        # C W, its product with W^T, the eigenvectors, W Q
        ("whitened", "full", (7, 5, 2), 490 + 350 + 1125 + 140),
        # three times (W and W^T by 11 directions, their QR), then W Q; with C a product more each time
        ("svd", "randomised", (100, 80, 3), 3 * (2 * 176_000 + 38_720) + 48_000),
        ("whitened", "randomised", (100, 80, 3), 3 * (2 * 176_000 + 220_000 + 38_720) + 48_000),
        # no more directions than the layer has
        ("svd", "randomised", (7, 5, 2), 3 * (2 * 350 + 500) + 140),
        ("svd", "randomised", (5, 7, 2), 3 * (2 * 350 + 700) + 140),
        # W by 3 directions, their QR, the product with W; with C once more
        ("svd", "warm", (100, 80, 3), 2 * 48_000 + 3_600),
        ("whitened", "warm", (100, 80, 3), 2 * 48_000 + 60_000 + 3_600),
    ],
)
def test_operations_by_hand(name: str, method: str, sizes: tuple[int, int, int], expected: int) -> None:
    assert ESTIMATORS[name].operations(*sizes, method) == expected


def test_moments_that_overflow() -> None:
    x = torch.full((5, 4), 1e20)
    layer = LayerData(torch.ones(4, 3), torch.ones(3), lambda: x)
    message = "the 4x3 layer's second moments hold NaN or infinity; no estimator can be fitted"
    with pytest.raises(UserError, match=f"^{message}$"):
        ESTIMATORS["whitened"].factors(layer, 2)
