"""Anyone's model made fast: chains found by tracing, gates that can be vouched for, plans by batch size."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ccsweep.data.progress import Bar
from ccsweep.engine.accelerate.accelerated import Accelerated
from ccsweep.engine.accelerate.chain import Chain, agree
from ccsweep.engine.accelerate.close import Close, close_calls
from ccsweep.engine.accelerate.copying import brief, detached, hooked
from ccsweep.engine.accelerate.gates import (
    Held,
    candidates,
    faster_in_int8,
    in_groups,
    path,
    put,
    take_out,
    vouched,
)
from ccsweep.engine.accelerate.inputs import BATCH, Samples, samples
from ccsweep.engine.accelerate.keep import Keep, criterion
from ccsweep.engine.accelerate.report import CONFIDENCE, Report, samples_needed
from ccsweep.engine.accelerate.tracing.chains import widths
from ccsweep.engine.accelerate.tracing.trace import Form
from ccsweep.engine.accelerate.tracing.units import Example, Units, same
from ccsweep.engine.accelerate.whole import Whole, exported
from ccsweep.errors import UserError

FITTING, CHOOSING = 0.25, 0.25
"""Shares of the calibration inputs; on all others the promise is verified."""
MOST_ROWS = 2**13
"""Inputs of a chain that gates are fitted to."""
SIZES = (1, 256)
"""Of batches, where none are named: where layers are timed to see whether int8 gains anything."""
LOOKED_AT = 32
"""Samples that graphs and chains are compared on."""

log = logging.getLogger("ccsweep.engine")


def accelerate(
    model: nn.Module,
    calibration_inputs: Any,
    max_disagreement: float = 0.001,
    batch_sizes: Sequence[int] = (),
    threads: int | None = None,
    keep: Keep = None,
) -> Accelerated:
    """The model, faster: its Linear -> ReLU chains skip work, all else stays as it was.

    Leaving out zero inputs changes nothing. A layer computes in int8 where that is faster by the clock, and
    an estimator is added where it promises more, of the rank and thresholds that promise most among those
    that keep the answers, together with all others. Of all answers to inputs like these no more than
    ``max_disagreement`` change, with 95 % confidence: that is verified on calibration inputs by which nothing
    was chosen. Where there are too few of them to vouch for it nothing but zeros is left out, in float32. The
    original is neither changed nor shared with.

    Args:
        model: any; used in eval mode.
        calibration_inputs: what the model takes, many samples along the first axis: a tensor or an array, a
            tuple of several, a dict of them by name, a loader or data set. Real inputs, in no order, none
            that the model was trained on, for it is surer of those. For one change in a thousand there must
            be 6,000.
        max_disagreement: share of answers that may change; 0 rules estimators and int8 out.
        batch_sizes: to choose plans for now, rather than when a batch of that size class first comes.
        threads: to use; None means as many as torch uses now.
        keep: what must hold of an answer. ``"argmax"``: the largest output stays the largest; with its axis,
            ``("argmax", 1)``. ``"sign"``: each output stays on its side of 0; of another threshold,
            ``("sign", 0.5)``. ``"values"``: each output stays within 2 % of its spread over the samples; of
            another share, ``("values", 0.01)``. Or a function of the original's outputs and the accelerated
            model's for a batch, which gives a bool for each sample. None: the largest output and loosely the
            values where outputs are (samples, several), else the values.

    Returns:
        A module; its ``report`` names what was done and what was left, ``plans`` are tables.

    Raises:
        UserError: no chain was found, too few or unusable calibration inputs, an argument is wrong.
    """
    threads = _checked(model, max_disagreement, batch_sizes, threads)
    own = detached(getattr(model, "_orig_mod", model))  # under torch.compile's wrapper
    given = samples(calibration_inputs, own)
    with Bar("accelerating", 4, "steps") as progress, torch.no_grad():
        _check_steady(own, model, given)
        looked_at = _looked_at(own, given)
        mixed = torch.randperm(given.count, generator=torch.Generator().manual_seed(0))
        fitting = max(1, int(FITTING * given.count))
        choosing = max(1, int(CHOOSING * given.count))
        chosen_by = Held(own, given, mixed[fitting : fitting + choosing])
        verified_on = Held(own, given, mixed[fitting + choosing :])
        progress.update()
        found: list[Whole | None] = []

        def export(graph: GraphModule, form: Form, examples: Sequence[Example]) -> None:
            if not any(map(hooked, own.modules())):
                found.append(exported(graph, form, examples, threads))

        units = Units(own, lambda: _run(own, looked_at), export)
        chains = units.chains
        if not chains:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in units.left[:5])
            raise UserError(f"no Linear -> ReLU chain was found ({reasons})")
        if not all(map(same, chosen_by.outputs(), chosen_by.answers)):
            raise UserError(
                "with layers in the engine the model gives other outputs: its forward depends on more than "
                "its inputs, or calls layers within autocast or functional_call"
            )
        whole = found[0] if found and chosen_by.apart else None
        if whole and not all(map(same, chosen_by.outputs(whole.given), chosen_by.answers)):
            whole = None
        inputs = _inputs_of(own, chains, given, mixed[:fitting], looked_at)
        progress.update()
        sizes = tuple(batch_sizes) or SIZES
        report, close = _changed(chains, inputs, chosen_by, verified_on, given, max_disagreement, keep, sizes)
        agree(chains)
        progress.update()
        for one, rows in zip(chains, inputs, strict=True):
            one.compile(rows, threads, close.share if close else 0.0)
            for size in batch_sizes:
                one.at(size)
        progress.update()
    lines = tuple(_described(one) for one in chains)
    done = report._replace(chains=lines, left=tuple(units.left))
    fast = Accelerated(own, chains, done, close, whole)
    for size in batch_sizes if whole else ():
        arguments, options = given[torch.arange(size) % given.count]
        fast(*arguments, **options)
    return fast


def _changed(
    chains: Sequence[Chain],
    inputs: Sequence[Tensor],
    chosen_by: Held,
    verified_on: Held,
    given: Samples,
    promised: float,
    keep: Keep,
    sizes: Sequence[int],
) -> tuple[Report, Close | None]:
    """Give the chains gates, and have them in int8, as far as that can be vouched for."""
    report = Report((), (), "", promised, 0.0, 0.0, CONFIDENCE, verified_on.count)
    if promised <= 0:
        return report._replace(keep="the outputs, but for rounding"), None
    rule = criterion(keep, [*verified_on.answers], verified_on.counts, given.features())
    report = report._replace(keep=rule.text)
    needed = samples_needed(promised)
    if verified_on.count < needed:
        total = -(-needed // (1 - FITTING - CHOOSING)).__trunc__()
        note = (
            f"{verified_on.count:,} held-out samples cannot vouch for {promised:.2%}: nothing is "
            f"gated or in int8; give {total:,} calibration inputs or more"
        )
        return report._replace(notes=(note,)), None
    allowed = int(promised * chosen_by.count / 2)
    small = faster_in_int8(chains, inputs, sizes)
    groups = in_groups(small, chosen_by, rule, allowed)
    close = None
    if sum(map(len, groups)) < len(small):  # with close calls computed again all may be
        take_out(chains)
        close = close_calls(small, chosen_by, rule) if chosen_by.apart else None
        rule = close.kept(rule) if close else rule
        groups = in_groups(small, chosen_by, rule, allowed)
    groups += [(step,) for step in path(candidates(chains, inputs), chosen_by, rule, allowed)]
    take_out(chains)
    found = vouched(groups, verified_on, rule, promised)
    put(groups[: found.groups])
    notes = []
    close = close if found.groups else None
    if close:
        notes.append(f"close calls, {close.share:.1%} of answers, are computed again in float32")
    if groups and not found.groups:
        notes.append(
            f"gates or int8 were tried, but {verified_on.count:,} held-out samples do not vouch for "
            f"{promised:.2%} with them"
        )
    if found.groups:
        notes.append(
            "this holds for inputs like those given; a model is surer of inputs that it was trained on: "
            "compare its answers with the original's on others to see it"
        )
    return report._replace(observed=found.observed, bound=found.bound, notes=tuple(notes)), close


def _checked(model: Any, max_disagreement: float, batch_sizes: Sequence[int], threads: int | None) -> int:
    """The number of threads, all arguments being such as they must be."""
    if isinstance(model, Accelerated):
        raise UserError("the model is accelerated already: accelerate the original")
    if not isinstance(model, nn.Module):
        raise UserError(f"the model is of type {type(model).__name__}: expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            "the model is a ScriptModule, which cannot be looked into: accelerate what it was made of"
        )
    if any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        raise UserError("the model has lazy modules without weights: call it once, then accelerate it")
    if not 0 <= max_disagreement <= 1:
        raise UserError(f"max_disagreement={max_disagreement}: expected a share between 0 and 1")
    if any(not isinstance(size, int) or size < 1 for size in batch_sizes):
        raise UserError(f"batch_sizes={list(batch_sizes)}: expected whole numbers, 1 or more")
    threads = torch.get_num_threads() if threads is None else threads
    if threads < 1:
        raise UserError(f"threads={threads}: expected 1 or more")
    return threads


def _check_steady(own: nn.Module, model: nn.Module, given: Samples) -> None:
    """The copy takes the inputs, and gives twice the same, which is what the original gives."""
    arguments, options = given[: min(given.count, LOOKED_AT)]
    try:
        first, second = own(*arguments, **options), own(*arguments, **options)
    except Exception as error:  # the user's own Python
        raise UserError(
            f"the model refuses calibration_inputs ({brief(error)}): expected what it is called with, the "
            "samples "
            "along the first axis; a list is taken as batches, a tuple as several inputs"
        ) from error
    if not same(first, second):
        raise UserError(
            "the model gives other outputs for the same inputs: nothing can be compared with it; is there "
            "dropout "
            "that eval() does not switch off?"
        )
    if not any(module.training for module in model.modules()) and not same(
        model(*arguments, **options), first
    ):
        raise UserError(
            "a copy of the model gives other outputs than the model itself: it cannot be accelerated"
        )


def _looked_at(own: nn.Module, given: Samples) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Calls with many samples, with few, and with one, which some models refuse."""
    calls = [given[: min(given.count, LOOKED_AT)]]
    for size in (3, 1):
        with suppress(Exception):  # the user's own Python
            arguments, options = given[:size]
            own(*arguments, **options)
            calls.append(given[:size])
    return calls


