"""A point's name is for years: a study that goes on must know its trials of before by it."""

import copy
from typing import Any

import pytest

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.schema import Config
from ccsweep.study.identity import identity, settings_of

# Computed by the code of commit 7335a4b.
BEFORE = {
    "": "529ef162017e3851fddcdff233b36e6093ecdc9715cc08fcb730f54aab6f6e33",
    "+experiment=mnist": "151eb957edcc0847d2a90c8fd5e6bf2e57a9976aea25fc860b41fbe5b26da5c8",
    "+experiment=svhn_sparse": "8eb4ebe411600694885430a4ff5965b7b4d0954fa86e5b6dc29cd576c60f1edd",
    "+experiment=mnist ranks=control": "fc0ac2e0e51e6ca769c1963afefe51bc13562e73523cde3c4dc1ec1de6128b94",
    "+experiment=mnist ranks=energy ranks.energy=0.9": "fcdd35f1ece4b7613c9485c5118424adbe157092fdbb40f72799995856eeb16f",
    "task=evaluate run=0123ab ranks=control": "c13dbcf46aee50c236defc0de90ed275aa30bc7dbf503c31c0059284e05c6a80",
    "task=evaluate run=0123ab estimator=whitened": "12c0cd269fc980581bf23c3ffe765672a2d8946b68b088100fbec0ce5148b599",
    "training.l1=1e-4 training.patience=3 training.max_minutes=2": "2d858c3379e9b1135869b1537c69b67c276526131e91fef39454ff00fb1936f1",
    "data.samples=100": "6e3b3cd074927ca17e5c62f7fbd74a41e3fc2217d50ff20b6634eb44daaa471d",
}


@pytest.mark.parametrize("command", BEFORE)
def test_hashes_of_before_still_hold(command: str) -> None:
    overrides = command.split()
    assert identity(check(composed(overrides)), overrides) == BEFORE[command]


@pytest.fixture(scope="module")
def usual() -> Config:
    return check(composed([]))


def changed(original: Config, key: str, value: object) -> Config:
    new = copy.deepcopy(original)
    *groups, name = key.split(".")
    group: Any = new
    for part in groups:
        group = getattr(group, part)
    assert getattr(group, name) != value
    setattr(group, name, value)
    return new


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking.uri", "http://127.0.0.1:5000"),
        ("tracking.system_metrics", False),
        ("sweep.workers", 2),
        ("sweep.name", "other"),
        ("pick", "trial:3"),
        ("to", "best"),
        ("seeds", 5),
        ("test", False),
        ("data.dir", "/data"),
        ("data.verify", False),
        ("training.device", "cpu"),
        ("training.resume", "/run"),
    ],
)
def test_what_a_result_does_not_depend_on_is_left_out(key: str, value: object, usual: Config) -> None:
    assert identity(changed(usual, key, value)) == BEFORE[""]


def test_what_is_swept_all_the_same_makes_points(usual: Config) -> None:
    dense, skipping = (identity(usual, swept=[f"training.step={way}"]) for way in ("dense", "skipping"))
    assert len({dense, skipping, BEFORE[""]}) == 3
    assert identity(usual, swept=["training.l1=1e-4"]) == BEFORE[""]  # counts as a setting, as ever


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "evaluate"),
        ("run", "0123ab"),
        ("data.name", "mnist"),
        ("data.samples", 500),
        ("architecture.hidden", [16, 32]),
        ("ranks.layers", [8, 5]),
        ("estimator.threshold", 0.1),
        ("estimator.placement", "first"),
        ("training.seed", 1),
        ("training.precision", "bfloat16"),
        ("training.max_minutes", 1.0),
    ],
)
def test_what_it_depends_on_is_not(key: str, value: object, usual: Config) -> None:
    assert identity(changed(usual, key, value)) != BEFORE[""]


def test_an_estimator_that_is_not_used_changes_nothing(usual: Config) -> None:
    control = changed(usual, "ranks.layers", None)
    other = changed(control, "estimator.name", "whitened")
    assert identity(other) == identity(control)
    assert identity(other, ["estimator=whitened"]) == identity(control, ["estimator=svd", "ranks=control"])
    assert identity(changed(control, "training.seed", 1)) != identity(control)


def test_a_run_that_is_evaluated_again_keeps_what_no_override_names(usual: Config) -> None:
    gated = changed(usual, "task", "evaluate")
    assert identity(gated, ["ranks=8-4"]) == identity(gated, ["test=false", "ranks=other"])
    assert identity(gated, ["ranks=8-4"]) != identity(gated, [])
    assert identity(gated, ["estimator.threshold=0"]) != identity(gated, ["estimator=svd"])
    assert identity(gated, ["ranks=8-4", "estimator=svd"]) == identity(gated, ["estimator=svd", "ranks=8-4"])
    # Without ranks, because an override says so: whatever the estimator would be is not asked.
    control = changed(gated, "ranks.layers", None)
    other = changed(control, "estimator.name", "whitened")
    named = ["ranks=control", "estimator=whitened"]
    assert identity(other, named) == identity(control, ["ranks=control"])
    # By this command's default alone: the trained run's own ranks stand, and its estimator counts.
    assert identity(other, ["estimator=whitened"]) != identity(control, ["estimator=whitened"])


def test_the_settings_that_count(usual: Config) -> None:
    before = copy.deepcopy(usual)
    settings = settings_of(usual)
    assert list(settings) == ["task", "run", "data", "architecture", "ranks", "estimator", "training"]
    assert settings["ranks"] == {"layers": [16, 12], "energy": None, "budget": None}
    assert settings["data"]["name"] == "digits"
    assert not {"dir", "verify"} & set(settings["data"])
    assert not {"resume", "device"} & set(settings["training"])
    assert usual == before
