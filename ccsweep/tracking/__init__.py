"""MLflow runs and where they came from.

``store`` finds and makes the place, ``run`` writes one run into it, ``find`` gets a run back,
``provenance`` says what code and machine made it, ``ui`` shows them. MLflow takes two seconds to
import, so every module here imports it only inside the functions that need it.
"""

from ccsweep.tracking import provenance
from ccsweep.tracking.find import FoundRun, find_run
from ccsweep.tracking.mask import mask
from ccsweep.tracking.parent import close_parent, open_parent
from ccsweep.tracking.run import Run
from ccsweep.tracking.store import prepare, resolve_uri

__all__ = [
    "FoundRun",
    "Run",
    "close_parent",
    "find_run",
    "mask",
    "open_parent",
    "prepare",
    "provenance",
    "resolve_uri",
]
