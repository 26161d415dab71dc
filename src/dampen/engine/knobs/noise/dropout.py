"""Dropout with unbiased scaling: Srivastava et al. (2014), "Dropout", JMLR 15, section 4 and appendix A.

Pure functions of the activations and of the uniforms that decide, and a thin module around the first.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from dampen._checks import is_number
from dampen.engine.knobs._base import Knob
from dampen.engine.knobs._masks import Keep
from dampen.errors import InputError

_ALPHA = -1.7580993408473766  # what SELU tends to for large negative inputs: -lambda * alpha (Klambauer et al. 2017)

Rates = float | tuple[float, ...] | tuple[tuple[str, float], ...]
"""A dropout knob's value: one rate, one for each place in the order of the forward pass, or (module name, rate)s."""


def dropout(h: Tensor, p: float | Tensor, uniforms: Tensor) -> Tensor:
    """Set a unit to 0 where its uniform is below `p`, and divide the others by `1 - p`.

    The expectation over the uniforms is `h` for every p below 1; at p = 1 everything is 0. Uniforms of shape
    `[B, C, 1, ...]` drop whole channels.

    Args:
        h: activations, any shape.
        p: probability of dropping a unit, a number or a tensor that broadcasts against `h`.
        uniforms: numbers in [0, 1) that broadcast against `h`. Two rates that are given the same
            uniforms drop nested sets of units: what the smaller one drops, the larger one drops too.

    Example:
        >>> dropout(torch.tensor([1.0, 2.0, 3.0]), 0.5, torch.tensor([0.7, 0.2, 0.5]))
        tensor([2., 0., 6.])
    """
    if isinstance(p, float) and not is_batchedtensor(uniforms):  # the same numbers in few operations
        kept = torch.empty(uniforms.shape, dtype=h.dtype, device=h.device)
        torch.ge(uniforms, torch.tensor(p, dtype=uniforms.dtype, device=h.device), out=kept)
        return h * kept / torch.tensor(1 - p if p < 1 else 1.0, dtype=h.dtype, device=h.device)
    p = torch.as_tensor(p, dtype=torch.float64, device=h.device)
    kept = Keep.apply(uniforms, p.to(uniforms.dtype), torch.ones((), dtype=h.dtype, device=h.device))
    return h * kept / torch.where(p < 1, 1 - p, 1.0).to(h.dtype)


def keep_scale(p: Tensor) -> Tensor:
    """Return what a kept unit is multiplied by, `1 / (1 - p)`; at p = 1 no unit is kept and any number will do."""
    return torch.where(p < 1, 1 / (1 - p), 1.0)


def alpha_dropout(h: Tensor, p: float | Tensor, uniforms: Tensor) -> Tensor:
    """Set a unit to SELU's lower limit where its uniform is below `p`, then shift and scale all of them.

    Keeps mean 0 and variance 1 of self-normalising networks (Klambauer et al. 2017, "Self-normalizing neural
    networks", section "New dropout technique"); arguments as `dropout`. At p = 1 everything is 0.
    """
    p = torch.as_tensor(p, dtype=torch.float64, device=h.device)
    keep = (uniforms >= p.to(uniforms.dtype)).to(h.dtype)
    scale, shift = (t.to(h.dtype) for t in alpha_scale_and_shift(p))
    return scale * (h * keep + _ALPHA * (1 - keep)) + shift


def alpha_scale_and_shift(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor and the shift that follow alpha dropout: a and b of Klambauer et al. (2017)."""
    scale = torch.where(p < 1, ((1 - p) * (1 + p * _ALPHA**2)) ** -0.5, 0.0)
    return scale, -scale * p * _ALPHA


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


def rate(value: object, knob: str = "dropout") -> float:
    """Read one rate: a probability of dropping, in [0, 1]."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{knob} must be a probability of dropping from 0 to 1, got {value!r}")
    return float(value)


def rates(value: object, knob: str = "dropout", read: Callable[[object], float] | None = None) -> Rates:
    """Read the knob: one rate for all, one per place in the order of the forward pass, or a rate by module name.

    Args:
        value: what a user wrote.
        knob: its name, for errors.
        read: reads one rate, if not as a probability of dropping.
    """
    read_rate = read or partial(rate, knob=knob)
    if isinstance(value, Mapping):
        if not value:
            raise InputError(f"{knob} names no module: give at least one, or a single rate for all")
        return tuple((str(name), read_rate(p)) for name, p in value.items())
    if isinstance(value, list | tuple):
        if value and all(isinstance(part, tuple) for part in value):
            return rates(dict(value), knob, read)
        return tuple(read_rate(p) for p in value)
    return read_rate(value)


KNOB = Knob(
    "dropout",
    "activation",
    rates,
    "Sets units to 0 at random where the network drops units, and divides the others by 1 - p; without it the "
    "network's own rates hold.",
    "a rate from 0 to 1; one for each place; or one for each named module",
    "Srivastava et al. 2014, sec. 4",
)
