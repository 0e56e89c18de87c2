"""Points of several dimensions, and the conditions between them."""

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ccsweep.errors import UserError
from ccsweep.study.space import Params, Space


def lines(space: Space) -> list[str]:
    return [" ".join(space.overrides(point)) for point in space.points()]


def test_points_in_the_order_of_hydras_own_sweeper(parser: OverridesParser) -> None:
    space = Space({"ranks": "control,16-12", "training.l1": "range(0.1,0.4,0.1)"}, {}, {}, parser)
    assert lines(space)[:3] == [
        "ranks=control training.l1=0.1",
        "ranks=control training.l1=0.2",
        "ranks=control training.l1=0.3",
    ]
    assert space.count() == len(lines(space)) == 6


CONDITIONAL = {"estimator.threshold": "0,1", "estimator": "svd,whitened", "ranks": "control,16-12"}


def test_what_a_condition_leaves_out_makes_no_point(parser: OverridesParser) -> None:
    conditions = {"estimator": "ranks!=control", "estimator.threshold": "estimator=svd|random"}
    space = Space(CONDITIONAL, conditions, {}, parser)
    assert lines(space) == [
        "ranks=control",
        "estimator.threshold=0 estimator=svd ranks=16-12",
        "estimator=whitened ranks=16-12",
        "estimator.threshold=1 estimator=svd ranks=16-12",
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {" ".join(space.overrides(space.suggest(study.ask()))) for _ in range(60)}
    assert drawn == set(lines(space))


def test_a_condition_on_what_the_command_line_fixes(parser: OverridesParser) -> None:
    space = Space(
        {"estimator": "svd,whitened"}, {"estimator": "ranks!=control"}, {"ranks": "control"}, parser
    )
    assert lines(space) == [""]


def test_conditions_in_a_circle(parser: OverridesParser) -> None:
    conditions = {"estimator": "ranks!=control", "ranks": "estimator=svd"}
    with pytest.raises(UserError) as caught:
        Space(CONDITIONAL, conditions, {}, parser)
    assert str(caught.value) == "sweep.conditions: estimator, ranks wait for each other"


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ("", {}),
        ("ranks=control", {"ranks": "control"}),
        (
            "ranks=16-12  estimator.threshold=1 estimator='svd'",
            {"ranks": "16-12", "estimator.threshold": 1, "estimator": "svd"},
        ),
        ("training.l1=0.5 ranks=control", {"ranks": "control"}),  # the command says the last word
    ],
)
def test_a_point_from_a_line(line: str, point: Params, parser: OverridesParser) -> None:
    assert Space(CONDITIONAL, {}, {"training.l1": "0"}, parser).read_point(line, parser) == point


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ranks=other", "ranks=other: expected a value of sweep.space, ranks=control,16-12"),
        ("ranks=", "ranks=: expected a value of sweep.space, ranks=control,16-12"),
        (
            "ranks=control,16-12",
            f"ranks=control,16-12 is no value of a searched key ({', '.join(CONDITIONAL)}); did you mean 'ranks'?",
        ),
        (
            "estimtor=svd",
            f"estimtor=svd is no value of a searched key ({', '.join(CONDITIONAL)}); did you mean 'estimator'?",
        ),
        ("ranks", "ranks: cannot be read; expected choice(a,b), range(1,10) or interval(0,1)"),
    ],
)
def test_what_is_no_point(line: str, complaint: str, parser: OverridesParser) -> None:
    with pytest.raises(UserError) as caught:
        Space(CONDITIONAL, {}, {}, parser).read_point(line, parser)
    assert str(caught.value) == f"sweep.points: {complaint}"


def test_the_points_that_there_are_at_most(parser: OverridesParser) -> None:
    space = Space(CONDITIONAL, {"estimator": "ranks!=control"}, {}, parser)
    assert (len(space), space.count()) == (3, 8)
    assert space["ranks"].text == "control,16-12"
    assert len(list(space.points())) == 6
    endless = {**CONDITIONAL, "training.l1": "interval(0,1)"}
    assert Space(endless, {}, {}, parser).count() is None
    empty = Space({}, {}, {}, parser)
    assert (len(empty), empty.count(), list(empty.points())) == (0, 1, [{}])


def test_a_point_without_what_its_conditions_leave_out(parser: OverridesParser) -> None:
    conditions = {"estimator": "ranks!=control", "estimator.threshold": "estimator=svd"}
    space = Space(CONDITIONAL, conditions, {}, parser)
    whole = {"ranks": "16-12", "estimator": "svd", "estimator.threshold": 1, "training.l1": 0.5}
    assert list(space.active(whole).items()) == [
        ("estimator.threshold", 1),
        ("estimator", "svd"),
        ("ranks", "16-12"),
    ]
    assert space.active(whole | {"estimator": "whitened"}) == {"ranks": "16-12", "estimator": "whitened"}
    assert space.active(whole | {"ranks": "control"}) == {"ranks": "control"}
    assert space.active({"estimator": "svd"}) == {}  # whose ranks are not known
    assert Space(CONDITIONAL, {}, {}, parser).active({"ranks": "control"}) == {"ranks": "control"}
    assert space.overrides({"ranks": "control", "estimator.threshold": 1}) == [
        "estimator.threshold=1",
        "ranks=control",
    ]


def test_conditions_that_name_no_key(parser: OverridesParser) -> None:
    with pytest.raises(UserError) as caught:
        Space(CONDITIONAL, {"rank": "estimator=svd"}, {"training.l1": "0"}, parser)
    assert str(caught.value) == "sweep.conditions: rank is not in sweep.space; did you mean 'ranks'?"
    with pytest.raises(UserError) as caught:
        Space(CONDITIONAL, {"ranks": "estimater=svd"}, {"training.l1": "0"}, parser)
    assert str(caught.value) == (
        "sweep.conditions: ranks: estimater is neither in sweep.space nor given; did you mean 'estimator'?"
    )
    # Of a key that the command line fixes, a condition says nothing any more.
    assert len(Space(CONDITIONAL, {"training.l1": "estimator=svd"}, {"training.l1": "0"}, parser)) == 3
