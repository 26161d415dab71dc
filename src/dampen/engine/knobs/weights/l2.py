"""Coupled L2: the penalty `l2 / 2 * ||w||^2` in the gradient, under every optimizer.

Krogh and Hertz (1992), "A simple weight decay can improve generalization", equations 1 and 2; Loshchilov and Hutter
(2019), "Decoupled weight decay regularization", section 2: an adaptive optimizer rescales this gradient like the
loss's own, so that weights with large gradients are held less than with decoupled decay.
"""

from torch import Tensor

from dampen.engine.knobs._base import Knob, OnGradient, number


def l2_gradient(w: Tensor, l2: float | Tensor) -> Tensor:
    """Return `l2 * w`, the gradient of `l2 / 2 * ||w||^2` (`weight_decay.l2_penalty`)."""
    return l2 * w


strength = number("l2")
KNOB = Knob(
    "l2",
    "gradient",
    strength,
    "Adds `l2 * w` to the gradient of each decaying weight, whatever the optimizer.",
    "0 or larger",
    "Krogh and Hertz 1992, eq. 2",
    neutral=0.0,
    acts=OnGradient(lambda w, value, start: l2_gradient(w, value)),
    log=True,
)
