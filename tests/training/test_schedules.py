import pytest
import torch
from hydra import compose, initialize_config_dir

from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.schema import TrainingConfig
from ccsweep.training.schedules import learning_rate, limit_norms, momentum


@pytest.fixture(scope="module")
def mnist() -> TrainingConfig:
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        return check(compose("config", overrides=["training=mnist-paper"])).training


def test_the_papers_schedules(mnist: TrainingConfig) -> None:
    assert learning_rate(mnist, 0) == 0.25
    assert learning_rate(mnist, 10) == pytest.approx(0.25 * 0.99**10)
    assert momentum(mnist, 0) == 0.5
    assert momentum(mnist, 1) == pytest.approx(0.525)
    assert momentum(mnist, 1000) == 0.8


def test_limit_norms_shortens_long_rows_only() -> None:
    layer = torch.nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4, 0, 0], [0.3, 0.4, 0, 0], [0, 0, 0, 0]]))
    limit_norms([layer], 1.0)
    expected = torch.tensor([[0.6, 0.8, 0, 0], [0.3, 0.4, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(layer.weight.detach(), expected)


def test_limit_norms_written_out() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(30, 20), torch.nn.Linear(20, 10)]
    before = [layer.weight.detach().clone() for layer in layers]
    limit_norms(layers, 0.55)
    for layer, weight in zip(layers, before, strict=True):
        norms = weight.square().sum(1, keepdim=True).sqrt()
        assert 0 < (norms > 0.55).sum() < len(norms)
        torch.testing.assert_close(layer.weight.detach(), weight * (0.55 / norms).clamp(max=1.0))
        assert layer.weight.requires_grad
