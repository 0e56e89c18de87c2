"""Anyone's model made fast, with a promise about its answers."""

from ccsweep.engine.accelerate.accelerated import Accelerated, load
from ccsweep.engine.accelerate.call import accelerate
from ccsweep.engine.accelerate.report import Report

__all__ = ["Accelerated", "Report", "accelerate", "load"]
