"""What a study aims at: objectives and constraints, read from report.json."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ccsweep.config.keys import did_you_mean
from ccsweep.dotted import leaves
from ccsweep.errors import UserError
from ccsweep.figures import OBJECTIVES, VALIDATION_ERROR

GRID = {VALIDATION_ERROR.key: "minimize"}
"""What a grid, which aims at nothing, is kept by."""

_CONSTRAINT = re.compile(r"\s*(?P<key>[\w./]+)\s*(?P<sign><=|>=)\s*(?P<limit>[-+.\deE]+)\s*")


class BadResult(Exception):  # noqa: N818 - a run that ended well, with a figure that is none
    """A report without a usable value; the message says which."""


@dataclass(frozen=True)
class Constraint:
    """A limit on a figure of the report, both ends allowed."""

    text: str
    key: str
    at_most: bool
    limit: float

    def violation(self, value: float) -> float:
        """Above 0 where the limit is broken, as Optuna wants it."""
        return value - self.limit if self.at_most else self.limit - value


def read_constraint(text: str) -> Constraint:
    """Read ``false_off<=0.2`` or ``theoretical_speedup>=2``.

    Raises:
        UserError: it is neither.
    """
    match = _CONSTRAINT.fullmatch(text)
    try:
        if match is not None:
            return Constraint(text, match["key"], match["sign"] == "<=", float(match["limit"]))
    except ValueError:
        pass
    raise UserError(f"sweep.constraints: {text} cannot be read; expected key<=number or key>=number")


def check_keys(objectives: Mapping[str, str], constraints: Sequence[Constraint]) -> None:
    """Refuse keys that no report has.

    Raises:
        UserError: naming the key and what there is.
    """
    keys = [("objectives", key) for key in objectives] + [("constraints", c.key) for c in constraints]
    for where, key in keys:
        if key not in OBJECTIVES:
            hint = did_you_mean(key, OBJECTIVES)
            known = ", ".join(OBJECTIVES)
            raise UserError(
                f"sweep.{where}: {key} is no figure of report.json; expected one of {known}{hint}"
            )


def figure(report: Mapping[str, Any], key: str) -> float:
    """The value of ``key`` in a report.

    Raises:
        BadResult: there is none, or it is no finite number.
    """
    value = report.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = "has no" if value is None else f"has {value!r} as its"
        raise BadResult(f"the report {what} {key}")
    if not isfinite(value):
        raise BadResult(f"{key} is {float(value)}")
    return float(value)


def flat(report: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """All scalars of a report, nested ones as ``samples.validation``; lists are left out."""
    return {key: value for key, value in leaves(report) if isinstance(value, str | int | float | bool)}
