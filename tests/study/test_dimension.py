"""Hydra's sweeps as Optuna's distributions, and values as overrides and back."""

from collections.abc import Mapping
from math import inf, nan
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from ccsweep.errors import UserError
from ccsweep.study.dimension import (
    Condition,
    Dimension,
    is_whole,
    parse,
    read_condition,
    read_dimension,
    written,
)
from ccsweep.study.space import Space

SWEEPS = "expected choice(a,b), range(1,10) or interval(0,1)"


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


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("a,b,a", ("a", "b")),
        ("choice(3)", (3,)),
        ("null,false,0.5", (None, False, 0.5)),
        ("0,false", ("0", "false")),
        ("nan,1", ("nan", 1)),
        ("[1,2],{a:1}", ("[1,2]", "{a:1}")),
        ("'a b',\"c\"", ("'a b'", '"c"')),
        ("range(1,4)", (1, 2, 3)),
        ("range(4)", (0, 1, 2, 3)),
        ("range(10,0,-4)", (10, 6, 2)),
        ("range(0,0.4,0.1)", (0.0, 0.1, 0.2, 0.3)),  # as typed, and without its stop
        ("range(3.5,0.5,-1)", (3.5, 2.5, 1.5)),
        ("interval(0,1)", None),
    ],
)
def test_values_in_the_order_in_which_they_were_typed(
    text: str, listed: tuple[Any, ...] | None, parser: OverridesParser
) -> None:
    found = read_dimension("x", text, None, parser)
    assert found.listed == listed
    assert [type(value) for value in found.listed or ()] == [type(value) for value in listed or ()]
    assert (found.key, found.text, found.condition) == ("x", text, None)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("tag(log,range(1,5))", Int(1, 4, log=True)),
        ("tag(log,range(1,9,2))", Choice((1, 3, 5, 7))),
        ("tag(log,range(0.5,2,0.5))", Choice((0.5, 1.0, 1.5))),
        ("range(0.5,1)", Choice((0.5,))),  # Optuna wants a step to fit in
        ("range(3,4)", Int(3, 3)),
        ("range(2.5,0.5,-0.5)", Float(1.0, 2.5, step=0.5)),
        ("interval(2,2)", Float(2, 2)),
        ("int(interval(2,2))", Int(2, 2)),
        ("interval(0.5,0.5)", Float(0.5, 0.5)),
        ("float(interval(1,3))", Float(1, 3)),
    ],
)
def test_more_distributions(text: str, distribution: object, parser: OverridesParser) -> None:
    assert read_dimension("x", text, None, parser).distribution == distribution


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("x", "interval(2,1)", f"the first end is above the second; {SWEEPS}"),
        ("x", "tag(log,interval(0,1))", f"tag(log,...) wants numbers above 0; {SWEEPS}"),
        ("training.epochs", "interval(1.2,1.8)", f"no whole number in it; {SWEEPS}"),
        ("x", "range(3,3)", f"the range is empty; {SWEEPS}"),
        ("x", "choice()", f"cannot be read; {SWEEPS}"),
        ("x", "interval(", f"cannot be read; {SWEEPS}"),
        ("estimator", "glob(none*)", f"no value at all; {SWEEPS}"),
        ("x", "tag(linear,interval(0,1))", "tag linear means nothing here; expected tag(log,...)"),
        ("x", "tag(log,b,a,interval(1,2))", "tag a means nothing here; expected tag(log,...)"),
        ("x", "tag(zig,log,interval(1,2))", "tag zig means nothing here; expected tag(log,...)"),
        ("x", "tag(log,choice(1,2))", "tag(log,...) is for numbers; expected an interval or a range in it"),
    ],
)
def test_what_is_no_sweep(key: str, text: str, complaint: str, parser: OverridesParser) -> None:
    with pytest.raises(UserError) as caught:
        read_dimension(key, text, None, parser)
    assert str(caught.value) == f"sweep.space: {key}={text}: {complaint}"


@pytest.mark.parametrize(
    "text",
    [
        "svd,whitened",
        "range(2,9,3)",
        "tag(log,int(interval(2,9)))",
        "tag(log,interval(0.5,2))",
        "range(0,1,0.25)",
    ],
)
def test_what_is_drawn(text: str, parser: OverridesParser) -> None:
    """From the distribution that was read, under the dimension's key."""
    dimension = read_dimension("x", text, None, parser)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    value = dimension.suggest(trial)
    assert trial.params == {"x": value}
    assert trial.distributions == {"x": dimension.distribution}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (1e-05, "1e-05"),
        (0.5, "0.5"),
        ("svd", "svd"),
    ],
)
def test_a_value_as_an_override(value: Any, text: str) -> None:
    assert written(value) == text


def test_the_number_of_a_range_that_is_nearest(parser: OverridesParser) -> None:
    """Optuna computes the values of a range by itself, with rounding errors of its own."""
    steps = read_dimension("x", "range(0,1,0.1)", None, parser)
    assert steps.written(3 * 0.1) == "0.3"
    assert steps.written(0.0) == "0.0"
    assert steps.written(0.69) == "0.7"
    mixed = read_dimension("x", "null,0.1,10", None, parser)
    assert [mixed.written(value) for value in (None, 0.1, 10)] == ["null", "0.1", "10"]
    assert read_dimension("x", "interval(0,1)", None, parser).written(3 * 0.1) == repr(3 * 0.1)


