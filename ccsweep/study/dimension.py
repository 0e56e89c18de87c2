"""A searched key as Optuna draws it, read from Hydra's own override syntax.

A sweep means what it means everywhere in Hydra: ``range`` leaves its stop out, ``choice(a,b)`` and ``a,b``
are the same, a group's options are choices. ``interval`` holds both ends; it is one of whole numbers where
the key is (``ranks.layers.0``) or where ``int(...)`` says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException

from ccsweep.config.keys import did_you_mean, schema
from ccsweep.config.quoting import quoted
from ccsweep.errors import UserError

if TYPE_CHECKING:  # half a second
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

_CONDITION = re.compile(r"\s*(?P<key>[^=!\s]+)\s*(?P<sign>!?=)\s*(?P<values>[^=]+)")
MOST_VALUES = 100_000  # of a range
_LARGEST = 2.0**63
_EXPECTED = "expected choice(a,b), range(1,10) or interval(0,1)"


@dataclass(frozen=True)
class Condition:
    """When a dimension is searched: ``other`` has one of ``values``, or none of them."""

    other: str
    values: tuple[str, ...]
    holds_with: bool

    def holds(self, values: Mapping[str, str]) -> bool:
        """Whether it does, by the values in effect as text; never where ``other`` itself is left out."""
        return self.other in values and (values[self.other] in self.values) == self.holds_with


@dataclass(frozen=True)
class Dimension:
    """One searched key: its sweep as typed, and the same for Optuna."""

    key: str
    text: str
    distribution: "BaseDistribution"
    listed: tuple[Any, ...] | None
    """All its values in the order in which they were typed; None for an interval."""
    condition: Condition | None = None

    def suggest(self, trial: "Trial") -> Any:
        """The value that the study's sampler draws for ``trial``, or that was fixed for it before."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return trial.suggest_categorical(self.key, d.choices)
        if isinstance(d, IntDistribution):
            return trial.suggest_int(self.key, d.low, d.high, step=d.step, log=d.log)
        assert isinstance(d, FloatDistribution)
        return trial.suggest_float(self.key, d.low, d.high, step=d.step, log=d.log)

    def written(self, value: Any) -> str:
        """The value as an override has it; that of a range is the number in its list."""
        if self.listed is not None and isinstance(value, float):
            value = min((v for v in self.listed if isinstance(v, int | float)), key=lambda v: abs(v - value))
        return written(value)

    def read(self, text: str) -> Any:
        """The value that ``text`` writes.

        Raises:
            UserError: it is none of this dimension's.
        """
        if self.listed is not None:
            for value in self.listed:
                if text.strip("'\"") == written(value).strip("'\"") or text == str(value):
                    return value
        else:
            try:
                value = int(text) if type(getattr(self.distribution, "low", 0.0)) is int else float(text)
            except ValueError:
                value = None
            if value is not None and self.distribution._contains(value):
                return value
        raise UserError(f"{self.key}={text}: expected a value of sweep.space, {self.key}={self.text}")

    def samples(self) -> list[Any]:
        """Values that show what the dimension allows: all of a short list, else both ends."""
        if self.listed is not None:
            return list(self.listed) if len(self.listed) <= 20 else [self.listed[0], self.listed[-1]]
        return [self.distribution.low, self.distribution.high]  # type: ignore[attr-defined]

    def count(self) -> int | None:
        """How many values it has; None where there is no end of them."""
        from optuna.distributions import IntDistribution

        if self.listed is not None:
            return len(self.listed)
        d = self.distribution
        return (d.high - d.low) // d.step + 1 if isinstance(d, IntDistribution) else None

    def values(self) -> Sequence[Any]:
        """All values of one that has an end of them."""
        if self.listed is not None:
            return self.listed
        d: Any = self.distribution
        return range(d.low, d.high + 1, d.step)


