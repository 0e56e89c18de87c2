"""Conditional ReLU networks that skip work, and the sweeps that find the good ones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccsweep.engine.accelerate import accelerate, load

__all__ = ["accelerate", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ccsweep.engine import accelerate  # torch and numba stay off the path of --help

    return getattr(accelerate, name)
