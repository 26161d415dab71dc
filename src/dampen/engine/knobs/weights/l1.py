"""L1: the penalty `l1 * sum |w|` by a proximal step, so that zeros are exact; with `l2` it is the elastic net.

Tibshirani (1996), "Regression shrinkage and selection via the lasso", equation 1; Zou and Hastie (2005),
"Regularization and variable selection via the elastic net", equation 3. The step is soft thresholding: Parikh and Boyd
(2014), "Proximal algorithms", section 6.5.2, after the optimizer's own (their section 4.2: proximal gradient).
Under SGD it ends at the penalised loss's minimum. Under Adam the threshold is `lr * l1`, not divided by the gradient's
size: to L1 what AdamW's decay is to L2.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dampen.engine.knobs._base import Knob, OnWeights, number


def soft_threshold(w: Tensor, threshold: float | Tensor) -> Tensor:
    """Move every number towards 0 by `threshold`, and to exactly 0 those that are closer.

    Example:
        >>> soft_threshold(torch.tensor([-2.0, 0.3, 1.0]), 0.5)
        tensor([-1.5000,  0.0000,  0.5000])
    """
    threshold = torch.as_tensor(threshold, dtype=w.dtype, device=w.device)
    # w - clamp(w), with one copy, one end at a time: a third of the time
    return w.clamp(min=-threshold).clamp_(max=threshold).neg_().add_(w)


def elastic_net_step(w: Tensor, lr: float | Tensor, l1: float | Tensor, l2: float | Tensor) -> Tensor:
    """Return the proximal step of `l1 * |w| + l2 / 2 * w^2`: soft thresholding by `lr * l1`, then `/ (1 + lr * l2)`.

    Parikh and Boyd (2014), section 6.5.3.
    """
    return soft_threshold(w, lr * l1) / (1 + lr * l2)


class L1(nn.Module):
    """L1 in a loop of your own: call it after the optimizer's step.

    Args:
        parameters: what it acts on.
        l1: strength, 0 or larger.

    Raises:
        InputError: a strength below 0.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 0.05)
        >>> L1(layer.parameters(), l1=1.0)(lr=0.1)
        >>> layer.weight.item()
        0.0
    """

    def __init__(self, parameters: Iterable[Tensor], l1: float):
        super().__init__()
        self.l1, self._on = strength(l1), list(parameters)

    @torch.no_grad()
    def forward(self, lr: float) -> None:
        """Take the proximal step of a step of size `lr`, in place."""
        for p in self._on:
            p.copy_(soft_threshold(p, lr * self.l1))


strength = number("l1")

KNOB = Knob(
    "l1",
    "parameter",
    strength,
    "Moves each decaying weight towards 0 by `lr * l1` after each step, and to exactly 0 those that are closer; with "
    "`l2` it is the elastic net.",
    "0 or larger",
    "Tibshirani 1996, eq. 1; Zou and Hastie 2005, eq. 3; Parikh and Boyd 2014, sec. 6.5.2",
    neutral=0.0,
    acts=OnWeights(
        lambda w, value, lr, lead: soft_threshold(w, lr * value), "after", threshold=lambda value, lr: lr * value
    ),
    log=True,
)
