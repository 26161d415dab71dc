"""Mixup: a network is trained on mixtures of two rows and of their targets.

Zhang et al. (2018), "mixup: beyond empirical risk minimization", section 2 and figure 1: `x = lam x_i + (1 - lam) x_j`
and the same for the targets, with lam from Beta(alpha, alpha), one for a batch as in the paper's own code, and j a
permutation of the batch. Alpha 0 leaves the rows as they are (lam = 1). What a population counts as right while it
trains are the rows' own classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dampen.engine.knobs._base import Draws, Knob, OnBatch, number
from dampen.engine.knobs.batch._stacked import for_each_member
from dampen.errors import InputError


def mixup(rows: Float[Tensor, "B ..."], share: float | Tensor, partners: Tensor) -> Float[Tensor, "B ..."]:
    """Return `share * rows + (1 - share) * rows[partners]`.

    Args:
        rows: inputs, or targets that are numbers. For targets that are classes mix the losses of the two: cross-entropy
            is linear in its target.
        share: weight of a row itself (lam), a number or a 0-dimensional tensor. See `share_of`.
        partners: `[B]`, for each row the place of the row that it is mixed with.

    Example:
        >>> mixup(torch.tensor([[0.0], [4.0]]), 0.75, torch.tensor([1, 0]))
        tensor([[1.],
                [3.]])
    """
    others = rows.index_select(0, partners)
    other = torch.as_tensor(1 - share, dtype=torch.float64, device=rows.device).to(rows.dtype)
    return rows + other * (others - rows)  # exact where the share is 1


def share_of(alpha: float, uniform: float) -> float:
    """Return the quantile of Beta(alpha, alpha) at `uniform`: lam; 1 where alpha is 0.

    Two alphas that are given the same uniform have shares on the same side of 1/2, the smaller alpha's further away.

    Example:
        >>> share_of(1.0, 0.3), share_of(0.0, 0.3)
        (0.3, 1.0)
    """
    if alpha == 0:
        return 1.0
    try:
        from scipy.special import betaincinv
    except ModuleNotFoundError as e:
        raise InputError("mixup draws its shares by scipy, which is not installed: pip install scipy") from e
    share = float(betaincinv(alpha, alpha, uniform))
    return share if math.isfinite(share) else float(uniform >= 0.5)


class Mixup:
    """Mixes batches in a plain training loop.

    Args:
        alpha: of the Beta distribution, 0 (no mixing) or larger.
        generator: where the random numbers come from; by default NumPy's, freshly seeded.

    Raises:
        InputError: `alpha` is negative or not finite.

    Example:
        >>> mix = Mixup(alpha=0.2, generator=np.random.default_rng(0))
        >>> inputs, share, partners = mix(torch.randn(8, 3))
        >>> inputs.shape  # the loss: share * loss(f(inputs), y) + (1 - share) * loss(f(inputs), y[partners])
        torch.Size([8, 3])
    """

    def __init__(self, alpha: float = 0.2, generator: np.random.Generator | None = None):
        self.alpha = strength(alpha)
        self._generator = generator or np.random.default_rng()

    def __call__(self, inputs: Float[Tensor, "B ..."]) -> tuple[Float[Tensor, "B ..."], float, Tensor]:
        """Return mixed rows, the weight of each row itself, and the places of the rows mixed in, `[B]`."""
        share = share_of(self.alpha, self._generator.random())
        partners = torch.from_numpy(self._generator.permutation(len(inputs))).to(inputs.device)
        return mixup(inputs, share, partners), share, partners


strength = number("mixup")
"""Read the knob: alpha, a finite number, 0 (no mixing) or larger."""


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    if not all(t.is_floating_point() for t in inputs):
        raise InputError("mixup mixes inputs that are real numbers: this network takes whole numbers")
    chances = draws.uniform(1).flatten().tolist()
    partners = draws.uniform(len(targets[0])).argsort(1)
    alike = values[:1] if len(set(values)) == 1 else values
    shares = [[share_of(alpha, chance) for alpha in alike] for chance in chances]
    return [torch.tensor(shares, dtype=torch.float64, device=targets.device), partners.unsqueeze(1)]


def _inputs(inputs: list[Tensor], share: Tensor, partners: Tensor) -> list[Tensor]:
    return [for_each_member(mixup, x, share, partners) for x in inputs]


def mixed_losses(
    loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, share: Tensor, partners: Tensor
) -> Tensor:
    """Return the losses of rows whose targets are mixed with their partners'; arguments as `OnBatch.losses`."""
    if targets.is_floating_point():
        mixed = for_each_member(mixup, targets.unsqueeze(1), share, partners)
        S, M = outputs.shape[:2]
        mixed = mixed.expand(S, M, *mixed.shape[2:]).flatten(0, 1)
        return loss(outputs.flatten(0, 1).unsqueeze(1), mixed).view(S, M, -1)
    others = for_each_member(lambda t, i: t.index_select(0, i), targets.unsqueeze(1), partners).squeeze(1)
    own = loss(outputs, targets)
    return own + (1 - share.unsqueeze(2)).to(own.dtype) * (loss(outputs, others) - own)


KNOB = Knob(
    "mixup",
    "data",
    strength,
    "Trains on mixtures of two rows and of their targets, in shares from Beta(mixup, mixup), one for a batch.",
    "0 or larger; 0 mixes nothing, 1 all shares alike",
    "Zhang et al. 2018, sec. 2",
    neutral=0.0,
    acts=OnBatch(_draw, inputs=_inputs, losses=mixed_losses),
)
