"""Which run of before is meant, and which settings a command gives it."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.tasks.earlier import Earlier, changes_estimator, find


@pytest.fixture
def trained(tmp_path: Path) -> Config:
    """The settings of a run whose folder this is; nothing else is left of it."""
    overrides = ["training.epochs=3", "ranks=energy", "estimator=whitened", "tracking.register=net"]
    settings = check(composed([*overrides, "estimator.moments=running"]))
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(settings)))
    return settings


def evaluated(folder: Path, *overrides: str) -> Earlier:
    given = ["task=evaluate", f"run={folder}", *overrides]
    return find(check(composed(given)), given, "run")


def test_without_overrides_a_run_keeps_its_settings_but_for_what_only_training_has(
    trained: Config, tmp_path: Path
) -> None:
    earlier = evaluated(tmp_path)
    assert earlier.folder.path == tmp_path
    assert earlier.run_id is None
    assert earlier.trained == trained
    trained.estimator.moments = "calibration"  # nothing is trained that could keep them up
    trained.tracking.register = None
    assert earlier.settings == trained


def test_ranks_given_now_take_the_place_of_what_set_them_then(trained: Config, tmp_path: Path) -> None:
    ranks = evaluated(tmp_path, "ranks.layers=[9,8]").settings.ranks
    assert (ranks.layers, ranks.energy, ranks.budget) == ([9, 8], None, None)
    ranks = evaluated(tmp_path, "ranks.layers.1=5").settings.ranks  # of the list that nothing said has
    assert (ranks.layers, ranks.energy) == ([16, 5], None)
    ranks = evaluated(tmp_path, "ranks=budget").settings.ranks
    assert (ranks.layers, ranks.energy, ranks.budget) == (None, None, 0.1)
    assert evaluated(tmp_path, "estimator.energy_loss=0.01").settings.ranks.energy == 0.5


def test_values_mean_something_only_on_top_of_the_run(trained: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        evaluated(tmp_path, "ranks.layers=[9]")
    assert str(caught.value) == (
        "ranks.layers=[9]: expected 2 ranks, one per hidden layer of 64-256-128-10; found 1"
    )


def test_what_a_run_cannot_take_is_refused(trained: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^architecture\.hidden: cannot change with run=\.\.\.; only "):
        evaluated(tmp_path, "architecture.hidden=[32,16]")


def test_a_study_on_a_run_says_things_of_its_own(trained: Config, tmp_path: Path) -> None:
    settings = evaluated(tmp_path, "+sweeps=mnist_posthoc", "sweep.seed=3", "tracking.sweep=study").settings
    assert settings.data.name == trained.data.name == "digits"
    assert (settings.sweep.seed, [*settings.sweep.objectives]) == (
        3,
        ["validation_error", "measured_speedup_batch256"],
    )
    assert settings.of_a_search  # and is timed at what this search aims at
    assert not trained.of_a_search


def test_a_run_that_goes_on_is_still_to_be_registered(trained: Config, tmp_path: Path) -> None:
    given = [f"training.resume={tmp_path}", "training.epochs=5"]
    settings = find(check(composed(given)), given, "training.resume").settings
    assert settings.tracking.register == "net"
    assert (settings.training.epochs, settings.estimator.moments) == (5, "running")


def test_a_folder_that_no_run_wrote_its_settings_into(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        evaluated(tmp_path)
    assert str(caught.value) == (
        f"run={tmp_path}: {tmp_path}/config.yaml is missing; expected a run id or the folder of a ccsweep run"
    )


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["task=evaluate", "run=0123ab"], False),
        (["ranks=control"], True),
        (["ranks.layers.0=3"], True),
        (["+estimator.threshold=1"], True),
        (["training.device=cpu"], False),
    ],
)
def test_which_overrides_give_a_network_other_factors(overrides: list[str], changed: bool) -> None:
    assert changes_estimator(overrides) is changed
