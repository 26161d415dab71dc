"""Label smoothing: the target is mostly the row's class and a little of every class.

Szegedy et al. (2016), "Rethinking the Inception architecture for computer vision", section 7: q'(k) = (1 - eps) q(k) +
eps / C, so that the loss becomes (1 - eps) times cross-entropy plus eps times its mean over all classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dampen.engine.knobs._base import Draws, Knob, OnBatch, number
from dampen.engine.knobs.batch._stacked import of_members


def label_smoothing(
    losses: Float[Tensor, "*rows"], logits: Float[Tensor, "*rows C"], smoothing: float | Tensor
) -> Float[Tensor, "*rows"]:
    """Return the smoothed loss of each row, given its cross-entropy in nats.

    The same as `F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")`; written with the
    plain loss because the part that is left does not depend on the targets, so that every member can have its own.

    Args:
        losses: cross-entropy of each row.
        logits: that they were taken of.
        smoothing: weight of the uniform distribution (eps), a number or a tensor that broadcasts against `losses`.

    Example:
        >>> logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> label_smoothing(F.cross_entropy(logits, targets, reduction="none"), logits, 0.5)
        tensor([0.6269])
    """
    return _between(losses, against_uniform(logits), smoothing)


def against_uniform(logits: Tensor, classes: int = -1) -> Tensor:
    """Return the cross-entropy of logits against the uniform distribution over classes, the axis `classes`."""
    return -F.log_softmax(logits, classes).mean(classes)


class SmoothCrossEntropy(nn.Module):
    """Mean cross-entropy with smoothed labels: `logits [B, C]` and class numbers `[B]` to a number.

    Args:
        smoothing: weight of the uniform distribution, in [0, 1].

    Raises:
        InputError: `smoothing` is not in [0, 1].
    """

    def __init__(self, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = strength(smoothing)

    def forward(self, logits: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, ""]:
        """Return the loss; without smoothing in evaluation, so that it can be compared."""
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (label_smoothing(losses, logits, self.smoothing) if self.training else losses).mean()


strength = number("label_smoothing", 0.0, 1.0)
"""Read the knob: the weight of the uniform distribution, in [0, 1]."""


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    return [of_members(values, targets.device).unsqueeze(2)]


def _losses(loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
    spread = against_uniform(outputs, 3)  # [S, M, B], or [S, M, B, ...] where rows have several targets
    return _between(loss(outputs, targets), spread.flatten(3).mean(3) if spread.ndim > 3 else spread, smoothing)


def _between(losses: Tensor, spread: Tensor, smoothing: float | Tensor) -> Tensor:
    share = torch.as_tensor(smoothing, dtype=torch.float64, device=losses.device).to(losses.dtype)
    return losses + share * (spread - losses)


KNOB = Knob(
    "label_smoothing",
    "target",
    strength,
    "Gives every class this share of the target, divided evenly; the training loss is the smoothed one, the validation "
    "loss is not.",
    "a share from 0 to 1",
    "Szegedy et al. 2016, sec. 7",
    neutral=0.0,
    acts=OnBatch(_draw, losses=_losses, loss="cross_entropy", row_by_row=True),
)