def _run(own: nn.Module, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    for arguments, options in calls:
        own(*arguments, **options)


def _inputs_of(
    own: nn.Module,
    chains: Sequence[Chain],
    given: Samples,
    fitting: Tensor,
    looked_at: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
) -> list[Tensor]:
    """What each chain gets, as rows."""
    caught: dict[str, list[Tensor]] = {one.name: [] for one in chains}

    def catching(one: Chain) -> Any:
        def run(x: Tensor) -> Tensor:
            if sum(map(len, caught[one.name])) < MOST_ROWS:
                caught[one.name].append(x.detach().clone())
            return one.exact(x)

        return run

    for one in chains:
        one.run = catching(one)
    for batch in fitting.split(BATCH):
        arguments, options = given[batch]
        own(*arguments, **options)
        if all(sum(map(len, rows)) >= MOST_ROWS for rows in caught.values()):
            break
    if not all(caught.values()):  # by what is in a batch the model chooses other chains
        _run(own, looked_at)
    for one in chains:
        one.run = one.exact
    passed = [torch.cat(caught[one.name])[:MOST_ROWS] for one in chains]
    for one, rows in zip(chains, passed, strict=True):
        if not bool(rows.isfinite().all()):
            raise UserError(f"{one.name} gets NaN or infinity on the calibration inputs")
    return passed


def _described(one: Chain) -> str:
    ranks = "-".join("0" if layer.gate is None else str(layer.gate.u.shape[1]) for layer in one.layers)
    small = [str(k) for k, small in enumerate(one.int8, 1) if small]
    in_int8 = f", in int8 layer{'s' * (len(small) > 1)} {', '.join(small)}" if small else ""
    return f"in the engine: {one.name}: {widths(one.layers)}, ranks {ranks}{in_int8}"
