import pytest
import torch

from ccsweep.errors import UserError
from ccsweep.estimator.layer import LayerData, Moments
from tests.estimator.conftest import make


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weights", "biases", "inputs"])
def test_nan_and_infinity_are_refused(bad: float, where: str) -> None:
    tensors = {"weights": torch.ones(4, 3), "biases": torch.ones(3), "inputs": torch.ones(5, 4)}
    tensors[where].view(-1)[1] = bad
    with pytest.raises(UserError) as caught:
        LayerData(tensors["weights"], tensors["biases"], lambda: tensors["inputs"]).inputs  # noqa: B018
    assert str(caught.value) == f"the 4x3 layer's {where} hold NaN or infinity; no estimator can be fitted"


def test_without_calibration_samples() -> None:
    for inputs in (None, lambda: torch.ones(0, 4)):
        with pytest.raises(UserError) as caught:
            LayerData(torch.ones(4, 3), torch.ones(3), inputs).inputs  # noqa: B018
        assert str(caught.value) == (
            "estimator.calibration: the 4x3 layer needs calibration samples; found none"
        )


def test_inputs_are_asked_for_once_and_only_on_demand() -> None:
    asked = []
    layer = LayerData(torch.ones(4, 3), torch.ones(3), lambda: asked.append(1) or torch.ones(5, 4))
    assert not asked
    assert layer.preactivation.shape == (5, 3)
    assert layer.moments.samples == 5
    assert asked == [1]


def test_running_moments_come_before_those_of_the_inputs() -> None:
    own = make(4, 3)
    running = Moments(torch.zeros(4), torch.eye(4), 7)
    assert LayerData(own.weight, own.bias, lambda: own.inputs, running).moments is running


def test_large_numbers_are_finite_though_their_sum_is_not() -> None:
    assert str(LayerData(torch.full((4, 3), 3e38), torch.ones(3))) == "4x3"


def test_moments_and_preactivations_by_hand() -> None:
    x, w, b = torch.tensor([[1.0, 2.0], [3.0, -2.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([0.5])
    layer = LayerData(w, b, lambda: x)
    assert layer.moments.mean.tolist() == [2.0, 0.0]
    assert layer.moments.second.tolist() == [[5.0, -2.0], [-2.0, 4.0]]
    assert layer.preactivation.tolist() == [[5.5], [-0.5]]
