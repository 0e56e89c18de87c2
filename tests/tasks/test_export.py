"""An exported trial is run again, and must give the figure that the study has."""

import json
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.errors import UserError
from ccsweep.study.folder import TrialFolder
from ccsweep.study.identity import settings_of
from ccsweep.tasks.experiment import experiment, settings_in
from ccsweep.tasks.export import command_of, export
from tests.conftest import User
from tests.report.study import studies

BASE = ["training.epochs=2", "architecture.hidden=[32,16]"]
OWN = ["ranks=16-12", "ranks.layers.0=9", "estimator=whitened", "estimator.energy_loss=0.0032005908742293865"]


def exported(name: str, pick: str = "trial:0", to: str | None = None) -> Path:
    config = check(composed(["task=export", f"sweep.name={name}"]))
    config.pick, config.to = pick, to
    return Path(export(config, TrialFolder(Path("outputs", "now")), [])["path"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_an_exported_trial_gives_its_figure_again(user: User, here: Path) -> None:
    ran = user.run(*BASE, *OWN, "hydra.run.dir=outputs/sweeps/s/trials/0", "test=false")
    assert ran.returncode == 0, ran.stderr
    folder = here / "outputs" / "sweeps" / "s"
    report = json.loads((folder / "trials" / "0" / "report.json").read_text())
    study = studies.create(folder, base=BASE)
    values = (report["validation_error"], 2.0)
    scalars = {"samples.validation": report["samples"]["validation"], "seed": 0}
    attrs = {"overrides": OWN, "folder": str(folder / "trials" / "0"), "report": scalars}
    studies.add(study, TrialState.COMPLETE, values, **attrs)
    path = exported("s", to="mine/again")
    assert path == here / "mine" / "again.yaml"
    first, second = path.read_text().splitlines()[1:3]
    assert first.startswith(f"# Trial 0 of the study s: validation_error {values[0]:.6g}, ")
    assert first.endswith("(n = 180 validation images, seed 0).")
    command = command_of(path)
    assert second == f"#   {command}"
    again = user.run(*command.split()[3:], "hydra.run.dir=outputs/again")
    assert again.returncode == 0, again.stderr
    found = json.loads((here / "outputs" / "again" / "report.json").read_text())
    assert found["validation_error"] == report["validation_error"]
    assert "test_error" in found  # a study has not looked at it, the picked network may


@pytest.mark.parametrize(
    ("base", "own"),
    [
        (["+experiment=mnist", "training.epochs=3"], ["ranks=25-25-25", "training.l1=1e-06"]),
        (["+experiment=mnist"], ["ranks.layers.1=12", "estimator=whitened-centred"]),
        (["+sweeps=mnist_table", "training=mnist-paper"], ["ranks=control", "training.seed=2"]),
        (["+sweeps=digits_pareto"], ["ranks=16-12", "ranks.layers.0=3", "ranks.layers.1=5", "estimator=svd"]),
        ([], ["ranks=energy", "ranks.energy=0.25", "estimator.gate_in_training=3"]),
    ],
)
def test_a_file_comes_to_the_settings_of_its_trial(base: list[str], own: list[str], here: Path) -> None:
    wanted = settings_of(check(composed([*base, *own])))
    (here / "group").mkdir()
    text = experiment(base, own, None).text(["What it is."])
    assert text.splitlines()[:2] == ["# @package _global_", "# What it is."]
    (here / "group" / "it.yaml").write_text(text)
    found = check(composed([f"hydra.searchpath=[file://{here}]", "+group=it"]))
    assert settings_of(found) == wanted


def test_what_the_trial_ran_with_wins_over_what_its_overrides_mean_today(here: Path) -> None:
    ran = check(composed(["training.epochs=2"]))
    ran.training.momentum = 0.123  # a file of the configs that has changed since
    (here / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(ran)))
    assert experiment(["training.epochs=2"], [], settings_in(TrialFolder(here))).values == {
        "training.epochs": 2,
        "training.momentum": 0.123,
    }


def test_a_trial_on_a_trained_run_names_only_what_it_changed() -> None:
    base = ["+sweeps=mnist_posthoc", "run=123e4567"]
    own = ["ranks.layers.0=40", "estimator=svd", "estimator.energy_loss=null"]
    found = experiment(base, own, None)
    assert found.options == {"ranks": "50-35-25", "estimator": "svd"}
    assert found.values["ranks.layers"] == [40, 35, 25]
    assert not any(key.startswith(("data", "training", "architecture")) for key in found.values)
    read = OmegaConf.create(found.text([]))
    assert (read.task, read.run) == ("evaluate", "123e4567")


def test_a_trial_on_own_data_names_their_file() -> None:
    base = ["data=arrays", "data.file=mine.npz", "ranks=budget", "training.epochs=2"]
    found = experiment(base, ["ranks.budget=0.1"], None)
    assert found.options == {"data": "arrays", "ranks": "budget"}
    assert found.values == {"data.file": "mine.npz", "ranks.budget": 0.1, "training.epochs": 2}
    assert experiment(base, ["ranks=control"], None).options == {"data": "arrays", "ranks": "control"}


def test_names_and_paths(here: Path) -> None:
    study = studies.create(here / "outputs" / "sweeps" / "s")
    studies.add(study, TrialState.COMPLETE, (1.5, 2.0), params={}, overrides=["ranks=control"])
    path = exported("s", "error<=1.6", "to/x.yaml")
    with pytest.raises(UserError) as caught:
        exported("s", "knee", "to/x.yaml")
    hint = "exists already; give another name with to=NAME, or remove it first"
    assert str(caught.value) == f"to={path}: {hint}"
    (here / "file").write_text("")
    with pytest.raises(UserError) as caught:
        exported("s", "knee", "file/x.yaml")
    assert str(caught.value).endswith("choose another path")
    with pytest.raises(UserError) as caught:
        exported("s", "knee", "my name")
    assert str(caught.value) == "to=my name: expected a name of letters, digits, '-', '_' and '.', or a path"
    for place in ("/", "/x"):
        with pytest.raises(UserError) as caught:
            exported("s", "knee", place)
        hint = "a file at the top of the disk has no group to run as; choose a folder"
        assert str(caught.value) == f"to={place}: {hint}"
    assert not list(here.glob("**/.*.yaml.*"))


def test_passwords_stay_out(here: Path) -> None:
    study: optuna.Study = studies.create(here / "outputs" / "sweeps" / "s")
    study.set_user_attr("command", "python -m ccsweep -m sweep.storage=postgresql://ann:s3cret@db/x")
    studies.add(study, TrialState.COMPLETE, (1.5, 2.0), params={}, overrides=["ranks=control"])
    text = exported("s", to="to/x").read_text()
    assert "s3cret" not in text
    assert "postgresql://ann:***@db/x" in text
