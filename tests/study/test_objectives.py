"""What a study may aim at, and what a report says of it."""

from math import inf, nan
from typing import Any

import pytest

from ccsweep.errors import UserError
from ccsweep.study.objectives import BadResult, check_keys, figure, flat, read_constraint

KEYS = (
    "validation_error, density, false_off, theoretical_speedup, theoretical_speedup_inference, "
    "measured_speedup_batch1, measured_speedup_batch256, engine_over_best_peer_batch1, "
    "engine_over_best_peer_batch256, best_epoch, epochs, seconds"
)


@pytest.mark.parametrize(
    ("text", "key", "at_most", "limit"),
    [
        ("false_off<=0.2", "false_off", True, 0.2),
        (" theoretical_speedup >= 2 ", "theoretical_speedup", False, 2.0),
        ("seconds<=1e3", "seconds", True, 1000.0),
        ("validation_error>=-1.5E-1", "validation_error", False, -0.15),
        ("samples.validation>=+10", "samples.validation", False, 10.0),
    ],
)
def test_constraints(text: str, key: str, at_most: bool, limit: float) -> None:
    read = read_constraint(text)
    assert (read.text, read.key, read.at_most, read.limit) == (text, key, at_most, limit)


@pytest.mark.parametrize(
    "text", ["", "false_off", "false_off<0.2", "false_off<=", "a<=1-2", "a<=nan", "a b<=1"]
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_constraint(text)
    assert str(caught.value) == (
        f"sweep.constraints: {text} cannot be read; expected key<=number or key>=number"
    )


@pytest.mark.parametrize(("value", "violation"), [(1.0, -1.0), (2.0, 0.0), (2.5, 0.5)])
def test_a_limit_is_broken_above_zero(value: float, violation: float) -> None:
    assert read_constraint("a<=2").violation(value) == violation
    assert read_constraint("a>=2").violation(value) == -violation


def test_keys_that_reports_have() -> None:
    check_keys(dict.fromkeys(KEYS.split(", "), "minimize"), [read_constraint("false_off<=0.2")])
    with pytest.raises(UserError) as caught:
        check_keys({"density": "minimize", "test_error": "minimize"}, [])  # nothing is chosen by test images
    assert (
        str(caught.value)
        == f"sweep.objectives: test_error is no figure of report.json; expected one of {KEYS}; did you mean 'best_epoch'?"
    )
    with pytest.raises(UserError) as caught:
        check_keys({"density": "minimize"}, [read_constraint("densty<=1")])
    assert str(caught.value) == (
        f"sweep.constraints: densty is no figure of report.json; expected one of {KEYS}; did you mean 'density'?"
    )


def test_a_figure() -> None:
    assert figure({"density": 0.25}, "density") == 0.25
    assert type(figure({"epochs": 3}, "epochs")) is float


@pytest.mark.parametrize(
    ("report", "complaint"),
    [
        ({}, "the report has no density"),
        ({"density": None}, "the report has no density"),
        ({"density": "low"}, "the report has 'low' as its density"),
        ({"density": True}, "the report has True as its density"),
        ({"density": [0.1]}, "the report has [0.1] as its density"),
        ({"density": nan}, "density is nan"),
        ({"density": -inf}, "density is -inf"),
    ],
)
def test_what_is_no_figure(report: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadResult) as caught:
        figure(report, "density")
    assert str(caught.value) == complaint


def test_a_report_flat() -> None:
    report = {
        "ranks": "16-12",
        "epochs": 3,
        "resumed": False,
        "best": None,
        "layers": [{"density": 0.1}],
        "samples": {"validation": 100, "of": {"class": {"0": 10}}, "names": ["a"]},
        "test_error": 1.5,
    }
    assert flat(report) == {
        "ranks": "16-12",
        "epochs": 3,
        "resumed": False,
        "samples.validation": 100,
        "samples.of.class.0": 10,
        "test_error": 1.5,
    }
