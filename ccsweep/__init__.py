"""Conditional ReLU networks that skip work, and the sweeps that find the good ones."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ccsweep import study

if TYPE_CHECKING:
    from ccsweep.api import Run, Study, load, train
    from ccsweep.engine.accelerate import accelerate

    __version__: str

_PLACES = {
    "accelerate": "ccsweep.engine.accelerate",
    "load": "ccsweep.api",
    "Run": "ccsweep.api",
    "Study": "ccsweep.api",
    "train": "ccsweep.api",
}
"""Imported when they are asked for: torch and numba stay off the path of --help."""

__all__ = ["Run", "Study", "__version__", "accelerate", "load", "study", "train"]


class _Study(ModuleType):
    """The room's name is also the word for what one wants of it: ``ccsweep.study(name)``."""

    def __call__(self, name: str, storage: str | None = None) -> "Study":
        """See :func:`ccsweep.api.study`."""
        from ccsweep.api import study

        return study(name, storage)


study.__class__ = _Study


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ccsweep")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
