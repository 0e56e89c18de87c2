"""The fastest way to run each layer, found by timing on calibration inputs."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from ccsweep.engine.clock import Name, race
from ccsweep.engine.compiled import Compiled, Skipping, accepted, run_dense, warm_up
from ccsweep.engine.layers import Array, chain, layers_of
from ccsweep.engine.layout import Layout
from ccsweep.engine.plan import LayerPlan, Plan, dense_bytes
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED, WAYS
from ccsweep.kernels import float32
from ccsweep.network import ConditionalMLP

ENGINES = ("auto", "dense", "exact", "gated")
# Calibration inputs used at most: densities are known well enough from so many.
SAMPLES = 2048
# What a plan must gain over dense to be preferred: a tie, mistimed, would make it slower than dense.
MARGIN = 1.02
SECONDS = 0.3  # for each race
REPEATED = 64  # samples in one timing of a layer that skips work, at least

Ways = tuple[str, ...]


def compile(
    network: ConditionalMLP,
    calibration_inputs: Tensor,
    batch_size: int = 1,
    threads: int | None = None,
    engine: str | Sequence[str] = "auto",
    max_disagreement: float = 0.01,
    seconds: float | None = None,
) -> Compiled:
    """The network as a callable that skips work, by the fastest plan that keeps its answers.

    The plan is timed for one batch size and thread count; the callable takes any batch. It holds a copy
    of the weights. Where a layer runs dense or input-sparse, its gate is left out and all its units are
    computed: such a plan must give the network's own predictions on all but a few calibration inputs.

    Args:
        network: trained.
        calibration_inputs: (samples, in_features), inputs as the network will get them.
        batch_size: to be fast at.
        threads: to use; None means as many as torch uses now.
        engine: ``auto``, or what to force: ``dense``; ``exact``, all layers input-sparse; ``gated``, all
            gates in use; or one way for each layer, such as a stored plan's ``ways``.
        max_disagreement: share of calibration predictions that ``auto`` may change by leaving gates out.
        seconds: for each race between ways, of which there is one a layer and one or two of the whole;
            None means 0.3.

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
    tuner = Tuner(Layout(layers), inputs, batch_size, threads, seconds=seconds)
    ways, plan = tuner.plan(engine, max_disagreement)
    kept = [
        layer if way in (GATED, TWO_SIDED) else layer._replace(gate=None)
        for layer, way in zip(layers, ways, strict=True)
    ]
    compiled = Compiled(Layout(kept), ways, threads)
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
        threads: of a call.
        gated: whether the answers to keep are those with all gates in use, or with none.
        seconds: for each race; None means ``SECONDS``.
    """

    def __init__(
        self,
        layout: Layout,
        inputs: Tensor,
        batch_size: int,
        threads: int,
        gated: bool = True,
        seconds: float | None = None,
    ) -> None:
        warm_up()
        self._seconds = SECONDS if seconds is None else seconds
        self.layout, self.batch_size, self.threads = layout, batch_size, threads
        self.layers = layout.layers
        self.inputs = inputs
        self.passed = chain(self.layers, inputs.numpy())
        answers = self.passed if gated else chain(self.layers, inputs.numpy(), gated=False)
        self.answers = answers[-1].argmax(1)

    def plan(
        self, engine: str | Sequence[str], max_disagreement: float
    ) -> tuple[Ways, Callable[[Compiled], Plan]]:
        """The ways to use, and what makes the plan once the network that uses them is there."""
        alone = [self._time_layer(k) for k in range(len(self.layers))]
        dense = (DENSE,) * len(self.layers)
        notes: list[str] = []
        if engine == "auto":
            candidates = {ways: self._disagreement(ways) for ways in self._candidates(alone)}
            kept = {ways for ways, share in candidates.items() if share <= max_disagreement}
            compiled = {ways: Compiled(self.layout, ways, self.threads) for ways in kept | {dense}}
            times = _medians({ways: self._runs(c) for ways, c in compiled.items()}, 2 * self._seconds)
            best = min(kept, key=lambda ways: times[ways])
            if dense in kept and times[best] * MARGIN > times[dense]:
                best = dense
                notes.append("no other way was faster than dense by 2 % or more")
            if dense not in kept:
                share = f"{candidates[dense]:.2%}"
                notes.append(f"leaving out all gates changes {share} of predictions: dense was not tried")
        else:
            best = self._forced(engine, alone)
            compiled = {ways: Compiled(self.layout, ways, self.threads) for ways in {best, dense}}
            times = _medians({ways: self._runs(c) for ways, c in compiled.items()}, self._seconds)

        def made(network: Compiled) -> Plan:
            return Plan(
                batch_size=self.batch_size,
                threads=self.threads,
                engine=engine if isinstance(engine, str) else "ways",
                layers=tuple(self._layer_plan(k, best[k], alone[k]) for k in range(len(best))),
                microseconds=times[best],
                dense_microseconds=times[dense],
                disagreement=self._disagreement(best),
                bytes=network.layout.bytes,
                dense_bytes=dense_bytes([(layer.inputs, layer.units) for layer in self.layers]),
                notes=tuple(notes),
            )

        return best, made

    def _candidates(self, alone: Sequence[dict[str, float]]) -> set[Ways]:
        """Whole plans worth timing, put together from layers timed alone."""
        fastest = tuple(min(times, key=lambda way: times[way]) for times in alone)
        # One compiled call for all layers may beat a faster layer in between.
        unbroken = tuple(_fastest(times, set(times) - {DENSE}) for times in alone)
        exact = tuple(_fastest(times, {DENSE, INPUT_SPARSE}) for times in alone)
        sparse = (INPUT_SPARSE,) * len(alone)
        first = (unbroken[0], *sparse[1:])
        return {fastest, unbroken, exact, sparse, first, self._forced("gated", alone), (DENSE,) * len(alone)}

    def _forced(self, engine: str | Sequence[str], alone: Sequence[dict[str, float]]) -> Ways:
        if engine == "dense":
            return (DENSE,) * len(alone)
        if engine == "exact":
            return (INPUT_SPARSE,) * len(alone)
        if engine == "gated":
            return tuple(
                _fastest(times, {GATED, TWO_SIDED} if layer.gate else {DENSE, INPUT_SPARSE})
                for times, layer in zip(alone, self.layers, strict=True)
            )
        ways = tuple(engine)
        if len(ways) != len(alone):
            raise UserError(f"engine gives {len(ways)} ways: expected one for each of {len(alone)} layers")
        for k, (way, times) in enumerate(zip(ways, alone, strict=True), 1):
            if way not in times:
                raise UserError(f"engine has {way} for layer {k}: expected one of {', '.join(times)}")
        return ways

    def _time_layer(self, k: int) -> dict[str, float]:
        """Microseconds of a layer alone, per batch, for each way it can be run."""
        layer = self.layers[k]
        possible = WAYS if layer.gate is not None else WAYS[:2]
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
        together = min(self.batch_size, float32.SAMPLES)
        stage = Skipping(self.layout, k, [way], threads, together)
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
        logits = Compiled(self.layout, ways, self.threads)(self.inputs)
        return float(np.mean(logits.numpy().argmax(1) != self.answers))

    def _layer_plan(self, k: int, way: str, times: dict[str, float]) -> LayerPlan:
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


def _medians(candidates: dict[Name, Callable[[], object]], seconds: float) -> dict[Name, float]:
    return {name: statistics.median(took) for name, took in race(candidates, seconds).items()}


def _fastest(times: dict[str, float], ways: set[str]) -> str:
    return min(ways, key=lambda way: times[way])
