"""Weight decay: the penalty `weight_decay / 2 * ||w||^2`, or the shrinking of weights that stands for it.

Krogh and Hertz (1992), "A simple weight decay can improve generalization", equations 1 and 2; Loshchilov and
Hutter (2019), "Decoupled weight decay regularization", propositions 1 and 2: under SGD the penalty and the
shrinking `w <- (1 - lr * weight_decay) w` are the same thing, under Adam they are not.
"""

import math

from torch import Tensor

from dampen.errors import InputError


def l2_penalty(weight: Tensor, weight_decay: float | Tensor) -> Tensor:
    """Return `weight_decay / 2 * ||weight||^2`, a scalar to add to the loss.

    Its gradient is `weight_decay * weight`: what `torch.optim.SGD` and `Adam` add for their `weight_decay`.
    """
    return weight_decay * weight.square().sum() / 2


def decay(weight: Tensor, lr: float | Tensor, weight_decay: float | Tensor) -> Tensor:
    """Return `(1 - lr * weight_decay) * weight`: decoupled decay, as `torch.optim.AdamW` applies it."""
    return (1 - lr * weight_decay) * weight


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Say whether a parameter decays by default: matrices and kernels do, biases and normalisation do not.

    A parameter with fewer than two dimensions is a bias, a scale or a shift: it sets where units work, not how
    strongly they react to the input, and shrinking it does not make the network simpler.
    """
    return parameter.ndim >= 2


def strength(value: object) -> float:
    """Read the knob: a finite number, 0 (no decay) or larger."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < math.inf):
        raise InputError(f"weight_decay must be a finite number, 0 or larger, got {value!r}")
    return float(value)
