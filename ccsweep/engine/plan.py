"""What was chosen for each layer, what it could gain at most, and what it gained."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ccsweep.engine.ways import counted
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, WAYS, LayerCost, limit, products
from ccsweep.files import write_text


@dataclass(frozen=True)
class LayerPlan:
    """One layer: its way, the densities found on calibration inputs, and the times measured there."""

    inputs: int
    units: int
    rank: int | None
    """None without an estimator."""
    way: str
    input_density: float
    """Share of inputs that are not zero."""
    unit_density: float
    """Share of units that the gate leaves on; without an estimator 1."""
    microseconds: dict[str, float]
    """Of this layer alone, per batch, by way."""

    @property
    def density(self) -> float:
        """Share of the layer's products that its way computes, the estimator's own not counted."""
        return products(counted(self.way), self.input_density, self.unit_density)

    @property
    def limit(self) -> float:
        """Theoretical speed-up: dense work over what the way computes, in the same numbers."""
        layer = LayerCost(self.inputs, self.units, self.rank, self.unit_density)
        return limit(counted(self.way), layer, self.input_density)

    @property
    def speedup(self) -> float | None:
        """Measured, over dense; None where either was not timed.

        At batch 1 it may pass the limit, which counts operations: torch's product of a matrix and one
        vector reads weights more slowly than the kernels do.
        """
        if not {DENSE, self.way} <= self.microseconds.keys():
            return None
        return self.microseconds[DENSE] / self.microseconds[self.way]


@dataclass(frozen=True)
class Plan:
    """The ways of all layers for one batch size and thread count; ``print`` shows it as a table."""

    batch_size: int
    threads: int
    engine: str
    """What was asked for: ``auto``, or what was forced."""
    layers: tuple[LayerPlan, ...]
    microseconds: float
    """Of the whole network, per batch; median."""
    dense_microseconds: float
    """Of the same with every layer dense, timed in turns with it."""
    disagreement: float | None
    """Share of calibration predictions that differ from the network's own; None where none were counted."""
    bytes: int
    """Memory of the compiled network."""
    dense_bytes: int
    """Memory of its weights and biases alone."""
    notes: tuple[str, ...] = field(default=())

    @property
    def ways(self) -> tuple[str, ...]:
        """One for each layer; ``compile`` takes them as its ``engine``."""
        return tuple(layer.way for layer in self.layers)

    @property
    def speedup(self) -> float:
        """Measured, whole network over dense."""
        return self.dense_microseconds / self.microseconds

    def __str__(self) -> str:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("layer")
        table.add_column("way")
        for name in ("density", "limit", "measured us", "gain", "of the limit"):
            table.add_column(name, justify="right")
        for layer in self.layers:
            gain = layer.speedup
            took = layer.microseconds.get(layer.way)
            table.add_row(
                f"{layer.inputs}x{layer.units}",
                layer.way,
                f"{layer.density:.3f}",
                f"{layer.limit:.1f}x",
                "-" if took is None else f"{took:.1f}",
                "-" if gain is None else f"{gain:.1f}x",
                # By the clock over dense float32: of int8 not only what is left out counts.
                "-" if gain is None or layer.way not in WAYS else f"{gain / layer.limit:.0%}",
            )
        console = Console(width=100, highlight=False)
        with console.capture() as capture:
            counted = self.disagreement is not None
            differ = f"predictions that differ: {self.disagreement:.2%}; " if counted else ""
            threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
            console.print(f"batch {self.batch_size}, {threads}, engine {self.engine}")
            console.print(table)
            console.print(
                f"network: {self.microseconds:.1f} us, dense {self.dense_microseconds:.1f} us: "
                f"{self.speedup:.2f}x; {differ}{self.bytes / 1e6:.1f} MB, "
                f"{self.bytes / self.dense_bytes:.2f} times the dense weights",
                soft_wrap=True,
            )
            for note in self.notes:
                console.print(f"note: {note}", soft_wrap=True)
        return capture.get().rstrip()

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        content = asdict(self)
        for layer, stored in zip(self.layers, content["layers"], strict=True):
            stored |= {"density": layer.density, "limit": layer.limit, "speedup": layer.speedup}
        content["speedup"] = self.speedup
        write_text(Path(path), json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read what ``save`` wrote.

        Raises:
            UserError: it is not there, or something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            layers = tuple(LayerPlan(**_fields(LayerPlan, layer)) for layer in content["layers"])
            rest = _fields(cls, content) | {"layers": layers, "notes": tuple(content["notes"])}
            return cls(**rest)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no plan of the engine ({error!r}): compile again and save it"
            ) from error


def dense_bytes(shapes: Sequence[tuple[int, int]]) -> int:
    """Weights and biases of layers (inputs, units) in float32."""
    return sum(4 * (inputs + 1) * units for inputs, units in shapes)


def _fields(kind: Any, content: dict[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in kind.__dataclass_fields__}
