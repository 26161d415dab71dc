"""Every regulariser: where it enters a training step and how it reads its value."""

from dampen.knobs._knob import (
    Averages,
    Draws,
    Knob,
    OnActivation,
    OnBatch,
    OnGradient,
    OnWeights,
    Scales,
    Site,
    Variants,
)
from dampen.knobs._setting import Setting
from dampen.knobs._table import KNOBS

__all__ = [
    "KNOBS",
    "Averages",
    "Draws",
    "Knob",
    "OnActivation",
    "OnBatch",
    "OnGradient",
    "OnWeights",
    "Scales",
    "Setting",
    "Site",
    "Variants",
]
