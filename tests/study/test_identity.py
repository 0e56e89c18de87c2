"""A point's name is for years: a study that goes on must know its trials of before by it."""

import pytest

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.study.identity import identity

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


@pytest.mark.parametrize(
    "aside",
    [
        "tracking.uri=http://127.0.0.1:5000",
        "tracking.system_metrics=false",
        "sweep.workers=2",
        "pick=trial:3",
        "to=best",
        "test=false",
        "data.dir=/data",
        "data.verify=false",
        "training.device=cpu",
    ],
)
def test_what_a_result_does_not_depend_on_is_left_out(aside: str) -> None:
    assert identity(check(composed([aside]))) == BEFORE[""]


@pytest.mark.parametrize(
    "setting",
    ["training.seed=1", "training.precision=bfloat16", "data.samples=500", "estimator.placement=first"],
)
def test_what_it_depends_on_is_not(setting: str) -> None:
    assert identity(check(composed([setting]))) != BEFORE[""]
