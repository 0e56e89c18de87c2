"""What a study searches: Hydra's own override syntax as dimensions that Optuna can draw from.

A sweep means what it means everywhere in Hydra: ``range`` leaves its stop out, ``choice(a,b)`` and ``a,b``
are the same, a group's options are choices. ``interval`` holds both ends; it is one of whole numbers where
the key is (``ranks.layers.0``) or where ``int(...)`` says so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from math import ceil, floor, isfinite, prod
from typing import TYPE_CHECKING, Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException

from ccsweep.config.keys import did_you_mean
from ccsweep.config.schema import Config
from ccsweep.errors import UserError

if TYPE_CHECKING:  # half a second
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Params = dict[str, Any]
"""A point: values by key, as Optuna keeps them; without the keys whose condition does not hold."""

_CONDITION = re.compile(r"\s*(?P<key>[^=!\s]+)\s*(?P<sign>!?=)\s*(?P<values>[^=]+)")
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


class Space:
    """The dimensions of a study.

    Args:
        texts: the sweep of each key, in the order in which points are written.
        conditions: by key, as in ``estimator!=svd`` or ``ranks=50-35-25|25-25-25``.
        fixed: values of other keys that a condition may ask for.
        parser: Hydra's, made with the config loader.

    Raises:
        UserError: a text that is no sweep, or a condition that names no key or runs in a circle.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        conditions: Mapping[str, str],
        fixed: Mapping[str, str],
        parser: OverridesParser,
    ) -> None:
        self.fixed = dict(fixed)
        for key in conditions:
            if key not in texts and key not in fixed:
                known = did_you_mean(key, list(texts))
                raise UserError(f"sweep.conditions: {key} is not in sweep.space{known}")
        known_keys = {*texts, *fixed}
        self.dimensions = [
            _dimension(key, text, _condition(key, conditions.get(key), known_keys), parser)
            for key, text in texts.items()
        ]
        self._in_order = _ordered(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def __getitem__(self, key: str) -> Dimension:
        return next(d for d in self.dimensions if d.key == key)

    def suggest(self, trial: "Trial") -> Params:
        """Draw a point for ``trial``, dimension by dimension."""
        params: Params = {}
        values = dict(self.fixed)
        for dimension in self._in_order:
            if dimension.condition is None or dimension.condition.holds(values):
                value = dimension.suggest(trial)
                params[dimension.key], values[dimension.key] = value, dimension.written(value)
        return params

    def active(self, params: Params) -> Params:
        """``params`` without the keys whose condition does not hold, or that are not searched."""
        kept: Params = {}
        values = dict(self.fixed)
        for dimension in self._in_order:
            if dimension.key not in params:
                continue
            if dimension.condition is None or dimension.condition.holds(values):
                value = params[dimension.key]
                kept[dimension.key], values[dimension.key] = value, dimension.written(value)
        return {d.key: kept[d.key] for d in self.dimensions if d.key in kept}

    def overrides(self, params: Params) -> list[str]:
        """A point as overrides, in the order of the dimensions."""
        return [f"{d.key}={d.written(params[d.key])}" for d in self.dimensions if d.key in params]

    def count(self) -> int | None:
        """How many points there are at most; None where there is no end of them."""
        counts = [d.count() for d in self.dimensions]
        return None if None in counts else prod(c for c in counts if c is not None)

    def points(self) -> Iterator[Params]:
        """Every point of a finite space once, the last dimension changing fastest."""
        seen = set()
        values = [_all_values(d) for d in self.dimensions]
        keys = [d.key for d in self.dimensions]
        for combination in product(*values):
            params = self.active(dict(zip(keys, combination, strict=True)))
            line = tuple(self.overrides(params))
            if line not in seen:
                seen.add(line)
                yield params

    def read_point(self, line: str, parser: OverridesParser) -> Params:
        """A point from a line of overrides; keys may be missing, which the sampler then fills in.

        Raises:
            UserError: a key that is not searched, or a value that is none of its.
        """
        params: Params = {}
        for word in line.split():
            override = _parse(parser, word, f"sweep.points: {word}")
            key = override.get_key_element()
            if key in self.fixed:  # by the command, which says the last word
                continue
            if override.is_sweep_override() or key not in {d.key for d in self.dimensions}:
                hint = did_you_mean(key, [d.key for d in self.dimensions])
                known = ", ".join(d.key for d in self.dimensions)
                raise UserError(f"sweep.points: {word} is no value of a searched key ({known}){hint}")
            try:
                params[key] = self[key].read(override.get_value_element_as_str())
            except UserError as error:
                raise UserError(f"sweep.points: {error}") from None
        return params


def written(value: Any) -> str:
    """A value as an override has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)


def field_type(key: str) -> type | None:
    """The plain type of a key of the schema (int, float, str, bool), None for a group or no such key.

    >>> field_type("ranks.layers.0"), field_type("estimator.energy_loss"), field_type("ranks")
    (<class 'int'>, <class 'float'>, None)
    """
    kind: Any = Config
    for part in key.lstrip("+").split("."):
        if isinstance(kind, type) and is_dataclass(kind):
            kind = next((f.type for f in fields(kind) if f.name == part), None)
        elif part.isdigit() and (items := [a for a in (get_args(kind) or ()) if get_args(a)] or [kind]):
            kind = (get_args(items[0]) or (None,))[0]
        else:
            return None
    plain = [a for a in (get_args(kind) or (kind,)) if a in (int, float, str)]
    return plain[0] if plain else None


def _all_values(dimension: Dimension) -> Sequence[Any]:
    if dimension.listed is not None:
        return dimension.listed
    d: Any = dimension.distribution
    return range(d.low, d.high + 1, d.step)


def _parse(parser: OverridesParser, line: str, shown: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except HydraException:
        raise UserError(f"{shown}: cannot be read; {_EXPECTED}") from None


def _dimension(key: str, text: str, condition: Condition | None, parser: OverridesParser) -> Dimension:
    from optuna.distributions import CategoricalDistribution

    shown = f"sweep.space: {key}={text}"
    override = _parse(parser, f"{key}={text}", shown)
    value: Any = override._value
    tags = set(getattr(value, "tags", None) or ())
    if tags - {"log"}:
        raise UserError(f"{shown}: tag {min(tags - {'log'})} means nothing here; expected tag(log,...)")
    try:
        if isinstance(value, IntervalSweep):
            return Dimension(key, text, _interval(key, value, "log" in tags), None, condition)
        if isinstance(value, RangeSweep):
            tidy = (_tidy(number) for number in override.sweep_iterator())
            numbers = tuple(number for number in tidy if number != value.stop)
            if not numbers:
                raise ValueError("the range is empty")
            return Dimension(key, text, _range(value, numbers, "log" in tags), numbers, condition)
    except (ValueError, TypeError) as error:
        raise UserError(f"{shown}: {error}; {_EXPECTED}") from None
    if tags:
        raise UserError(f"{shown}: tag(log,...) is for numbers; expected an interval or a range in it")
    found = override.sweep_iterator() if override.is_sweep_override() else iter([value])
    choices = _distinct([v if _is_plain(v) else Transformer.str(v) for v in found])
    if not choices:
        raise UserError(f"{shown}: no value at all; {_EXPECTED}")
    return Dimension(key, text, CategoricalDistribution(choices), tuple(choices), condition)


def _tidy(number: Any) -> Any:
    """0.3 for the 0.30000000000000004 of a range with steps of 0.1."""
    return float(f"{number:.12g}") if isinstance(number, float) else number


def _is_plain(value: Any) -> bool:
    """Whether Optuna can keep the value itself; of lists and quoted strings it keeps the text."""
    return value is None or (isinstance(value, int | float) and isfinite(value))


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
    if low > high:
        raise ValueError("the first end is above the second")
    if log and low <= 0:
        raise ValueError("tag(log,...) wants numbers above 0")
    if isinstance(low, int) or field_type(key) is int:
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


def _condition(key: str, text: str | None, known: set[str]) -> Condition | None:
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


def _ordered(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Each dimension after the one that its condition asks for."""
    ordered: list[Dimension] = []
    waiting = list(dimensions)
    while waiting:
        undecided = {d.key for d in waiting}
        ready = [d for d in waiting if d.condition is None or d.condition.other not in undecided]
        if not ready:
            raise UserError(f"sweep.conditions: {', '.join(sorted(undecided))} wait for each other")
        ordered += ready
        waiting = [d for d in waiting if d not in ready]
    return ordered
