"""Where a trial's seconds go: the functions of each phase, wrapped by a clock, for ``benchmarks.sweep``.

What a phase calls of another phase counts there: the phases of a trial add up to the whole of it.
"""

import functools
import json
import sys
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

PHASES = {
    "training": ["ccsweep.training.fit:Job.fit"],
    "validating": ["ccsweep.training.fit:Job.validate", "ccsweep.training.fit:Job.test"],
    "new factors": ["ccsweep.training.posthoc:refit"],
    "timing": [
        "ccsweep.engine.tune:compile",
        "ccsweep.engine.clock:race",
        "ccsweep.engine.benchmark:answered",
    ],
    "waiting to time": ["ccsweep.files:in_turn"],
    "figures, spectra": ["ccsweep.report.pictures:draw_run", "ccsweep.training.fit:Job.spectra"],
    "MLflow model": ["ccsweep.tasks.result:log_network"],
    "provenance": ["ccsweep.tracking.provenance:write", "ccsweep.tracking.provenance:code_tags"],
    "MLflow run": [
        "ccsweep.tracking.run:Run.start",
        "ccsweep.tracking.run:Run.log_metrics",
        "ccsweep.tracking.run:Run.log_artifact",
        "ccsweep.tracking.run:Run.log_dataset",
        "ccsweep.tracking.run:Run.history",
        "ccsweep.tracking.run:Run.end",
    ],
}
"""Functions by phase; all else of a trial is ``rest``: imports, data, the network made, its report."""
FILE = "phases.json"

_stack: list[str] = []
_spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
_mark = (0.0, 0.0)


def _turn() -> None:
    """Give the time since the last turn to the phase on top."""
    global _mark
    now = (time.perf_counter(), time.process_time())
    if _stack:
        spent = _spent[_stack[-1]]
        spent[0] += now[0] - _mark[0]
        spent[1] += now[1] - _mark[1]
    _mark = now


def _clocked(phase: str, function: Any) -> Any:
    @functools.wraps(function)
    def clocked(*arguments: Any, **options: Any) -> Any:
        _turn()
        _stack.append(phase)
        try:
            return function(*arguments, **options)
        finally:
            _turn()
            _stack.pop()

    return clocked


@functools.cache
def _wrap() -> None:
    for phase, names in PHASES.items():
        for name in names:
            module, _, path = name.partition(":")
            place: Any = import_module(module)
            *owners, last = path.split(".")
            for owner in owners:
                place = getattr(place, owner)
            if (function := vars(place).get(last)) is None:
                continue
            if isinstance(function, classmethod):
                setattr(place, last, classmethod(_clocked(phase, function.__func__)))
                continue
            clocked = _clocked(phase, function)
            setattr(place, last, clocked)
            for other in _modules():  # those that imported it by its name
                if getattr(other, last, None) is function:
                    setattr(other, last, clocked)


def _modules() -> list[Any]:
    for name in ("tasks.result", "tasks.run", "engine.benchmark", "engine.clock", "engine.tune"):
        import_module(f"ccsweep.{name}")
    return [module for name, module in sys.modules.items() if name.startswith("ccsweep")]


def phased(cfg: DictConfig) -> dict[str, Any]:
    """``ccsweep.app.run_task`` with the seconds of each phase beside its report."""
    from ccsweep.app import run_task

    folder = Path(HydraConfig.get().runtime.output_dir)
    began = time.perf_counter()
    _wrap()
    imports = time.perf_counter() - began
    _spent.clear()
    _turn()
    _stack.append("rest")
    try:
        return run_task(cfg)
    finally:
        _turn()
        _stack.clear()
        (folder / FILE).write_text(json.dumps({**_spent, "imports": [imports, imports]}))
