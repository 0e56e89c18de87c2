"""Close calls: answers so near to being other ones that they are computed again, exactly."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as tree

from ccsweep.engine.accelerate.chain import MODE, Arithmetic
from ccsweep.engine.accelerate.gates import Held, Step, computing, put, take_out
from ccsweep.engine.accelerate.inputs import holds_samples, rows_of
from ccsweep.engine.accelerate.keep import Criterion, Margin

WIDER = 1.25
"""How many times as far from changing as any that int8 put at risk among those that chose."""
MOST = 0.1
"""Share of close calls with which int8 is not worth it any more."""


class Close(NamedTuple):
    """Which answers are close calls, and what is done about them."""

    margin: Margin
    least: float
    """An answer whose margin is no larger is a close call."""
    share: float
    """Of close calls among the answers it was chosen by."""

    def calls(self, outputs: Tensor) -> Tensor:
        """Bool (samples,); one that is not finite is a close call, too."""
        return ~(self.margin.of(outputs) > self.least)

    def answer(self, run: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What ``run`` gives, with close calls computed again: all chains exactly.

        Args:
            run: a model, of outputs (samples, ...).
            arguments: of the call, whose tensors have the samples on their first axis.
            options: likewise, by keyword.
        """
        MODE.rounded = False
        outputs = run(*arguments, **options)
        if not MODE.rounded:
            return outputs
        if not isinstance(outputs, Tensor):  # another form of call
            return _exactly(run, arguments, options)
        close = self.calls(outputs)
        if not close.any():
            return outputs
        given = {len(part) for part in tree.tree_leaves((arguments, options)) if holds_samples(part)}
        if len(close) == 1 or given != {len(close)}:
            return _exactly(run, arguments, options)
        rows = close.nonzero()[:, 0]
        return outputs.index_copy(0, rows, _exactly(run, *rows_of((arguments, options), rows)))

    def careful(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """What gives these answers of ``run``."""
        return lambda *arguments, **options: self.answer(run, arguments, options)

    def kept(self, criterion: Criterion) -> Criterion:
        """The criterion, of answers that are no close calls."""
        return criterion._replace(changed=lambda a, b, times: criterion.changed(a, b, times) & ~self.calls(b))


def _exactly(run: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    MODE.exactly = True
    try:
        return run(*arguments, **options)
    finally:
        MODE.exactly = False


def close_calls(tried: Sequence[Step], held: Held, criterion: Criterion) -> Close | None:
    """What makes int8 safe in all of these layers.

    Args:
        tried: in int8; the chains have no gates, and are left as they were.
        held: samples to choose by.
        criterion: what must hold.

    Returns:
        None where the criterion knows no margins, or too many answers would be close calls.
    """
    if criterion.margin is None or not tried:
        return None
    put([tried])
    with computing({step.chain: Arithmetic(int8=True) for step in tried}):
        outputs = list(held.outputs())
    take_out([step.chain for step in tried])
    margins = torch.cat(list(map(criterion.margin.of, outputs)))
    at_risk = torch.cat(
        [criterion.changed(a, b, criterion.safety) for a, b in zip(held.answers, outputs, strict=True)]
    )
    if not at_risk.any():
        return None
    least = WIDER * float(margins[at_risk].max())
    share = float((margins <= least).double().mean())
    return Close(criterion.margin, least, share) if share <= MOST else None
