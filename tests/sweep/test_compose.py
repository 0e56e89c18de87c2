"""A trial's config: as Hydra composes it, and when two are one point."""

from collections.abc import Sequence
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from ccsweep.errors import UserError
from ccsweep.study.identity import identity
from ccsweep.sweep.compose import Composer, settings_in, without_hydra


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


def test_a_config_is_of_its_own_overrides_alone(composer: Composer) -> None:
    first = composer.config(["ranks=control", "training.epochs=3"])
    assert first.hydra.overrides.task == ["ranks=control", "training.epochs=3"]
    first.training.l1 = 7
    second = composer.config(["ranks=control", "training.l2=0.25"])
    assert second.hydra.overrides.task == ["ranks=control", "training.l2=0.25"]
    assert (second.training.epochs, second.training.l1, second.training.l2) == (40, 1e-5, 0.25)
    assert composer.checked(["ranks=control"]).training.epochs == 40


class Counting:
    """Hydra's loader, and what it was asked for."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self.loaded: list[list[str]] = []
        self.groups: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        self.loaded.append(overrides)
        return self._loader.load_sweep_config(master, overrides)

    def get_group_options(self, key: str) -> list[str]:
        self.groups.append(key)
        return self._loader.get_group_options(key)


def test_hydra_composes_once_for_all_trials_that_choose_the_same_options(
    hydra: Hydra, master: DictConfig
) -> None:
    loader = Counting(hydra.config_loader)
    composer = Composer(loader, master)  # type: ignore[arg-type]
    for l1 in ("0", "0.5", "1"):
        assert composer.config(["ranks=control", f"training.l1={l1}"]).training.l1 == float(l1)
        assert composer.checked(["ranks=control", f"training.l1={l1}"]).training.l1 == float(l1)
    assert loader.loaded == [["ranks=control"]]
    assert loader.groups == ["ranks", "training.l1"]
    composer.config(["ranks=16-12", "training.l1=0", "hydra.job.name=x"])
    assert loader.loaded[1:] == [["ranks=16-12", "hydra.job.name=x"]]


def test_settings_as_plain_objects(composer: Composer) -> None:
    cfg = composer.config(["ranks.layers=[8,6]", "training.epochs=3"])
    settings = settings_in(cfg)
    assert settings == composer.checked(["ranks.layers=[8,6]", "training.epochs=3"])
    assert type(settings.ranks.layers) is list
    cfg.training.epochs = "???"
    with pytest.raises(MissingMandatoryValue):
        settings_in(cfg)


def test_a_config_without_hydra_is_a_copy(composer: Composer) -> None:
    cfg = composer.config([])
    plain = without_hydra(cfg)
    assert "hydra" in cfg
    assert "hydra" not in plain
    plain.training.epochs = 1
    assert cfg.training.epochs == 40


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
