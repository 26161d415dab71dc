"""Every regulariser: where it enters a training step and how it reads its value."""

from dampen.engine.knobs._base import (
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
from dampen.engine.knobs._registry import KNOBS
from dampen.engine.knobs._setting import Setting

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
