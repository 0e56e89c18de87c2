"""What must hold of a model's answers, and on which samples it does not hold any more."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine.accelerate.copying import brief
from ccsweep.engine.accelerate.tracing.trace import tensors_in
from ccsweep.errors import UserError

VALUES = 0.02
"""How far an output may move, against its own spread over the samples."""
LOOSE = 0.05
"""The same where the largest output is kept by default: the outputs may be no classes after all."""
SURER, STEADY = 3.0, 1.5
"""An answer that errors so many times as large would change counts as changed. A model is surer of inputs
that it was trained on, where decisions are further from changing, and nobody can be sure that these are none;
by how much values move does not hang on that."""
SPREAD = 0.1
"""The least spread of one output, against that of all outputs: some hardly ever change."""

Keep = str | tuple[str, float] | Callable[[Any, Any], Any] | None
Changed = Callable[[Any, Any, float], Tensor]


class Margin(NamedTuple):
    """How far an answer is from being another one."""

    kind: str
    """``argmax``, or ``sign``."""
    number: float
    """The axis, or the threshold."""

    def of(self, outputs: Tensor) -> Tensor:
        """(samples,): of outputs (samples, ...), the smallest of each sample's; NaN where it holds one."""
        values = outputs.float().numpy()  # whose operations take half the time of torch's, for few samples
        if self.kind == "sign":
            far = np.abs(values - np.float32(self.number))
        else:
            axis = int(self.number)
            second, first = np.moveaxis(np.partition(values, (-2, -1), axis), axis, 0)[-2:]
            far = first - second
        return torch.from_numpy(far if far.ndim == 1 else far.reshape(len(far), -1).min(1))


class Criterion(NamedTuple):
    """What is kept."""

    text: str
    """In words."""
    changed: Changed
    """From the original's outputs, the accelerated model's, and how many times as large its errors are to be
    taken: bool (samples,), whether the answer is another one."""
    safety: float = SURER
    """How many times as large they are to be taken, to be on the safe side."""
    margin: Margin | None = None
    """By which a sample's answer is known to be sure or not; None where no output tells it."""


def criterion(
    keep: Keep, outputs: Sequence[Any], counts: Sequence[int], features: Sequence[int]
) -> Criterion:
    """What ``keep`` means for such outputs.

    Args:
        keep: as given to ``accelerate``.
        outputs: of the original, by batch.
        counts: samples of each batch.
        features: numbers in a sample of each of the model's inputs.

    Raises:
        UserError: it means nothing, for the outputs have no samples, or no such axis.
    """
    parts = [_joined(outputs, counts, place) for place in range(len(list(tensors_in(outputs[0]))))]
    if callable(keep):
        return Criterion(f"what {getattr(keep, '__name__', 'the function')} says", _by(keep))
    names = [name for name, _ in tensors_in(outputs[0])]
    kind, number = keep if isinstance(keep, tuple) and len(keep) == 2 else (keep, None)
    if kind not in (None, "argmax", "sign", "values"):
        raise UserError(
            f"keep={keep!r}: expected 'argmax', 'sign', 'values', one of them with its axis, threshold or "
            "tolerance as in "
            "('argmax', 1), or a function of two outputs"
        )
    if kind is None:
        return _default(parts, names, features)
    rules = [_rule(kind, number, part, name) for part, name in zip(parts, names, strict=True)]
    if kind == "argmax" and all(rule.text.startswith("values") for rule in rules):
        shapes = ", ".join(_shape(part) for part in parts)
        raise UserError(
            f"keep='argmax': outputs {shapes} hold no classes to choose from; use 'sign' or 'values'"
        )
    return _all(rules, names)


def _default(parts: Sequence[Tensor], names: Sequence[str], features: Sequence[int]) -> Criterion:
    only = parts[0]
    classes = len(parts) == 1 and only.dim() == 2 and only.is_floating_point() and only.shape[1] > 1
    if classes and only.shape[1] not in features:
        both = [_argmax(1), _values(LOOSE, only)]
        made = _all(both, ["", ""])
        return made._replace(
            text=f"the largest of outputs {_shape(only)}, and {both[1].text} (by default; "
            "keep='argmax' keeps the largest alone, keep='values' holds the values closer)"
        )
    made = _all([_rule("values", None, part, name) for part, name in zip(parts, names, strict=True)], names)
    return made._replace(text=f"{made.text} (by default)")


def _rule(kind: str, number: float | None, part: Tensor, name: str) -> Criterion:
    if not part.is_floating_point():
        return Criterion("the same", lambda a, b, times: (a != b).reshape(len(a), -1).any(1))
    if kind == "sign":
        return _sign(0.0 if number is None else number)
    if kind == "argmax" and part.dim() > 1:
        axis = _axis(part, name) if number is None else int(number)
        if not 1 <= axis < part.dim():
            raise UserError(
                f"keep=('argmax', {number}): outputs {_shape(part)} have axes 1 to {part.dim() - 1}"
            )
        if part.shape[axis] > 1:
            return _argmax(axis)
    return _values(VALUES if kind != "values" or number is None else number, part)