@pytest.mark.parametrize(
    ("key", "sweep", "text", "value"),
    [
        ("x", "svd,'a b'", "svd", "svd"),
        ("x", "svd,'a b'", '"svd"', "svd"),
        ("x", "svd,'a b'", "a b", "'a b'"),
        ("x", "null,true,0.5", "null", None),
        ("x", "null,true,0.5", "true", True),
        ("x", "null,true,0.5", "True", True),
        ("x", "range(1,4)", "2", 2),
        ("x", "range(0,1,0.1)", "0.3", 0.3),
        ("training.epochs", "interval(1,4)", "4", 4),
        ("training.l1", "interval(0,1)", "1", 1.0),
        ("training.l1", "interval(0,1)", "1e-3", 0.001),
    ],
)
def test_a_value_from_its_text(key: str, sweep: str, text: str, value: Any, parser: OverridesParser) -> None:
    found = read_dimension(key, sweep, None, parser).read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "sweep", "text"),
    [
        ("x", "svd,whitened", "random"),
        ("x", "range(0,1,0.1)", "0.35"),
        ("training.epochs", "interval(1,4)", "5"),
        ("training.epochs", "interval(1,4)", "2.0"),
        ("training.l1", "interval(0,1)", "1.1"),
        ("training.l1", "interval(0,1)", "low"),
        ("training.l1", "interval(0,1)", "nan"),
    ],
)
def test_a_text_that_is_none_of_its_values(key: str, sweep: str, text: str, parser: OverridesParser) -> None:
    with pytest.raises(UserError) as caught:
        read_dimension(key, sweep, None, parser).read(text)
    assert str(caught.value) == f"{key}={text}: expected a value of sweep.space, {key}={sweep}"


@pytest.mark.parametrize(
    ("text", "samples", "count"),
    [
        ("a,b,c", ["a", "b", "c"], 3),
        ("range(0,20)", list(range(20)), 20),
        ("range(0,21)", [0, 20], 21),
        ("range(42,0,-2)", [42, 2], 21),
        ("int(interval(2,5))", [2, 5], 4),
        ("interval(0.5,2)", [0.5, 2.0], None),
    ],
)
def test_how_many_values_and_which_show_what_is_allowed(
    text: str, samples: list[Any], count: int | None, parser: OverridesParser
) -> None:
    dimension = read_dimension("x", text, None, parser)
    assert dimension.samples() == samples
    assert dimension.count() == count
    assert type(dimension.count()) is type(count)
    if count is not None:
        assert len(dimension.values()) == len(set(dimension.values())) == count


def test_all_values_of_whole_numbers() -> None:
    assert list(Dimension("x", "", Int(2, 5), None).values()) == [2, 3, 4, 5]
    assert list(Dimension("x", "", Int(1, 9, step=4), None).values()) == [1, 5, 9]
    assert Dimension("x", "", Int(1, 9, step=4), None).count() == 3


@pytest.mark.parametrize(
    ("key", "whole"),
    [
        ("ranks.layers.0", True),
        ("+ranks.layers.12", True),
        ("architecture.hidden.1", True),
        ("training.epochs", True),
        ("training.patience", True),
        ("training.l1", False),
        ("ranks.energy", False),
        ("data.dir", False),
        ("ranks", False),
        ("ranks.layers.first", False),
        ("training.lr", False),
        ("training.lr.0", False),
        ("", False),
    ],
)
def test_keys_that_are_whole_numbers(key: str, whole: bool) -> None:
    assert is_whole(key) is whole


def test_an_override_that_cannot_be_read(parser: OverridesParser) -> None:
    assert parse(parser, "a=3", "shown").value() == 3
    with pytest.raises(UserError) as caught:
        parse(parser, "a", "shown: a")
    assert str(caught.value) == f"shown: a: cannot be read; {SWEEPS}"


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        (None, None),
        ("ranks=control", Condition("ranks", ("control",), True)),
        (" ranks != 8-4 | 16-12 ", Condition("ranks", ("8-4", "16-12"), False)),
        ("ranks!=control", Condition("ranks", ("control",), False)),
    ],
)
def test_conditions(text: str | None, condition: Condition | None) -> None:
    assert read_condition("estimator", text, {"ranks"}) == condition


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ranks", "ranks cannot be read; expected other=value|value or other!=value"),
        ("ranks=", "ranks= cannot be read; expected other=value|value or other!=value"),
        ("ranks==a", "ranks==a cannot be read; expected other=value|value or other!=value"),
        ("rank=a", "rank is neither in sweep.space nor given; did you mean 'ranks'?"),
        ("task=a", "task is neither in sweep.space nor given"),
    ],
)
def test_what_is_no_condition(text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        read_condition("estimator", text, {"ranks", "seed"})
    assert str(caught.value) == f"sweep.conditions: estimator: {complaint}"


@pytest.mark.parametrize("text", ["interval(0,1)", "range(0,3)", "a,b"])
def test_a_dimension_keeps_its_condition(text: str, parser: OverridesParser) -> None:
    condition = Condition("ranks", ("control",), True)
    assert read_dimension("x", text, condition, parser).condition == condition


@pytest.mark.parametrize(
    ("values", "with_it", "without_it"),
    [({"ranks": "a"}, True, False), ({"ranks": "c"}, False, True), ({"other": "a"}, False, False)],
)
def test_when_a_condition_holds(values: Mapping[str, str], with_it: bool, without_it: bool) -> None:
    assert Condition("ranks", ("a", "b"), True).holds(values) is with_it
    assert Condition("ranks", ("a", "b"), False).holds(values) is without_it


@pytest.mark.parametrize("value", [inf, nan])
def test_numbers_that_are_none_are_kept_as_text(value: float, parser: OverridesParser) -> None:
    assert read_dimension("x", f"{value},1", None, parser).listed == (str(value), 1)
