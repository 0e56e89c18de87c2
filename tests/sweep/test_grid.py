"""Grids: every combination once, a table over seeds at the end."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ccsweep.config.places import root
from ccsweep.errors import UserError
from tests.sweep.conftest import Sweep


def table() -> dict[str, Any]:
    return json.loads(Path("out/table.json").read_text())


def test_every_combination_runs_with_every_seed(sweep: Sweep) -> None:
    trials = sweep("ranks=control,16-12", "training.epochs=4", "seeds=3")
    expected = [(ranks, seed) for ranks in ("control", "16-12") for seed in (0, 1, 2)]
    assert [(t.user_attrs["ranks"], t.user_attrs["report"]["seed"]) for t in trials] == expected
    found = table()
    assert [row["settings"] for row in found["rows"]] == [{"ranks": "control"}, {"ranks": "16-12"}]
    assert [row["test_error"] for row in found["rows"]] == [3.0, 3.0]
    assert [row["test_error_sd"] for row in found["rows"]] == [1.0, 1.0]
    # Enough to run it again; nothing of the sweep that it belonged to.
    assert found["runs"][-1]["overrides"] == ["training.epochs=4", "ranks=16-12", "training.seed=2"]


def test_a_swept_seed_is_no_row_either(sweep: Sweep) -> None:
    sweep("training.seed=3,5")
    (row,) = table()["rows"]
    assert row["seeds"] == [3, 5]
    assert row["settings"] == {"ranks": "16-12"}


@pytest.mark.parametrize("name", ["mnist_table", "svhn_table"])
def test_every_row_of_the_papers_tables_has_its_value(name: str) -> None:
    sweeper = OmegaConf.load(root() / "sweeps" / f"{name}.yaml").sweep
    assert list(sweeper.paper) == sweeper.space.ranks.split(",")
    assert next(iter(sweeper.paper)) == "control"
    assert list(sweeper.paper.values()) == sorted(sweeper.paper.values())  # a lower rank costs more


def test_a_file_gives_the_papers_values_and_the_command_line_wins(sweep: Sweep) -> None:
    sweep("+sweeps=mnist_table", "ranks=25-25-25")
    (row,) = table()["rows"]
    assert (row["settings"], row["paper"]) == ({"ranks": "25-25-25"}, 1.6)


def test_failed_runs_stay_in_the_table(sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep("training.learning_rate=0.1,9", "seeds=2")
    assert str(caught.value) == "2 of 4 runs failed; see above"
    done, failed = table()["rows"]
    assert (done["seeds"], failed["seeds"], failed["runs"]) == ([0, 1], [], 2)
    assert [run["error"] for run in table()["runs"]] == [None, None, *["nothing was learned"] * 2]
    assert "| 9 | failed |" in Path("out/table.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["seeds=0"], "seeds=0: expected 1 or more"),
        (["seeds=1,2"], "seeds=1,2: expected one number; seeds=3 is seeds 0, 1 and 2"),
        (
            ["seeds=3", "training.seed=0,1"],
            "training.seed=0,1: seeds=3 gives 0 to 2; leave one of the two out",
        ),
        (["seeds=3", "training.seed=7"], "training.seed=7: seeds=3 gives 0 to 2; leave one of the two out"),
    ],
)
def test_seeds_that_cannot_be_meant(overrides: list[str], complaint: str, sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep(*overrides)
    assert str(caught.value) == complaint
    assert not Path("out").exists()
