"""Losses by row and what is counted beside them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from dampen.errors import InputError

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs `[N, C]` and targets `[N]`, returns the loss of each row `[N]`; the engine averages over a batch."""


def cross_entropy(outputs: Float[Tensor, "N C ..."], targets: Tensor) -> Float[Tensor, " N"]:
    """Return the negative log likelihood of each row's class under the softmax of its logits, in nats.

    Rows with several targets (`[N, ...]`, as in segmentation) have the mean of theirs.
    """
    if outputs.ndim == 2:  # classes first: the rows are what a CPU's vector units run along, five times as fast
        return F.cross_entropy(outputs.T.unsqueeze(0), targets.unsqueeze(0), reduction="none").squeeze(0)
    return _mean_of_row(F.cross_entropy(outputs, targets, reduction="none"))


def squared_error(outputs: Float[Tensor, "N ..."], targets: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """Return `(output - target)^2` of each row, its mean where a row has several outputs."""
    return _mean_of_row(F.mse_loss(outputs.reshape_as(targets), targets, reduction="none"))


def half_squared_error(outputs: Float[Tensor, "N ..."], targets: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """Return `(output - target)^2 / 2` of each row: the squared loss whose gradient carries no factor 2."""
    return squared_error(outputs, targets) / 2


def gaussian_nll(outputs: Float[Tensor, "N 2"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return the negative log likelihood of each row under the mean and log variance that are its outputs, in nats.

    Nix and Weigend (1994), without `log(2 pi) / 2`, as `torch.nn.functional.gaussian_nll_loss` has it.
    """
    mean, log_variance = _two(outputs)
    return 0.5 * (log_variance + (targets.reshape(mean.shape) - mean).square() * (-log_variance).exp())


def beta_nll(outputs: Float[Tensor, "N 2"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return the same times the square root of the variance, which counts as a constant (Seitzer et al. 2022).

    Equation 5 with beta 0.5: rows whose noise is believed to be large keep part of their weight in the fit of the mean,
    of which the likelihood itself deprives them.
    """
    return (BETA * _two(outputs)[1]).exp().detach() * gaussian_nll(outputs, targets)


def pinball(outputs: Float[Tensor, "N 3"], targets: Tensor) -> Float[Tensor, " N"]:
    """Return the mean quantile loss of each row, whose outputs are the median and the quantiles of 5 and 95 %.

    Koenker and Bassett (1978): `q (y - f)` where the target is above, `(1 - q) (f - y)` where it is below.
    """
    if outputs.ndim != 2 or outputs.shape[1] != len(QUANTILES):
        raise ValueError(f"pinball takes {len(QUANTILES)} outputs a row: the median and the quantiles of 5 and 95 %")
    losses = outputs.new_zeros(len(outputs))
    for k, q in enumerate(QUANTILES):
        above = targets.reshape(losses.shape) - outputs[:, k]
        losses = losses + torch.maximum(q * above, (q - 1) * above)
    return losses / len(QUANTILES)


def _two(outputs: Tensor) -> tuple[Tensor, Tensor]:
    if outputs.ndim != 2 or outputs.shape[1] != 2:
        raise ValueError("this loss takes 2 outputs a row: a mean and a log variance")
    return outputs[:, 0], outputs[:, 1]


BETA = 0.5  # Seitzer et al. (2022), section 5: between the likelihood's 0 and the squared error's 1
QUANTILES = (0.5, 0.05, 0.95)  # the median first: the first output is the prediction, as everywhere
VARIANCE_HEADS = ("gaussian_nll", "beta_nll")
QUANTILE_HEADS = ("pinball",)

LOSSES: dict[str, RowLoss] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "half_squared_error": half_squared_error,
    "gaussian_nll": gaussian_nll,
    "beta_nll": beta_nll,
    "pinball": pinball,
}


def find(loss: str | RowLoss | None, task: str) -> RowLoss:
    """Return the loss meant by a name or a function; None means the task's usual one."""
    if loss is None:
        return cross_entropy if task == "classification" else squared_error
    if callable(loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise InputError(f"loss must be a function or one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]


def heads_of(loss: str | RowLoss | None) -> int:
    """Return how many outputs for each target a named loss takes; 1 for a function."""
    if loss in VARIANCE_HEADS:
        return 2
    return len(QUANTILES) if loss in QUANTILE_HEADS else 1


def packed(targets: Shaped[Tensor, " N"], weights: Float[Tensor, " N"]) -> Float[Tensor, "N 2"]:
    """Return targets and weights as one tensor, so that they are drawn into batches together."""
    return torch.stack([targets.to(weights.dtype), weights], -1)


@dataclass(frozen=True)
class Weighted:
    """A loss whose rows are multiplied by their weights; the engine's mean over a batch stays a plain mean.

    Args:
        loss: of each row.
        classes: whether targets are class numbers.
    """

    loss: RowLoss
    classes: bool

    def __call__(self, outputs: Tensor, targets: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
        """Return the weighted loss of each row; see `packed`."""
        plain, weights = targets[..., 0], targets[..., 1]
        return by_row(self.loss, outputs, plain.long() if self.classes else plain) * weights.to(outputs.dtype)


def by_row(loss: RowLoss, outputs: Tensor, targets: Tensor) -> Float[Tensor, " N"]:
    """Return the loss of each row.

    Raises:
        InputError: the loss can't be taken of such outputs and targets, or gives something else than a number a row.
    """
    try:
        losses = loss(outputs, targets)
    except (RuntimeError, IndexError, ValueError) as e:
        raise InputError(
            f"the loss can't be taken of outputs {list(outputs.shape)} and targets {list(targets.shape)}: "
            f"{str(e).splitlines()[0]}"
        ) from e
    if losses.shape != outputs.shape[:1]:
        raise InputError(
            f"the loss must give one number for each of the {len(outputs)} rows (reduction='none'), it gave a tensor "
            f"of shape {list(losses.shape)}"
        )
    return losses


def wants_logits(loss: RowLoss) -> bool:
    """Return whether a loss takes a softmax of outputs itself."""
    return (loss.loss if isinstance(loss, Weighted) else loss) is cross_entropy


def correct(outputs: Float[Tensor, "N C ..."], targets: Tensor) -> Tensor:
    """Return for each row whether its largest logit is its class, `[N]`: a share where it has several targets.

    Where `targets` are class numbers packed with weights, a right row counts as its weight.
    """
    if targets.is_floating_point():
        plain, weights = targets[..., 0], targets[..., 1]
        return (outputs.argmax(1) == plain.long()) * weights
    right = outputs.argmax(1) == targets
    return right if right.ndim == 1 else right.flatten(1).double().mean(1)


def has_one_output(outputs: Tensor) -> bool:
    """Return whether outputs `[N]` or `[N, 1]` are one number a row."""
    return outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)


def correct_of_one(loss: RowLoss, losses: Tensor, outputs: Float[Tensor, "N ..."], targets: Tensor) -> Tensor:
    """Return for each row whether its class costs less than the other, where one output is the logit of two classes.

    So a logit of binary cross entropy, a probability and a hinge loss's margin are each read as their loss reads them.
    """
    if targets.is_floating_point():
        plain, weights = targets[..., 0], targets[..., 1]
        return (losses < by_row(loss, outputs, torch.stack([1 - plain, weights], -1))) * weights
    return losses < by_row(loss, outputs, 1 - targets)


def _mean_of_row(values: Tensor) -> Float[Tensor, " N"]:
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def stacked(loss: RowLoss, outputs: Tensor, targets: Tensor) -> Float[Tensor, "S M B"]:
    """Return the losses of outputs `[S, M, B, ...]` and targets `[S or 1, B, ...]`."""
    S, M, B = outputs.shape[:3]
    return by_row(loss, outputs.flatten(0, 2), for_members(targets, S, M).flatten(0, 2)).view(S, M, B)


def for_members(targets: Tensor, S: int, M: int) -> Tensor:
    """Return targets `[S or 1, B, ...]` for every member, `[S, M, B, ...]`."""
    return targets.unsqueeze(1).expand(S, M, *targets.shape[1:])
