"""Every regulariser: where it enters a training step and how it reads its value."""

from dampen.engine.knobs._base import (
    Averages,
    Draws,
    Knob,
    OnActivation,
    OnBatch,
    OnGradient,
    OnUpdate,
    OnWeights,
    Scales,
    Site,
    Variants,
    number,
    one_of,
)
from dampen.engine.knobs._masks import WithoutGradient
from dampen.engine.knobs._registry import KNOBS, find_knob, register_installed_knobs, register_knob
from dampen.engine.knobs._setting import Setting, side_by_side, turned

__all__ = [
    "KNOBS",
    "Averages",
    "Draws",
    "Knob",
    "OnActivation",
    "OnBatch",
    "OnGradient",
    "OnUpdate",
    "OnWeights",
    "Scales",
    "Setting",
    "Site",
    "Variants",
    "WithoutGradient",
    "find_knob",
    "number",
    "one_of",
    "register_installed_knobs",
    "register_knob",
    "side_by_side",
    "turned",
]
