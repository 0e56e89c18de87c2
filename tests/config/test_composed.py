"""Configs composed in Python, and files of the configs as they are read."""

from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from ccsweep.config.check import check
from ccsweep.config.composed import composed, read_file, read_settings
from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.study.identity import settings_of


def test_a_config_is_whole_typed_and_not_shared() -> None:
    first, second = composed(["+experiment=mnist", "training.epochs=3"]), composed([])
    assert OmegaConf.get_type(first) is Config
    assert (first.data.name, first.training.epochs) == ("mnist", 3)
    assert (second.data.name, second.training.epochs) == ("digits", 40)
    assert "hydra" not in first


def test_unknown_keys_are_refused_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("training:\n  lr: 1\nsweep: {}\n")
    with pytest.raises(UserError) as caught:
        read_settings(tmp_path / "config.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/config.yaml: cannot be read as settings (Key 'lr' not in 'TrainingConfig'); "
        "restore the file, or train the run again"
    )
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'training\.lr'"):
        composed(["training.lr=1"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"training: [1, 2", "while parsing a flow sequence"),
        (b"\xff\xfe\x00", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"7", "Invalid loaded object type: int"),
        (b"training: 7\nsweep: {}\n", "Merge error: int is not a subclass of TrainingConfig. value: 7"),
        (
            b"training:\n  epochs: many\nsweep: {}\n",
            "Value 'many' of type 'str' could not be converted to Integer",
        ),
    ],
)
def test_damaged_settings_are_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as settings (")
    assert str(caught.value).endswith("; restore the file, or train the run again")
    assert "\n" not in str(caught.value)
    assert reason in str(caught.value)


def test_overrides_that_mean_nothing() -> None:
    with pytest.raises(MissingConfigException):
        composed(["+experiment=svhm"])


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    ran = check(composed(["+sweeps=digits_pareto", "+sweep.slurm.partition=gpu", "ranks=control"]))
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(ran)))
    assert OmegaConf.to_object(read_settings(tmp_path / "config.yaml")) == ran


def test_settings_that_were_cut_off_are_refused_wherever_that_was(tmp_path: Path) -> None:
    """Half a mapping is a mapping in YAML; what is lost of the last group is no setting of a run."""
    ran = check(composed(["+experiment=mnist", "training.epochs=3"]))
    lines = OmegaConf.to_yaml(OmegaConf.structured(ran)).splitlines(keepends=True)
    last = lines.index("sweep:\n") + 2
    path = tmp_path / "config.yaml"
    for count in range(1, last):
        path.write_text("".join(lines[:count]))
        with pytest.raises(UserError, match="cannot be read as settings"):
            read_settings(path)
    assert last < len(lines)
    for count in range(last, len(lines)):
        path.write_text("".join(lines[:count]))
        assert settings_of(check(read_settings(path))) == settings_of(ran)
    path.write_text("".join(lines[:20]))
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert str(caught.value) == (
        f"{path}: cannot be read as settings (it ends before sweep); restore the file, or train the run again"
    )


def test_a_key_that_an_older_run_did_not_know_has_its_default(tmp_path: Path) -> None:
    ran = composed(["+experiment=svhn", "training.seed=3"])
    older = OmegaConf.to_container(ran)
    assert isinstance(older, dict)
    del older["training"]["patience"], older["test"]
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(older)))
    assert check(read_settings(tmp_path / "config.yaml")) == check(ran)


def test_a_file_says_which_options_it_chooses_and_what_it_sets(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - /experiment/mnist\n"
        "  - /experiment: mnist_sparse\n"
        "  - override /ranks: control\n"
        "  - _self_\n"
        "task: evaluate\n"
        "ranks:\n"
        "  layers: [1, 2]\n"
        "sweep:\n"
        "  space:\n"
        "    training.l1: interval(0,1)\n"
    )
    said = read_file(path)
    assert said.options == [("experiment", "mnist"), ("experiment", "mnist_sparse"), ("ranks", "control")]
    assert said.values == {
        "task": "evaluate",
        "ranks.layers": [1, 2],
        "sweep.space.training.l1": "interval(0,1)",
    }