def _axis(part: Tensor, name: str) -> int:
    """Where the classes are: the only axis there is, or the one along which probabilities come to one."""
    if part.dim() == 2:
        return 1
    for axis in range(1, part.dim()):
        ones = part.sum(axis)
        if bool((part >= 0).all()) and torch.allclose(ones, torch.ones_like(ones), atol=1e-3):
            return axis
    axes = " or ".join(str(axis) for axis in range(1, part.dim()))
    raise UserError(
        f"keep='argmax': the classes of outputs {_shape(part)} may be along axis {axes}: say which, as in "
        f"keep=('argmax', {part.dim() - 1})"
    )


def _argmax(axis: int) -> Criterion:
    def changed(a: Tensor, b: Tensor, times: float) -> Tensor:
        return (_further(a, b, times).argmax(axis) != a.argmax(axis)).reshape(len(a), -1).any(1)

    return Criterion(f"the largest along axis {axis}", changed, margin=Margin("argmax", axis))


def _sign(threshold: float) -> Criterion:
    def changed(a: Tensor, b: Tensor, times: float) -> Tensor:
        return ((_further(a, b, times) > threshold) != (a > threshold)).reshape(len(a), -1).any(1)

    return Criterion(
        f"which side of {threshold:g} each output is on", changed, margin=Margin("sign", threshold)
    )


def _values(tolerance: float, part: Tensor) -> Criterion:
    spread = part.double().std(0, correction=0) if part.dim() == 2 else part.double().std(correction=0)
    overall = spread.square().mean().sqrt()
    least = (
        SPREAD * overall
        if overall > 0
        else part.double().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    )
    scale = spread.clamp(min=float(least)).float()

    def changed(a: Tensor, b: Tensor, times: float) -> Tensor:
        far = times * (b.float() - a.float()).abs() > tolerance * scale
        return (far | (b.isnan() & ~a.isnan())).reshape(len(a), -1).any(1)

    return Criterion(f"values within {tolerance:.2%} of their spread", changed, STEADY)


def _further(a: Tensor, b: Tensor, times: float) -> Tensor:
    """The accelerated outputs, moved on in the direction in which they moved already."""
    return b if times == 1 else a + times * (b - a)


def _all(rules: Sequence[Criterion], names: Sequence[str]) -> Criterion:
    """Every part of the outputs by its own rule."""
    split = len(rules) if any(names) else 0

    def changed(a: Any, b: Any, times: float) -> Tensor:
        one, other = ([part for _, part in tensors_in(outputs)] for outputs in (a, b))
        if not split:
            one, other = one * len(rules), other * len(rules)
        found = [rule.changed(x, y, times) for rule, x, y in zip(rules, one, other, strict=True)]
        return torch.stack(found).any(0)

    safety = max(rule.safety for rule in rules)
    # Of several tensors none tells it alone.
    margin = None if split else next((rule.margin for rule in rules if rule.margin), None)
    texts = dict.fromkeys(rule.text for rule in rules)
    if len(texts) == 1:
        return Criterion(next(iter(texts)), changed, safety, margin)
    named = (f"{name}: {rule.text}" if name else rule.text for name, rule in zip(names, rules, strict=True))
    return Criterion("; ".join(named), changed, safety, margin)


def _by(keep: Callable[[Any, Any], Any]) -> Changed:
    def changed(a: Any, b: Any, times: float) -> Tensor:
        try:
            kept = torch.as_tensor(keep(a, b))
        except Exception as error:  # the user's own
            raise UserError(f"keep: the function fails ({brief(error)})") from error
        count = len(next(iter(tensors_in(a)))[1])
        if kept.dtype != torch.bool or kept.shape != (count,):
            raise UserError(
                f"keep: the function gives {kept.dtype} {tuple(kept.shape)} for {count} samples: expected "
                "a bool for each"
            )
        return ~kept

    return changed


def _joined(outputs: Sequence[Any], counts: Sequence[int], place: int) -> Tensor:
    """One part of the outputs, all samples."""
    parts = [list(tensors_in(output))[place] for output in outputs]
    for (name, part), count in zip(parts, counts, strict=True):
        if part.dim() < 1 or len(part) != count:
            where = f"output{name}" if name else "the output"
            raise UserError(
                f"{where} has shape {tuple(part.shape)} for {count} samples: expected a sample for each; "
                "only "
                "max_disagreement=0 can be kept"
            )
    widths = {part.shape[1:] for _, part in parts}
    if len(widths) > 1:
        raise UserError(
            f"outputs come in shapes {sorted(map(tuple, widths))}: expected one shape for all samples"
        )
    return torch.cat([part for _, part in parts])


def _shape(part: Tensor) -> str:
    return f"(samples{''.join(f', {size}' for size in part.shape[1:])}{',' if part.dim() == 1 else ''})"
