"""Hydra's sweeps as Optuna's distributions."""

import optuna
import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from ccsweep.config.places import root
from ccsweep.errors import UserError
from ccsweep.study.space import Params, Space


@pytest.fixture(scope="module")
def parser() -> OverridesParser:
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
    GlobalHydra.instance().clear()
    return OverridesParser.create(config_loader=hydra.config_loader)


@pytest.mark.parametrize(
    ("key", "text", "distribution"),
    [
        ("estimator", "choice(svd,whitened)", Choice(("svd", "whitened"))),
        ("estimator", "svd,whitened", Choice(("svd", "whitened"))),
        ("ranks", "16-12,control", Choice(("16-12", "control"))),
        ("estimator", "glob(whitened*)", Choice(("whitened", "whitened-centred"))),
        ("estimator.energy_loss", "null,0.01", Choice((None, 0.01))),
        ("ranks.layers", "[16,12],[8,6]", Choice(("[16,12]", "[8,6]"))),
        ("training.max_norm", "25", Choice((25,))),
        ("x", "true,false,1", Choice(("true", "false", "1"))),  # to Optuna 1 and true are one
        ("training.epochs", "range(1,5)", Int(1, 4)),
        ("training.epochs", "range(10,0,-3)", Int(1, 10, step=3)),
        ("training.l1", "range(0,1,0.25)", Float(0, 0.75, step=0.25)),
        ("training.l1", "interval(0,1)", Float(0, 1)),
        ("training.l1", "tag(log,interval(1e-6,1e-3))", Float(1e-6, 1e-3, log=True)),
        ("ranks.layers.0", "interval(5,200)", Int(5, 200)),  # the schema's field is a whole number
        ("estimator.calibration", "interval(99.5,500.5)", Int(100, 500)),
        ("training.l1", "int(interval(1,5))", Int(1, 5)),
        ("ranks.layers.2", "tag(log,int(interval(5,200)))", Int(5, 200, log=True)),
        ("ranks.layers.2", "int(tag(log,interval(5,200)))", Int(5, 200, log=True)),
    ],
)
def test_distributions(key: str, text: str, distribution: object, parser: OverridesParser) -> None:
    (dimension,) = Space({key: text}, {}, {}, parser).dimensions
    assert dimension.distribution == distribution


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
        ("ranks=control", {"ranks": "control"}),
        (
            "ranks=16-12 estimator.threshold=1 estimator='svd'",
            {"ranks": "16-12", "estimator.threshold": 1, "estimator": "svd"},
        ),
    ],
)
def test_a_point_from_a_line(line: str, point: Params, parser: OverridesParser) -> None:
    assert Space(CONDITIONAL, {}, {}, parser).read_point(line, parser) == point
