"""The sweeper on Hydra's own loader and launcher, in this process; its task hands over a report at once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

import ccsweep.app  # noqa: F401  registers the schema and the resolver
from ccsweep.config import root
from ccsweep.errors import UserError
from tests.report.test_rows import report

Sweep = Callable[..., list[JobReturn]]


def task(cfg: DictConfig) -> dict[str, Any]:
    """A run without work; it fails at a learning rate of 9."""
    if cfg.training.learning_rate == 9:
        raise UserError("nothing was learned")
    ranks = "-".join(map(str, cfg.ranks.layers)) if cfg.ranks.layers else "control"
    return report(ranks, cfg.training.seed, 2.0 + cfg.training.seed)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """What ``python -m ccsweep -m ...`` does in the folder of the test, its figures in ``out``."""
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()

    def sweep(*overrides: str) -> list[JobReturn]:
        hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
        quiet = ["hydra.sweep.dir=out", "hydra/job_logging=none", "hydra/hydra_logging=none"]
        return hydra.multirun("config", task, [*overrides, *quiet], with_log_configuration=False)

    yield sweep
    GlobalHydra.instance().clear()


def table() -> dict[str, Any]:
    return json.loads(Path("out/table.json").read_text())


def test_every_combination_runs_with_every_seed(sweep: Sweep) -> None:
    results = sweep("ranks=control,16-12", "training.epochs=4", "seeds=3")
    expected = [(ranks, seed) for ranks in ("control", "16-12") for seed in (0, 1, 2)]
    assert [(r.return_value["ranks"], r.return_value["seed"]) for r in results] == expected
    found = table()
    assert [row["settings"] for row in found["rows"]] == [{"ranks": "control"}, {"ranks": "16-12"}]
    assert [row["test_error"] for row in found["rows"]] == [3.0, 3.0]
    assert [row["test_error_sd"] for row in found["rows"]] == [1.0, 1.0]
    # Enough to run it again; nothing of the sweep that it belonged to.
    assert found["runs"][-1]["overrides"] == ["ranks=16-12", "training.epochs=4", "training.seed=2"]


def test_a_swept_seed_is_no_row_either(sweep: Sweep) -> None:
    sweep("training.seed=3,5")
    (row,) = table()["rows"]
    assert row["seeds"] == [3, 5]
    assert row["settings"] == {"ranks": "16-12"}


@pytest.mark.parametrize("name", ["mnist_table", "svhn_table"])
def test_every_row_of_the_papers_tables_has_its_value(name: str) -> None:
    sweeper = OmegaConf.load(root() / "sweeps" / f"{name}.yaml").hydra.sweeper
    assert list(sweeper.paper) == sweeper.params.ranks.split(",")
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
