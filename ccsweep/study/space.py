"""What a study searches: dimensions, the conditions under which they are searched, and points."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from ccsweep.config.keys import did_you_mean
from ccsweep.errors import UserError
from ccsweep.study.dimension import Dimension, parse, read_condition, read_dimension
from ccsweep.study.folder import StudyFolder

if TYPE_CHECKING:  # half a second
    from optuna.trial import Trial

Params = dict[str, Any]
"""A point: values by key, as Optuna keeps them; without the keys whose condition does not hold."""


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
            read_dimension(key, text, read_condition(key, conditions.get(key), known_keys), parser)
            for key, text in texts.items()
        ]
        self._in_order = _ordered(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def __contains__(self, key: str) -> bool:
        return any(d.key == key for d in self.dimensions)

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
        values = [d.values() for d in self.dimensions]
        keys = [d.key for d in self.dimensions]
        for combination in product(*values):
            params = self.active(dict(zip(keys, combination, strict=True)))
            line = tuple(self.overrides(params))
            if line not in seen:
                seen.add(line)
                yield params

    def ends(self, middle: Params) -> list[Params]:
        """``middle`` with one value after the other changed to what its dimension allows at most."""
        points: list[Params] = []
        for dimension in self.dimensions:
            if dimension.key in middle:
                for value in dimension.samples():
                    point = {**middle, dimension.key: value}
                    if self.active(point) == point and point not in points:
                        points.append(point)
        return points

    def points_of(self, other: StudyFolder, parser: OverridesParser) -> list[Params]:
        """The front of another study, without what is not searched here, nor points outside this space.

        Raises:
            UserError: there is no such study.
        """
        from ccsweep.study import front
        from ccsweep.study.alone import trials_of
        from ccsweep.study.notes import notes, study_notes
        from ccsweep.study.storage import open_study

        study = open_study(other)
        points = []
        for trial in front.pareto(trials_of(study), study_notes(study).definition.aims):
            words = [w for w in notes(trial).overrides or [] if w.partition("=")[0] in self]
            with suppress(UserError):
                points.append(self.active(self.read_point(" ".join(words), parser)))
        return [point for point in points if point]

    def read_point(self, line: str, parser: OverridesParser) -> Params:
        """A point from a line of overrides; keys may be missing, which the sampler then fills in.

        Raises:
            UserError: a key that is not searched, or a value that is none of its.
        """
        params: Params = {}
        for word in line.split():
            override = parse(parser, word, f"sweep.points: {word}")
            key = override.get_key_element()
            if key in self.fixed:  # by the command, which says the last word
                continue
            if override.is_sweep_override() or key not in self:
                hint = did_you_mean(key, [d.key for d in self.dimensions])
                known = ", ".join(d.key for d in self.dimensions)
                raise UserError(f"sweep.points: {word} is no value of a searched key ({known}){hint}")
            try:
                params[key] = self[key].read(override.get_value_element_as_str())
            except UserError as error:
                raise UserError(f"sweep.points: {error}") from None
        return params


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
