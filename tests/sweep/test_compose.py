"""A trial's config: as Hydra composes it, and when two are one point."""

from collections.abc import Sequence

import pytest
from hydra._internal.hydra import Hydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccsweep.errors import UserError
from ccsweep.study.identity import identity
from ccsweep.sweep.compose import Composer


@pytest.fixture(scope="module")
def master(hydra: Hydra) -> DictConfig:
    return hydra.compose_config("config", [], RunMode.MULTIRUN, with_log_configuration=False)


@pytest.fixture(scope="module")
def composer(hydra: Hydra, master: DictConfig) -> Composer:
    return Composer(hydra.config_loader, master)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["ranks=control", "training.epochs=3"],
        ["training.epochs=3", "+experiment=mnist", "training.l1=1e-4"],
        ["ranks.layers.1=7", "estimator=whitened", "estimator.energy_loss=0.01"],
        ["ranks.layers=[8,6]", "ranks.layers.0=4", "tracking.sweep='/a b/c'"],
        ["+sweeps=mnist_table", "ranks=25-25-25"],
    ],
)
def test_the_same_as_hydras_own(
    overrides: list[str], composer: Composer, hydra: Hydra, master: DictConfig
) -> None:
    expected = hydra.config_loader.load_sweep_config(master, overrides)
    for _ in range(2):  # the second time from what was kept
        found = composer.config(overrides)
        for cfg in (found, expected):
            cfg.hydra.job.override_dirname = "its own"
        assert OmegaConf.to_container(found) == OmegaConf.to_container(expected)


def test_what_does_not_fit_is_said_as_hydra_says_it(composer: Composer) -> None:
    with pytest.raises(HydraException, match=r"Could not override 'training.lr'"):
        composer.config(["training.lr=3"])
    with pytest.raises(HydraException, match=r"training.epochs=many"):
        composer.config(["training.epochs=many"])
    with pytest.raises(UserError, match=r"^training.epochs=0: expected a positive whole number$"):
        composer.checked(["training.epochs=0"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (["ranks=16-12"], ["ranks.layers=[16,12]"], True),
        (["training.l1=0.001"], ["training.l1=1e-3"], True),
        (["data.verify=false", "test=false", "tracking.uri='sqlite:///x.db'"], ["training.device=cpu"], True),
        (["training.seed=1"], ["training.seed=2"], False),
        (["ranks=control", "estimator=svd"], ["ranks=control", "estimator=whitened"], True),
        (["estimator=svd"], ["estimator=whitened"], False),
        # Evaluated again: who names no ranks keeps the trained ones, whatever this command's default is.
        (["task=evaluate", "run=a"], ["task=evaluate", "run=b"], False),
        (["task=evaluate", "run=a", "ranks=16-12"], ["task=evaluate", "run=a"], False),
        (["task=evaluate", "run=a", "ranks=16-12"], ["task=evaluate", "run=a", "ranks=16-12"], True),
    ],
)
def test_when_two_are_one_point(one: list[str], other: list[str], same: bool, composer: Composer) -> None:
    def hashed(overrides: Sequence[str]) -> str:
        return identity(composer.checked(overrides), overrides)

    assert (hashed(one) == hashed(other)) == same