def written(value: Any) -> str:
    """A value as an override has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)


def is_whole(key: str) -> bool:
    """Whether a key of the schema, or an item of its list, is a whole number.

    >>> is_whole("ranks.layers.0"), is_whole("training.patience"), is_whole("training.l1")
    (True, True, False)
    """
    name = key.lstrip("+")
    parent, _, item = name.rpartition(".")
    known = schema().get(parent if item.isdigit() else name)
    return known is not None and int in _plain_types(known.type)


def _plain_types(kind: Any) -> set[Any]:
    parts = get_args(kind)
    return set().union(*map(_plain_types, parts)) if parts else {kind}


def parse(parser: OverridesParser, line: str, shown: str) -> Override:
    """One override; ``shown`` is what an error names."""
    try:
        return parser.parse_overrides([line])[0]
    except HydraException:
        raise UserError(f"{shown}: cannot be read; {_EXPECTED}") from None


def read_dimension(key: str, text: str, condition: Condition | None, parser: OverridesParser) -> Dimension:
    """The dimension that ``key=text`` describes.

    Raises:
        UserError: the text is no sweep.
    """
    from optuna.distributions import CategoricalDistribution

    shown = f"sweep.space: {key}={text}"
    override = parse(parser, f"{key}={text}", shown)
    value: Any = override._value
    tags = set(getattr(value, "tags", None) or ())
    if tags - {"log"}:
        raise UserError(f"{shown}: tag {min(tags - {'log'})} means nothing here; expected tag(log,...)")
    try:
        if isinstance(value, IntervalSweep):
            return Dimension(key, text, _interval(key, value, "log" in tags), None, condition)
        if isinstance(value, RangeSweep):
            _check_length(value)
            tidy = (_tidy(number) for number in override.sweep_iterator())
            numbers = tuple(number for number in tidy if number != value.stop)
            if not numbers:
                raise ValueError("the range is empty")
            return Dimension(key, text, _range(value, numbers, "log" in tags), numbers, condition)
    except (ValueError, TypeError) as error:
        raise UserError(f"{shown}: {error}; {_EXPECTED}") from None
    if tags:
        raise UserError(f"{shown}: tag(log,...) is for numbers; expected an interval or a range in it")
    swept = override.sweep_iterator() if override.is_sweep_override() else iter([value])
    choices = _distinct([v if _is_plain(v) else _kept(v, parser) for v in swept])
    if not choices:
        raise UserError(f"{shown}: no value at all; {_EXPECTED}")
    return Dimension(key, text, CategoricalDistribution(choices), tuple(choices), condition)


def _check_length(value: RangeSweep) -> None:
    """Refuse a range that is too long to be listed, or has no end."""
    start, stop, step = (float(end) for end in (value.start or 0, value.stop or 0, value.step or 0))
    if not (isfinite(start) and isfinite(stop) and isfinite(step)) or step == 0:
        raise ValueError("a range wants finite numbers, and a step that is not 0")
    if (length := (stop - start) / step) > MOST_VALUES:
        raise ValueError(f"the range has {length:,.0f} values, more than {MOST_VALUES:,}")


def _tidy(number: Any) -> Any:
    """0.3 for the 0.30000000000000004 of a range with steps of 0.1."""
    return float(f"{number:.12g}") if isinstance(number, float) else number


def _is_plain(value: Any) -> bool:
    """Whether Optuna can keep the value itself; of lists and quoted strings it keeps the text."""
    return value is None or (isinstance(value, int | float) and isfinite(value))


def _kept(value: Any, parser: OverridesParser) -> str:
    """The text of a choice as an override has it: ``choice("it's",b)`` gives texts without their quotes."""
    if not isinstance(value, str):
        return str(Transformer.str(value))
    try:
        read = parser.parse_overrides([f"x={value}"])[0]
        same = not read.is_sweep_override() and read.value() == value
    except HydraException:
        same = False
    return value if same else quoted(value)


def _distinct(values: list[Any]) -> list[Any]:
    by_text = {written(v): v for v in values}
    if len(set(by_text.values())) < len(by_text):  # 1 and true are one to Optuna
        return list(by_text)
    return list(by_text.values())


def _interval(key: str, value: IntervalSweep, log: bool) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if not all(isfinite(end) and abs(end) < _LARGEST for end in (low, high)):
        raise ValueError("the ends of an interval are finite numbers, below 2 to the 63")
    if low > high:
        raise ValueError("the first end is above the second")
    if log and low <= 0:
        raise ValueError("tag(log,...) wants numbers above 0")
    if isinstance(low, int) or is_whole(key):
        low, high = ceil(low), floor(high)
        if low > high:
            raise ValueError("no whole number in it")
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(value: RangeSweep, numbers: tuple[Any, ...], log: bool) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high, step = min(numbers), max(numbers), abs(value.step)
    if isinstance(step, int) and all(isinstance(n, int) for n in numbers):
        if log and step != 1:
            return CategoricalDistribution(numbers)
        return IntDistribution(low, high, step=step, log=log)
    if log or len(numbers) == 1:
        return CategoricalDistribution(numbers)
    return FloatDistribution(low, high, step=float(step))


def read_condition(key: str, text: str | None, known: set[str]) -> Condition | None:
    """The condition that ``text`` describes, None where there is none.

    Raises:
        UserError: it cannot be read, or asks for a key that is not ``known``.
    """
    if text is None:
        return None
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UserError(
            f"sweep.conditions: {key}: {text} cannot be read; expected other=value|value or other!=value"
        )
    other = match["key"]
    if other not in known:
        hint = did_you_mean(other, sorted(known))
        raise UserError(f"sweep.conditions: {key}: {other} is neither in sweep.space nor given{hint}")
    values = tuple(value.strip() for value in match["values"].split("|"))
    return Condition(other, values, match["sign"] == "=")
