"""Dropout with unbiased scaling: Srivastava et al. (2014), "Dropout", JMLR 15, section 4 and appendix A.

A pure function of the activations and of the uniforms that decide, and a thin module around it.
"""

import torch
from torch import Tensor, nn

from dampen.errors import InputError


def dropout(h: Tensor, p: float | Tensor, uniforms: Tensor) -> Tensor:
    """Set a unit to 0 where its uniform is below `p`, and divide the others by `1 - p`.

    The expectation over the uniforms is `h` for every p below 1; at p = 1 everything is 0.

    Args:
        h: activations, any shape.
        p: probability of dropping a unit, a number or a tensor that broadcasts against `h`.
        uniforms: numbers in [0, 1) that broadcast against `h`. Two rates that are given the same
            uniforms drop nested sets of units: what the smaller one drops, the larger one drops too.

    Example:
        >>> dropout(torch.tensor([1.0, 2.0, 3.0]), 0.5, torch.tensor([0.7, 0.2, 0.5]))
        tensor([2., 0., 6.])
    """
    p = torch.as_tensor(p, dtype=h.dtype, device=h.device)
    keep_probability = torch.where(p < 1, 1 - p, 1)  # at p = 1 nothing is kept: any divisor but 0 will do
    return torch.where(uniforms >= p.to(uniforms.dtype), h / keep_probability, 0)


class Dropout(nn.Module):
    """Dropout as a layer: random while training, the identity in evaluation.

    Args:
        p: probability of dropping a unit, in [0, 1].

    Raises:
        InputError: `p` is not in [0, 1].
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = rate(p)

    def forward(self, h: Tensor) -> Tensor:
        """Drop units of `h` (any shape) with fresh uniforms from torch's global generator."""
        return dropout(h, self.p, torch.rand_like(h)) if self.training else h

    def extra_repr(self) -> str:
        """Show the rate when the module is printed."""
        return f"p={self.p}"


def rate(value: object) -> float:
    """Read one dropout rate: a probability of dropping, in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"dropout must be a probability of dropping from 0 to 1, got {value!r}")
    return float(value)


def rates(value: object) -> float | tuple[float, ...]:
    """Read the knob: one rate for every dropout layer, or one rate per layer in the order of the forward pass."""
    if isinstance(value, list | tuple):
        return tuple(rate(p) for p in value)
    return rate(value)
