"""SGD, Adam and AdamW with a learning rate and a weight decay for every member.

Each is `torch.optim`'s own update, written on parameters stacked as `[S, M, ...]`. Coupled decay (SGD, Adam) adds
`weight_decay * w` to the gradient; decoupled decay (AdamW) multiplies w by `1 - lr * weight_decay` first.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dampen.errors import InputError
from dampen.knobs.weight_decay import decay

Optimizer = Callable[[Sequence[Tensor]], None]
"""Takes one step with a gradient `[S, M, ...]` for each parameter; the gradients may be overwritten."""


class SGD:
    """Stochastic gradient descent, as `torch.optim.SGD` without momentum.

    Args:
        parameters: stacked parameters, updated in place.
        lr: learning rate of each member.
        weight_decay: coupled decay of each member.
        decayed: for each parameter, whether decay applies to it.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: Float[Tensor, "S M"],
        weight_decay: Float[Tensor, "S M"],
        decayed: Sequence[bool],
    ):
        self._parameters = parameters
        self._lr = [_column(lr, p) for p in parameters]
        self._decay = _decay_columns(weight_decay, parameters, decayed)

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Tensor]) -> None:
        """Take one step."""
        columns = zip(self._parameters, gradients, self._lr, self._decay, strict=True)
        for p, gradient, lr, weight_decay in columns:
            if weight_decay is not None:
                gradient.addcmul_(p, weight_decay)
            p.addcmul_(gradient, lr, value=-1)


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), as `torch.optim.Adam`, or as `AdamW` with `decoupled=True`.

    Args:
        parameters: stacked parameters, updated in place.
        lr: learning rate of each member.
        weight_decay: decay of each member.
        decayed: for each parameter, whether decay applies to it.
        decoupled: shrink the weights before the step (Loshchilov and Hutter 2019, algorithm 2) instead of adding
            the decay to the gradient.
        betas: decay of the two moments.
        eps: added to the denominator.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: Float[Tensor, "S M"],
        weight_decay: Float[Tensor, "S M"],
        decayed: Sequence[bool],
        *,
        decoupled: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        self._parameters = parameters
        self._lr = [_column(lr, p) for p in parameters]
        self._decay = _decay_columns(weight_decay, parameters, decayed)
        self._decoupled = decoupled
        self._betas = betas
        self._eps = eps
        self._mean = [torch.zeros_like(p) for p in parameters]
        self._square = [torch.zeros_like(p) for p in parameters]
        self._steps = 0

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Tensor]) -> None:
        """Take one step."""
        self._steps += 1
        beta1, beta2 = self._betas
        correction1, correction2 = 1 - beta1**self._steps, 1 - beta2**self._steps
        columns = zip(self._parameters, gradients, self._lr, self._decay, self._mean, self._square, strict=True)
        for p, gradient, lr, weight_decay, mean, square in columns:
            if weight_decay is not None and self._decoupled:
                p.copy_(decay(p, lr, weight_decay))
            elif weight_decay is not None:
                gradient.addcmul_(p, weight_decay)
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = square.sqrt().div_(correction2**0.5).add_(self._eps)
            p.addcmul_(mean / denominator, lr, value=-1 / correction1)


def make(
    name: str,
    parameters: Sequence[Tensor],
    lr: Float[Tensor, "S M"],
    weight_decay: Float[Tensor, "S M"],
    decayed: Sequence[bool],
) -> Optimizer:
    """Return the optimizer called `name` over stacked parameters.

    Raises:
        InputError: there is none of that name.
    """
    if name == "sgd":
        return SGD(parameters, lr, weight_decay, decayed)
    if name in ("adam", "adamw"):
        return Adam(parameters, lr, weight_decay, decayed, decoupled=name == "adamw")
    raise InputError(f"optimizer must be sgd, adam or adamw, got {name!r}")


def _column(values: Tensor, parameter: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (parameter.ndim - values.ndim))


def _decay_columns(weight_decay: Tensor, parameters: Sequence[Tensor], decayed: Sequence[bool]) -> list[Tensor | None]:
    """Return each parameter's decay per member, or None where no member decays it: knobs that are off are free."""
    on = bool(weight_decay.any())
    return [_column(weight_decay, p) if on and d else None for p, d in zip(parameters, decayed, strict=True)]
