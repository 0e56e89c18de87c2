"""What the schema says of a key beside its type: which values it may have, and whose it is."""

from enum import Enum
from typing import Annotated

from annotated_types import Ge, Gt, Lt


class OneOf(tuple[str, ...]):
    """The names that a value may have; of a mapping, each of its values."""


class Role(Enum):
    """What a key is, where it is more than a setting of the run that its result depends on."""

    STUDY = "says how a study runs, and not what its trials are"
    COMMAND = "says what one command does; the result is the same"
    MACHINE = "is another on another machine; the result is the same"
    SAME = "is a setting of the run, but the same for all trials of a study"
    RESUME = "may change with training.resume=..."
    RUN = "may change with run=..."


ASIDE = (Role.STUDY, Role.COMMAND, Role.MACHINE)
"""Roles of keys that a result does not depend on."""

# A range, and how an error says what it expects.
Count = Annotated[int, Gt(0), "a positive whole number"]
Positive = Annotated[float, Gt(0), "a positive number"]
NotNegative = Annotated[float, Ge(0), "0 or more"]
Part = Annotated[float, Ge(0), Lt(1), "at least 0 and below 1"]
Seed = Annotated[int, Ge(0), Lt(2**32), "0 or more, below 2 to the 32"]
