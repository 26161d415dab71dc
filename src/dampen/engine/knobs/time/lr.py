"""The learning rate: no regulariser, but no regulariser can be compared without it."""

import math

from dampen.engine.knobs._base import Knob
from dampen.errors import InputError


def learning_rate(value: object) -> float:
    """Read the knob: a finite number larger than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise InputError(f"lr must be a finite number larger than 0, got {value!r}")
    return float(value)


KNOB = Knob(
    "lr",
    "parameter",
    learning_rate,
    "The learning rate at the schedule's peak.",
    "above 0",
    "no regulariser itself, but no two can be compared without it",
    log=True,
)
