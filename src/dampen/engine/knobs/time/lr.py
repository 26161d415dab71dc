"""The learning rate: no regulariser, but no regulariser can be compared without it."""

from dampen._checks import finite
from dampen.engine.knobs._base import Knob


def learning_rate(value: object) -> float:
    """Read the knob: a finite number larger than 0."""
    return finite("lr", value)


KNOB = Knob(
    "lr",
    "parameter",
    learning_rate,
    "The learning rate at the schedule's peak.",
    "above 0",
    "no regulariser itself, but no two can be compared without it",
    log=True,
)
