"""What a command asks for, read without running anything."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccsweep.errors import UserError
from ccsweep.study.notes import Definition
from ccsweep.sweep.plan import Plan
from tests.report.study import studies
from tests.sweep.conftest import AIM, Command

Plans = Callable[..., Plan]
SEARCH = [AIM, "training.l1=interval(0,1)", "sweep.n_trials=3"]


@pytest.fixture
def plan(command: Callable[..., Command]) -> Plans:
    return lambda *overrides: command(*overrides).plan


def test_a_grid(plan: Plans, folder: Path) -> None:
    found = plan("training.l1=0,1", "ranks=control,16-12", "training.epochs=4", "seeds=2")
    assert found.is_grid
    assert found.points == [
        {"training.l1": l1, "ranks": ranks, "training.seed": seed}
        for l1 in (0, 1)
        for ranks in ("control", "16-12")
        for seed in (0, 1)
    ]
    assert found.target == 8
    assert found.objectives == {"validation_error": "minimize"}
    assert found.folder.path == folder / "out"
    assert found.definition == Definition(
        space={"training.l1": "0,1", "ranks": "control,16-12", "training.seed": "range(0,2)"},
        base=["training.epochs=4"],
        seeds=2,
    )
    assert found.rules.objectives == {"validation_error": "minimize"}
    assert (found.rules.constraints, found.rules.retries, found.uri) == ([], 1, None)
    own = ["training.l1=0", "ranks=control"]
    assert found.overrides(own) == ["training.epochs=4", *own, f"tracking.sweep='{folder / 'out'}'"]
    assert found.single(own) == "python -m ccsweep training.epochs=4 training.l1=0 ranks=control"


def test_a_search(plan: Plans, folder: Path) -> None:
    found = plan(
        *SEARCH,
        "sweep.constraints=['false_off<=0.2']",
        "sweep.pruning=validation/error",
        "sweep.points=['training.l1=0.5']",
        "sweep.retries=3",
        "+sweep.space={training.l2:'choice(0,1)',training.l1:'interval(0,9)'}",
        "+sweep.conditions={training.l2:'ranks=16-12'}",
        "tracking.uri='sqlite:///runs.db?password=s3cret'",
        "training.source='password=s3cret'",
    )
    assert not found.is_grid
    assert (found.sampler, found.points, found.target) == ("tpe", [{"training.l1": 0.5}], 3)
    assert found.definition == Definition(
        space={"training.l2": "choice(0,1)", "training.l1": "interval(0,1)"},  # the command line's wins
        conditions={"training.l2": "ranks=16-12"},
        objectives={"validation_error": "minimize"},
        constraints=["false_off<=0.2"],
        sampler="tpe",
        pruning="validation/error",
        base=["training.source='password=***'"],
        seeds=1,
    )
    assert found.base == ["training.source='password=s3cret'"]
    assert found.plain == ["tracking.uri='sqlite:///runs.db?password=s3cret'", *found.base]
    assert (found.rules.retries, [c.key for c in found.rules.constraints]) == (3, ["false_off"])
    assert found.uri == "sqlite:///runs.db?password=s3cret"
    # Test images are for the network that is picked.
    assert found.overrides([])[2:] == ["test=false", f"tracking.sweep='{folder / 'out'}'"]
    assert "password=***" in found.single([])
    assert "s3cret" not in found.single([])
    assert found.single([]).endswith(" test=false")
    assert found.space.fixed["ranks"] == "16-12"  # what is chosen where nothing is said


def test_test_images_where_the_command_asks_for_them(plan: Plans) -> None:
    found = plan(*SEARCH, "test=true")
    assert found.plain == ["test=true"]
    assert found.overrides([])[:1] == ["test=true"]
    assert "test=false" not in found.single([])


def test_what_says_how_a_study_runs_defines_no_trial(plan: Plans) -> None:
    found = plan(
        "training.l1=0,1", "sweep.workers=2", "+sweep.slurm.partition=gpu", "hydra.job.name=x", "pick=knee"
    )
    assert (found.plain, found.base) == ([], [])


def test_the_last_of_a_key_counts(plan: Plans) -> None:
    found = plan("training.l1=0,1", "training.l1=2", "training.l2=3", "training.l2=4,5")
    assert found.definition.space == {"training.l2": "4,5"}
    assert found.plain == ["training.l1=2"]
    fixed = plan("+sweep.space={training.l1:'0,1',training.l2:'2,3'}", "training.l1=7")
    assert fixed.definition.space == {"training.l2": "2,3"}
    assert fixed.plain == ["training.l1=7"]


def test_a_search_that_begins_with_the_front_of_another(plan: Plans, folder: Path) -> None:
    other = studies.typical(folder / "outputs" / "sweeps" / "other")  # front: trials 4, 1, 7, 9
    params = [other.get_trials()[number].params for number in (4, 1, 7, 9)]
    warm = [*SEARCH, "sweep.from=other"]
    assert plan(*warm).points == [{"training.l1": p["training.l1"]} for p in params]
    narrow = ["training.l1=interval(1e-6,5e-6)", *SEARCH[:1], *SEARCH[2:], "estimator=svd,whitened"]
    inside = [p for p in params if 1e-6 <= p["training.l1"] <= 5e-6]
    assert 0 < len(inside) < 4
    found = plan(*narrow, "sweep.from=outputs/sweeps/other", "sweep.points=['estimator=svd']").points
    assert found == [
        {"estimator": "svd"},
        *({"training.l1": p["training.l1"], "estimator": p["estimator"]} for p in inside),
    ]


def test_points_of_a_grid_that_come_first(plan: Plans) -> None:
    found = plan("training.l1=0,1,2", "sweep.points=['training.l1=2']", "sweep.n_trials=2")
    assert found.points == [{"training.l1": 2}, {"training.l1": 0}, {"training.l1": 1}]
    assert found.target == 2


@pytest.mark.parametrize(
    ("condition", "other", "value"),
    [
        ("ranks=control", "ranks", "16-12"),  # a group's choice
        ("training.epochs!=4", "training.epochs", "40"),
        ("data.dir=x", "data.dir", "null"),
        ("data.verify = true", "data.verify", "true"),
    ],
)
def test_conditions_ask_for_what_the_config_says(condition: str, other: str, value: str, plan: Plans) -> None:
    conditions = f"+sweep.conditions={{training.l1:'{condition}'}}"
    found = plan(*SEARCH, conditions)
    assert found.space.fixed[other] == value


def test_conditions_ask_for_what_the_command_says_first(plan: Plans) -> None:
    conditions = "+sweep.conditions={training.l1:'ranks!=control',training.l2:'training.epochs=4'}"
    found = plan(*SEARCH, "training.l2=0,1", conditions, "ranks=control", "training.epochs=3,4")
    assert found.space.fixed["ranks"] == "control"
    assert "training.epochs" not in found.space.fixed  # it is searched


def test_the_command_for_people(plan: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ccsweep", "-m", "training.l1=0,1", "x='a b?password=s3cret'"])
    found = plan("training.l1=0,1")
    assert found.command == ["python", "-m", "ccsweep", "-m", "training.l1=0,1", "x='a b?password=s3cret'"]
    assert found.shown_command.startswith("python -m ccsweep -m training.l1=0,1 ")
    assert "password=***" in found.shown_command
    assert found.command_to_go_on == f"{found.shown_command} hydra.sweep.dir={folder / 'out'}"
    monkeypatch.setattr(sys, "argv", ["ccsweep", "-m", "training.l1=0,1", "hydra.sweep.dir=out"])
    assert (
        plan("training.l1=0,1").command_to_go_on == "python -m ccsweep -m training.l1=0,1 hydra.sweep.dir=out"
    )
    monkeypatch.setattr(sys, "argv", ["ccsweep", "-m", "training.l1=0,1", "sweep.name=digits"])
    named = plan("training.l1=0,1", "sweep.name=digits")
    assert named.command_to_go_on == named.shown_command


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["task=benchmark"], "task=benchmark: is one run; leave -m out"),
        (
            ["training.l1=0,1", "seeds=2", "task=evaluate"],
            "seeds=2: repeats training, and task=evaluate trains nothing",
        ),
        (["training.l1=0,1", "seeds=-1"], "seeds=-1: expected 1 or more"),
        (
            [*SEARCH, "sweep.from=here/out"],
            "sweep.from=here/out: here/out holds no study; here holds none at all",
        ),
        ([*SEARCH, "sweep.from=./out"], "sweep.from=./out: is this study itself; expected another one"),
        (
            ["training.l1=0,1", "sweep.from=a"],
            "sweep.from=a: a grid has its points; expected sweep.objectives with it",
        ),
        ([*SEARCH, "seeds=2"], "seeds=2: repeats the points of a grid; sweep.sampler=tpe has none"),
        (
            ["+sweep.space={training.seed:'5,6'}", "seeds=2"],
            "training.seed=5,6: seeds=2 gives 0 to 1; leave one of the two out",
        ),
        (["tracking.uri=a,b"], "tracking.uri=a,b: is the same for all trials; expected one value"),
        (["test=true,false"], "test=true,false: is the same for all trials; expected one value"),
        (["task=train,evaluate"], "task=train,evaluate: is the same for all trials; expected one value"),
        (["to=a,b", "training.l1=1"], "to=a,b: is the same for all trials; expected one value"),
        (
            ["training.l1=0,-1"],
            "training.l1=-1.0: expected 0 or more",
        ),
        (
            [AIM, "training.epochs=interval(-2,3)", "sweep.n_trials=1"],
            "sweep.space allows training.epochs=-2: training.epochs=-2: expected a positive whole number",
        ),
        (
            [*SEARCH, "training.dropout_input=choice(0,0.5,1)"],
            # What RandomState(0) draws first, and one end after the other.
            "sweep.space allows training.l1=0.5488135039273248 training.dropout_input=1: "
            "training.dropout_input=1.0: expected at least 0 and below 1",
        ),
    ],
)
def test_what_cannot_be_meant(overrides: list[str], complaint: str, plan: Plans, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        plan(*overrides)
    assert str(caught.value) == complaint
    assert list(folder.iterdir()) == []
