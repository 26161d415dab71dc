"""Cautious weight decay: a weight decays only where that pulls it the way the optimizer's update does.

Chen et al. (2026), "Cautious weight decay", ICLR 2026, arXiv 2510.12402: with the optimizer's update u,
`w <- w - lr * (u + cautious_decay * 1[u * w >= 0] * w)`. Any optimizer has such an update: it is what its step takes
away, so that the weights before and after the step are enough to find its sign. One that is too small to change a
weight in its precision counts as 0, and the weight decays.
"""

from torch import Tensor

from dampen.engine.knobs._base import Knob, OnUpdate, number


def cautious_decay(w: Tensor, before: Tensor, decay: float | Tensor, lr: float | Tensor) -> Tensor:
    """Return weights after a step, less `lr * decay * before` where the step did not move them away from 0.

    Args:
        w: after the optimizer's step, without decay of its own.
        before: the same before it.
        decay: strength; broadcasts against both.
        lr: learning rate of this step, likewise.

    Example:
        >>> import torch
        >>> before = torch.tensor([1.0, 1.0, -1.0])
        >>> cautious_decay(torch.tensor([0.5, 1.5, -0.5]), before, 1.0, 0.1)
        tensor([ 0.4000,  1.5000, -0.4000])
    """
    agrees = (before - w) * before >= 0
    return w - lr * decay * before * agrees


KNOB = Knob(
    "cautious_decay",
    "parameter",
    number("cautious_decay"),
    "Takes `lr * cautious_decay * w` from each decaying weight in a step where the optimizer's update does not move it "
    "away from 0, whatever the optimizer; it stands in the place of `weight_decay`.",
    "0 or larger",
    "Chen et al. 2026, arXiv 2510.12402",
    neutral=0.0,
    acts=OnUpdate(cautious_decay),
    excludes=("weight_decay", "decay_timescale"),
    log=True,
)
