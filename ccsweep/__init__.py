"""Conditional ReLU networks that skip work, and the sweeps that find the good ones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccsweep.engine.accelerate import accelerate

__all__ = ["accelerate"]


def __getattr__(name: str) -> Any:
    if name != "accelerate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ccsweep.engine.accelerate import accelerate  # torch and numba stay off the path of --help

    return accelerate
