"""Stochastic depth (drop path): whole residual branches are skipped.

Huang et al. (2016), "Deep networks with stochastic depth", equations 2 and 4. There a step's rows skip a block together
and a branch is weighted by its survival at test time (equation 5); here, as in the usual implementations, each row
skips for itself and a branch that survives is divided by its survival probability.

In a population, an addition of two tensors of one shape is residual if one of them was computed from the other by a
linear layer, a convolution or attention; or if the skip is a projection: both come from what the module was given in
which they are added, the skip through one such layer and the branch through more. `Population.explain` names the
modules; a rate by module name keeps to some of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dampen.engine.knobs._base import Draws, Knob, OnActivation, Site
from dampen.engine.knobs._per_site import spread
from dampen.engine.knobs.noise import dropout


def drop_path(branch: Tensor, p: float | Tensor, uniforms: Tensor) -> Tensor:
    """Set a row's branch to 0 where its uniform is below `p`, and divide the others by `1 - p`.

    Args:
        branch: what a residual block computes before it is added to the skip connection, `[B, ...]`.
        p: probability of skipping, a number or a tensor that broadcasts against `branch`.
        uniforms: numbers in [0, 1), `[B, 1, ...]`; `[1, 1, ...]` skips all rows together, as in the paper.

    Example:
        >>> drop_path(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.5, torch.tensor([[0.7], [0.2]]))
        tensor([[2., 4.],
                [0., 0.]])
    """
    return dropout.dropout(branch, p, uniforms)


def by_depth(p: float, depth: int) -> list[float]:
    """Return the rate of each of `depth` blocks under the linear decay rule, equation 4: block l has `l / depth * p`.

    Example:
        >>> by_depth(0.4, 4)
        [0.1, 0.2, 0.3, 0.4]
    """
    return [round(p * block / depth, 15) for block in range(1, depth + 1)]


class DropPath(nn.Module):
    """Stochastic depth as a layer at the end of a residual branch; the identity in evaluation.

    Args:
        p: probability of skipping the branch, in [0, 1].

    Raises:
        InputError: `p` is not in [0, 1].
    """

    def __init__(self, p: float = 0.1):
        super().__init__()
        self.p = dropout.rate(p, "drop_path")

    def forward(self, branch: Tensor) -> Tensor:
        """Skip rows of `branch` (`[B, ...]`) by fresh uniforms from torch's global generator."""
        if not self.training:
            return branch
        return drop_path(branch, self.p, torch.rand(rows_shape(branch.shape), device=branch.device))

    def extra_repr(self) -> str:
        """Show the rate when the module is printed."""
        return f"p={self.p}"


def rows_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of uniforms that skip each row for itself: `[B, 1, ...]`."""
    return (shape[0], *[1] * (len(shape) - 1))


def rates(value: object) -> dropout.Rates:
    """Read the knob: the last block's rate (the others' follow equation 4), one for each block, or by module name."""
    return dropout.rates(value, "drop_path")


def _at(value: Any, sites: Sequence[Site]) -> list[float]:
    branches = [site.residual for site in sites]
    each = tuple(by_depth(value, sum(branches))) if isinstance(value, float) and any(branches) else value
    return spread("drop_path", each, sites, "residual branches", branches)


def _draw(draws: Draws, site: Site) -> Tensor:
    return draws.uniform(*rows_shape(site.shape))


KNOB = Knob(
    "drop_path",
    "activation",
    rates,
    "Skips residual branches at random, row by row, and divides those that stay by 1 - p; one rate is that of the last "
    "branch, and branch l of L has l / L of it.",
    "a rate from 0 to 1; one for each branch; or one for each named module",
    "Huang et al. 2016, eq. 2 and 4",
    neutral=0.0,
    acts=OnActivation("addend", _at, _draw, drop_path),
)
