"""The fastest way to run each layer, found by timing on calibration inputs."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from math import ceil

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine.candidates import Ways, candidates, expected, forced, nearer
from ccsweep.engine.clock import Name, race
from ccsweep.engine.compiled import Compiled, Skipping, accepted, run_dense, samples_together, warm_up
from ccsweep.engine.layers import Array, chain, layers_of
from ccsweep.engine.layout import Layout
from ccsweep.engine.peers import MISSING, UnavailableError
from ccsweep.engine.plan import LayerPlan, Plan, dense_bytes
from ccsweep.engine.ways import (
    BFLOAT16,
    GATES,
    ONNX,
    ONNX_INT8,
    UNGATED,
    Times,
    fastest,
    in_int8,
    library,
    without,
)
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, INPUT_SPARSE
from ccsweep.kernels.int8 import MOST
from ccsweep.network import ConditionalMLP

ENGINES = ("auto", "dense", "exact", "gated")
# Calibration inputs used at most: enough to see one changed answer in a thousand.
SAMPLES = 8192
# What a plan must gain over dense to be preferred: a tie, mistimed, would make it slower than dense.
MARGIN = 1.02
# A plan whose layers alone take so many times the least is not timed whole: none was ever the fastest.
NEAR = 1.5
DISAGREEMENT = 0.01  # share of answers that a plan may change, unless said
SECONDS = 0.3  # for each race
REPEATED = 64  # samples in one timing of a layer that skips work, at least


def compile(
    network: ConditionalMLP,
    calibration_inputs: Tensor,
    batch_size: int = 1,
    threads: int | None = None,
    engine: str | Sequence[str] = "auto",
    max_disagreement: float = DISAGREEMENT,
    seconds: float | None = None,
    int8: bool = True,
    libraries: bool = True,
) -> Compiled:
    """The network as a callable that skips work, by the fastest plan that keeps its answers.

    The plan is timed for one batch size and thread count; the callable takes any batch. It holds a copy
    of the weights. Where a layer runs dense or input-sparse, its gate is left out and all its units are
    computed; where it runs in int8 or bfloat16, weights and inputs are rounded. Such a plan must give the
    network's own predictions, those of float32 with its gates, on all but a few calibration inputs.

    Args:
        network: trained.
        calibration_inputs: (samples, in_features), inputs as the network will get them.
        batch_size: to be fast at.
        threads: to use; None means as many as torch uses now.
        engine: ``auto``, or what to force, in float32: ``dense``; ``exact``, all layers input-sparse;
            ``gated``, all gates in use; or one way for each layer, such as a stored plan's ``ways``.
        max_disagreement: share of calibration predictions that ``auto`` may change, by leaving gates out and
            by int8 together.
        seconds: for each race between ways, of which there is one a layer and one or two of the whole;
            None means 0.3.
        int8: whether ``auto`` may run layers in it, or in bfloat16.
        libraries: whether ``auto`` may leave layers to torch in bfloat16 or to ONNX Runtime, where these are
            faster.

    Returns:
        The callable; its ``plan`` prints as a table and saves as JSON.

    Raises:
        UserError: an argument is wrong, or a weight is not finite.
    """
    layers = layers_of(network)
    inputs = calibration(calibration_inputs, layers[0].inputs)
    threads = torch.get_num_threads() if threads is None else threads
    if isinstance(engine, str) and engine not in ENGINES:
        known = ", ".join(ENGINES)
        raise UserError(f"engine={engine} is unknown: use one of {known}, or a way per layer")
    if batch_size < 1 or threads < 1:
        raise UserError(f"batch_size={batch_size}, threads={threads}: expected 1 or more")
    tuner = Tuner(
        Layout(layers, inputs), inputs, batch_size, threads, seconds=seconds, int8=int8, libraries=libraries
    )
    try:
        ways, plan = tuner.plan(engine, max_disagreement)
    except UnavailableError as error:
        raise UserError(f"engine names onnxruntime, which is {error}") from error
    compiled = Compiled(tuner.layout.only(ways), ways, tuner.workers, tuner.shared_from)
    compiled.plan = plan(compiled)
    return compiled


def calibration(inputs: Tensor, features: int) -> Tensor:
    """Calibration inputs, at most ``SAMPLES``, checked.

    Raises:
        UserError: there are none, or they are not finite or of another shape.
    """
    inputs = accepted(inputs, features)[:SAMPLES]
    if not len(inputs) or not bool(inputs.isfinite().all()):
        what = "NaN or infinity" if len(inputs) else "no samples"
        raise UserError(f"calibration_inputs hold {what}: expected real inputs of the network")
    return inputs


class Tuner:
    """Times ways for one batch size and thread count.

    Args:
        layout: the network's weights.
        inputs: (samples, in_features), finite.
        batch_size: samples of a call.
        threads: that a call may use.
        seconds: for each race; None means ``SECONDS``.
        int8: whether layers may run in it, or in bfloat16.
        libraries: whether torch in bfloat16 and ONNX Runtime may run layers, too; the layout has to hold
            calibration inputs.
    """

    workers: int
    """Threads that the plan uses: one where more gain nothing."""
    shared_from = 2
    """Samples from which more than one of them work."""

    def __init__(
        self,
        layout: Layout,
        inputs: Tensor,
        batch_size: int,
        threads: int,
        seconds: float | None = None,
        int8: bool = True,
        libraries: bool = False,
    ) -> None:
        warm_up()
        self._seconds = SECONDS if seconds is None else seconds
        self.layout, self.batch_size, self.threads = layout, batch_size, threads
        self.workers, self._int8 = threads, int8
        self._installed = all(map(find_spec, ("onnxruntime", "onnx")))
        known = (ONNX, *([BFLOAT16, ONNX_INT8] if int8 else [])) if libraries else ()
        self._libraries = [name for name in known if name == BFLOAT16 or self._installed]
        self.layers = layout.layers
        self._gates = [layer.gate is not None for layer in self.layers]
        self.inputs = inputs
        self.passed = chain(self.layers, inputs.numpy())
        self.answers = self.passed[-1].argmax(1)
        self._shares: dict[Ways, float] = {}

    def plan(
        self, engine: str | Sequence[str], max_disagreement: float
    ) -> tuple[Ways, Callable[[Compiled], Plan]]:
        """The ways to use, and what makes the plan once the network that uses them is there."""
        alone = [self.time_layer(k) for k in range(len(self.layers))]
        dense = (DENSE,) * len(self.layers)
        notes: list[str] = []
        if engine == "auto":
            tried = candidates(alone, self._gates, self._int8, self._libraries)
            others = {ways for ways in tried if any(map(library, ways))}
            near = self._near(tried - others, alone, max_disagreement)
            times = self._race_plans({*near, *others, dense}, 2 * self._seconds)
            # To count answers takes longer than to time: only of what is ahead.
            best = self._quickest(near, times, max_disagreement) or near[0]
            ahead = [ways for ways in others if times[ways] * MARGIN <= times[best]]
            best = self._quickest(ahead, times, max_disagreement) or best
            if self._libraries and not self._installed:
                notes.append(f"ONNX Runtime was not tried: {MISSING} (110 MB)")
            if times[best] * MARGIN > times[dense]:
                if (share := self._disagreement(dense)) <= max_disagreement:
                    best, note = dense, "no other way was faster than dense by 2 % or more"
                else:
                    note = f"dense is not used: without its gates it changes {share:.2%} of predictions"
                notes.append(note)
        else:
            best = forced(engine, alone, self._gates)
            times = self._race_plans({best, dense}, self._seconds)
        named = engine if isinstance(engine, str) else "ways"
        return best, self._made(named, best, alone, times, notes, self._disagreement(best))

    def _near(self, tried: set[Ways], alone: Sequence[Times], allowed: float) -> list[Ways]:
        """Plans that may turn out the fastest to keep the answers, by what their layers take alone.

        All gates in float32 are the network itself: they will do where, by rounding, nothing else does.
        """
        took = partial(expected, alone=alone)
        ranked = sorted(tried, key=took)
        if self._disagreement(ranked[0]) > allowed:
            ranked = sorted({*tried, *nearer(alone, allowed, self._disagreement)}, key=took)
        kept = (ways for ways in ranked if self._disagreement(ways) <= allowed)
        first = next(kept, forced("gated", alone, self._gates))
        return [ways for ways in ranked if took(first) <= took(ways) <= NEAR * took(first)]

    def _quickest(self, plans: Sequence[Ways], times: dict[Ways, float], allowed: float) -> Ways | None:
        """The fastest of the plans that keep the answers."""
        ranked = sorted(plans, key=times.__getitem__)
        return next((ways for ways in ranked if self._disagreement(ways) <= allowed), None)

    def among(
        self, choices: Sequence[Sequence[Sequence[str]]], after: Sequence[float] = ()
    ) -> tuple[Ways, Callable[[Compiled], Plan]]:
        """The same of plans each of whose ways is among those that one of the choices has for its layer.

        Where one of them may be dense throughout, ONNX Runtime may run it in float32. No answers are counted:
        what the choices have in common is the caller's business.

        Args:
            choices: by layer, ways.
            after: microseconds that each choice costs afterwards, whatever its ways.
        """
        dense = (DENSE,) * len(self.layers)
        possible = [{DENSE}.union(*(choice[k] for choice in choices)) for k in range(len(dense))]
        alone = [self.time_layer(k, tuple(ways)) for k, ways in enumerate(possible)]
        kept: dict[Ways, float] = {}
        for choice, costs in zip(choices, after or [0.0] * len(choices), strict=True):
            allowed = [{way: times[way] for way in ways} for times, ways in zip(alone, choice, strict=True)]
            unbroken = [without(times, {DENSE}) for times in allowed]
            rests = [tuple(fastest(times, (way,)) for times in allowed) for way in ("", *possible[-1])]
            rests.append(tuple(map(fastest, unbroken)))
            kept |= {(first, *rest[1:]): costs for first in allowed[0] for rest in rests}
        if dense in kept and ONNX in self._libraries:
            every = (DENSE + ONNX,) * len(dense)
            kept |= dict.fromkeys([every, (INPUT_SPARSE, *every[1:])], kept[dense])
        times = self._race_plans({dense, *kept}, 2 * self._seconds)
        best = min(kept, key=lambda ways: times[ways] + kept[ways])
        if dense in kept and times[best] * MARGIN > times[dense]:
            best = dense
        return best, self._made("auto", best, alone, times, [], None)

    def _made(
        self,
        engine: str,
        best: Ways,
        alone: Sequence[Times],
        times: dict[Ways, float],
        notes: list[str],
        disagreement: float | None,
    ) -> Callable[[Compiled], Plan]:
        """What makes the plan of the best ways, with as many threads as pay."""
        dense = (DENSE,) * len(best)
        if self.threads > 1:
            few = _medians({n: self._runs(self._compiled(best, n)) for n in (1, self.threads)}, self._seconds)
            self.shared_from = shared_from(self.batch_size, self.threads, few[1], few[self.threads])
            if few[1] <= few[self.threads]:
                self.workers, times[best] = 1, few[1]
                notes.append(f"one thread is as fast as {self.threads} here, and is used")

        def made(network: Compiled) -> Plan:
            return Plan(
                batch_size=self.batch_size,
                threads=self.threads,
                engine=engine,
                layers=tuple(self._layer_plan(k, best[k], alone[k]) for k in range(len(best))),
                microseconds=times[best],
                dense_microseconds=times[dense],
                disagreement=disagreement,
                bytes=network.bytes,
                dense_bytes=dense_bytes([(layer.inputs, layer.units) for layer in self.layers]),
                notes=tuple(notes),
            )

        return made

    def _compiled(self, ways: Ways, threads: int) -> Compiled:
        return Compiled(self.layout, ways, threads)

    def _race_plans(self, plans: set[Ways], seconds: float) -> dict[Ways, float]:
        return _medians({ways: self._runs(self._compiled(ways, self.threads)) for ways in plans}, seconds)

    def time_layer(self, k: int, ways: Ways = ()) -> Times:
        """Microseconds of a layer alone, per batch, for each of these ways, or for all it can be run in."""
        layer = self.layers[k]
        possible = ways or (UNGATED if layer.gate is None else UNGATED + GATES)
        if not self._int8 or layer.inputs > MOST:
            possible = tuple(way for way in possible if not in_int8(way))
        times = _medians({way: self._alone(k, way) for way in possible}, self._seconds)
        # A dense layer is a call of its own in a network too; the others are timed without the call.
        return {way: took if way == DENSE else took / self._repeats for way, took in times.items()}

    @property
    def _repeats(self) -> int:
        return max(1, REPEATED // self.batch_size)

    def _alone(self, k: int, way: str) -> Callable[[], object]:
        if way == DENSE:
            layer, batches = [self.layout.dense(k)], self._batches(self.passed[k], self.batch_size)
            return lambda: run_dense(layer, next(batches))
        threads = self.threads if self.batch_size > 1 else 1
        together = min(self.batch_size, samples_together([way]))
        stage = Skipping(self.layout, k, [way], threads, together=together)
        several = self._batches(self.passed[k], self.batch_size * self._repeats)
        return lambda: stage(next(several))

    def _runs(self, compiled: Compiled) -> Callable[[], object]:
        batches = self._batches(self.inputs.numpy(), self.batch_size)
        return lambda: compiled(next(batches))

    def _batches(self, inputs: Array, size: int) -> Iterator[Tensor]:
        """Batches without end, other samples in each as long as there are any."""
        repeated = np.concatenate([inputs] * -(-size // len(inputs))) if len(inputs) < size else inputs
        starts = range(0, len(repeated) - size + 1, size)
        return cycle([torch.from_numpy(repeated[start : start + size]) for start in starts])

    def _disagreement(self, ways: Ways) -> float:
        """Share of answers that a plan changes, counted once."""
        if ways not in self._shares:
            logits = self._compiled(ways, self.threads)(self.inputs)
            self._shares[ways] = float(np.mean(logits.numpy().argmax(1) != self.answers))
        return self._shares[ways]

    def _layer_plan(self, k: int, way: str, times: Times) -> LayerPlan:
        layer = self.layers[k]
        on = layer.on(self.passed[k])
        return LayerPlan(
            inputs=layer.inputs,
            units=layer.units,
            rank=None if layer.gate is None else layer.gate.u.shape[1],
            way=way,
            input_density=float(np.mean(self.passed[k] != 0)),
            unit_density=1.0 if on is None else float(np.mean(on)),
            microseconds=times,
        )


def shared_from(batch_size: int, threads: int, alone: float, together: float) -> int:
    """Samples from which several threads are faster than one, by what both take for a batch.

    To share work takes a time of its own, whatever the batch: what is left of ``together`` beyond its part
    of ``alone``. It is won back where the other parts of a batch take longer.
    """
    others = 1 - 1 / threads
    return max(2, ceil(batch_size * (together / alone - 1 / threads) / others))


def _medians(candidates: dict[Name, Callable[[], object]], seconds: float) -> dict[Name, float]:
    return {name: statistics.median(took) for name, took in race(candidates, seconds).items()}
