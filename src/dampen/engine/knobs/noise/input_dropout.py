"""Input dropout: numbers of the input are set to 0.

Srivastava et al. (2014), "Dropout", JMLR 15, section 4 (the mask r(0) on the input) and appendix A.4, where a rate of
0.2 is advised for real-valued inputs; the same as masking noise in Vincent et al. (2008), but for the scale.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dampen.engine.knobs._base import Draws, Knob, OnBatch
from dampen.engine.knobs.batch._stacked import changed, for_each_member, numbers, of_members
from dampen.engine.knobs.noise import dropout


def rate(value: object) -> float:
    """Read the knob: a probability of dropping, in [0, 1]; the function is that of `dropout`."""
    return dropout.rate(value, "input_dropout")


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    which = numbers(inputs, "input_dropout")
    return [of_members(values, targets.device), *(draws.uniform(*inputs[i].shape[1:]).unsqueeze(1) for i in which)]


def _inputs(inputs: list[Tensor], p: Tensor, *uniforms: Tensor) -> list[Tensor]:
    which = numbers(inputs, "input_dropout")
    return changed(inputs, which, lambda x, place: for_each_member(dropout.dropout, x, p, uniforms[place]))


KNOB = Knob(
    "input_dropout",
    "data",
    rate,
    "Sets numbers of the input to 0 at random, and divides the others by 1 - p.",
    "a rate from 0 to 1",
    "Srivastava et al. 2014, sec. 4 and app. A.4",
    neutral=0.0,
    acts=OnBatch(_draw, inputs=_inputs),
)
