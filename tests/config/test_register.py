"""What the configs ask of this project: folders that no two runs share, a study's own by its name."""

import re

from omegaconf import OmegaConf

from ccsweep.config.places import groups


def test_two_runs_of_one_second_do_not_share_a_folder() -> None:
    folders = {str(OmegaConf.create({"dir": "${ccsweep.unique:}"}).dir) for _ in range(50)}
    assert len(folders) == 50
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{6}", folder) for folder in folders)


def test_a_run_keeps_its_folder_however_often_it_is_asked() -> None:
    config = OmegaConf.create({"dir": "${ccsweep.unique:}", "again": "${ccsweep.unique:}"})
    assert config.dir == config.dir == config.again


def test_a_study_lies_by_its_name_its_path_or_else_where_it_is_told() -> None:
    def place(name: str | None) -> str:
        return str(OmegaConf.create({"name": name, "dir": "${ccsweep.sweep_dir:${name},elsewhere}"}).dir)

    assert place("digits") == "outputs/sweeps/digits"
    assert place("runs/digits") == "runs/digits"
    assert place(None) == "elsewhere"


def test_each_file_of_sweeps_is_an_option() -> None:
    from hydra.core.config_store import ConfigStore

    stored = ConfigStore.instance().list("sweeps")
    assert stored == [f"{name}.yaml" for name in groups()["sweeps"]]
