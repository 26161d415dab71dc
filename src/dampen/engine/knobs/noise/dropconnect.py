"""DropConnect: single weights are dropped instead of units.

Wan et al. (2013), "Regularization of neural networks using DropConnect", equation 2: `r = a((M * W) v)` with M drawn
from Bernoulli(1 - p). There each row of a batch has a mask of its own and evaluation samples a Gaussian; here, as in
the usual implementations, the rows of a step share a mask, kept weights are divided by `1 - p` so that the expected
weights are W, and evaluation uses W.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dampen.engine.knobs._base import Draws, Knob, OnActivation, Site
from dampen.engine.knobs._per_site import spread
from dampen.engine.knobs.noise import dropout
from dampen.errors import InputError


def dropconnect(weight: Tensor, p: float | Tensor, uniforms: Tensor) -> Tensor:
    """Set a weight to 0 where its uniform is below `p`, and divide the others by `1 - p`.

    Args:
        weight: of a layer, any shape.
        p: probability of dropping a weight, a number or a tensor that broadcasts against `weight`.
        uniforms: numbers in [0, 1), of `weight`'s shape.

    Example:
        >>> dropconnect(torch.tensor([[1.0, 2.0]]), 0.5, torch.tensor([[0.7, 0.2]]))
        tensor([[2., 0.]])
    """
    return dropout.dropout(weight, p, uniforms)


class DropConnect(nn.Module):
    """A module whose weights are dropped while training; in evaluation it is the module itself.

    Args:
        module: any module; its matrices and kernels called `weight`, or ending in it, are dropped from.
        p: probability of dropping a weight, in [0, 1].

    Raises:
        InputError: `p` is not in [0, 1], or the module has no such parameter.

    Example:
        >>> DropConnect(nn.Linear(3, 2), p=1.0)(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    def __init__(self, module: nn.Module, p: float = 0.5):
        super().__init__()
        self.module, self.p = module, dropout.rate(p, "dropconnect")
        self._names = [name for name, w in module.named_parameters() if name.endswith("weight") and w.ndim > 1]
        if not self._names:
            raise InputError(f"{type(module).__name__} has no matrix or kernel called weight to drop from")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module with weights dropped by fresh uniforms from torch's global generator."""
        if not self.training:
            return self.module(*args, **kwargs)
        own = dict(self.module.named_parameters())
        dropped = {name: dropconnect(own[name], self.p, torch.rand_like(own[name])) for name in self._names}
        return functional_call(self.module, dropped, args, kwargs)

    def extra_repr(self) -> str:
        """Show the rate when the module is printed."""
        return f"p={self.p}"


def rates(value: object) -> dropout.Rates:
    """Read the knob: one rate for all linear layers, one for each in the order of the forward pass, or by name."""
    return dropout.rates(value, "dropconnect")


def _at(value: Any, sites: Sequence[Site]) -> list[float]:
    linear = [len(site.shape) == 2 for site in sites]
    return spread("dropconnect", value, sites, "linear layers", [True] * len(sites), linear)


def _draw(draws: Draws, site: Site) -> Tensor:
    return draws.uniform(*site.shape)


KNOB = Knob(
    "dropconnect",
    "activation",
    rates,
    "Sets single weights of linear layers (and of named convolutions) to 0 at random, and divides the others by 1 - p.",
    "a rate from 0 to 1; one for each linear layer; or one for each named module",
    "Wan et al. 2013, eq. 2",
    neutral=0.0,
    acts=OnActivation("weight", _at, _draw, dropconnect),
)
