"""Losses by row and what is counted beside them."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dampen.errors import InputError

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs `[N, C]` and targets `[N]`, returns the loss of each row `[N]`; the engine averages over a batch."""


def cross_entropy(outputs: Float[Tensor, "N C"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return the negative log likelihood of each row's class under the softmax of its logits, in nats."""
    return F.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Float[Tensor, "N 1"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return `(output - target)^2` of each row."""
    return (outputs.squeeze(-1) - targets).square()


def half_squared_error(outputs: Float[Tensor, "N 1"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return `(output - target)^2 / 2` of each row: the squared loss whose gradient carries no factor 2."""
    return squared_error(outputs, targets) / 2


LOSSES: dict[str, RowLoss] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "half_squared_error": half_squared_error,
}


def find(loss: str | RowLoss | None, task: str) -> RowLoss:
    """Return the loss meant by a name or a function; None means the task's usual one."""
    if loss is None:
        return cross_entropy if task == "classification" else squared_error
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise InputError(f"loss must be a function or one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]


def correct(outputs: Float[Tensor, "N C"], targets: Tensor) -> Tensor:
    """Return for each row whether its largest logit is its class, `[N]`."""
    return outputs.argmax(-1) == targets
