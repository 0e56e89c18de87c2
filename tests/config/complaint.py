"""What a user reads who gives these overrides."""

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.explain import explain
from ccsweep.errors import UserError


def complaint(*overrides: str) -> str:
    """The line after ``ccsweep:``."""
    try:
        check(composed(overrides))
    except UserError as error:
        return str(error)
    except Exception as error:
        return explain(error)
    return "nothing to complain about"
