"""Every regulariser: where it enters a training step and how it reads its value."""

from dampen.knobs._setting import Setting
from dampen.knobs._table import KNOBS, Knob

__all__ = ["KNOBS", "Knob", "Setting"]
