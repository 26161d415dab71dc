"""Gaussian dropout: units are multiplied by noise of mean 1 instead of being dropped.

Srivastava et al. (2014), "Dropout", JMLR 15, section 10: noise from N(1, p / (1 - p)), which has the mean and the
variance of dropout's `kept / (1 - p)`; Kingma, Salimans and Welling (2015), "Variational dropout and the local
reparameterization trick", section 3: the same with alpha = p / (1 - p).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dampen.engine.knobs._base import Draws, Knob, OnActivation, Site
from dampen.engine.knobs._per_site import spread
from dampen.engine.knobs.noise import dropout
from dampen.errors import InputError


def gaussian_dropout(h: Tensor, deviation: float | Tensor, normals: Tensor) -> Tensor:
    """Return `h * (1 + deviation * normals)`; with standard normals the expectation is `h`.

    Args:
        h: activations, any shape.
        deviation: standard deviation of the noise (see `deviation`), a number or a tensor that broadcasts against `h`.
        normals: numbers from N(0, 1) that broadcast against `h`.

    Example:
        >>> gaussian_dropout(torch.tensor([1.0, 2.0]), deviation(0.5), torch.tensor([0.5, -1.0]))
        tensor([1.5000, 0.0000])
    """
    noise = torch.as_tensor(deviation, dtype=torch.float64, device=h.device).to(h.dtype) * normals.to(h.dtype)
    return h * (1 + noise)


def deviation(p: Any) -> Any:
    """Return the noise's standard deviation, `sqrt(p / (1 - p))`: that of dropout at rate `p` below 1.

    Args:
        p: a number or a tensor of them.
    """
    return (p / (1 - p)) ** 0.5


class GaussianDropout(nn.Module):
    """Gaussian dropout as a layer: random while training, the identity in evaluation.

    Args:
        p: the dropout rate whose variance the noise has, in [0, 1).

    Raises:
        InputError: `p` is not in [0, 1).
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = rate(p)

    def forward(self, h: Tensor) -> Tensor:
        """Multiply `h` (any shape) by fresh noise from torch's global generator."""
        return gaussian_dropout(h, deviation(self.p), torch.randn_like(h)) if self.training else h

    def extra_repr(self) -> str:
        """Show the rate when the module is printed."""
        return f"p={self.p}"


def rate(value: object) -> float:
    """Read one rate, in [0, 1): at 1 the noise has no finite variance."""
    read = dropout.rate(value, "gaussian_dropout")
    if read == 1:
        raise InputError("gaussian_dropout must be below 1, where its variance p / (1 - p) is infinite, got 1")
    return read


def rates(value: object) -> dropout.Rates:
    """Read the knob: one rate for all places, one for each in the order of the forward pass, or one by module name."""
    return dropout.rates(value, "gaussian_dropout", rate)


def _at(value: Any, sites: Sequence[Site]) -> list[float]:
    return spread("gaussian_dropout", value, sites, "places where it drops units", [True] * len(sites))


def _draw(draws: Draws, site: Site) -> Tensor:
    return draws.normal(*site.shape)


def _apply(h: Tensor, p: Tensor, normals: Tensor) -> Tensor:
    return gaussian_dropout(h, deviation(p), normals)


KNOB = Knob(
    "gaussian_dropout",
    "activation",
    rates,
    "Multiplies units by normal noise of mean 1 and of dropout's variance, p / (1 - p), where the network drops units "
    "and beside its dropout: add dropout=0 for this noise alone.",
    "a rate from 0 to below 1; one for each place; or one for each named module",
    "Srivastava et al. 2014, sec. 10; Kingma et al. 2015, sec. 3",
    neutral=0.0,
    acts=OnActivation("dropout", _at, _draw, _apply),
)
