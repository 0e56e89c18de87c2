"""A trained network made fast: work that a zero input or a negative unit makes needless is left out.

``compile`` times the ways to run each layer and returns a callable; see ``ccsweep.engine.tune``.
"""

from ccsweep.engine.compiled import Compiled
from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.engine.tune import compile

__all__ = ["Compiled", "LayerPlan", "Plan", "compile"]
