"""SGD, Adam and AdamW with a learning rate and a weight decay for every member.

Each is `torch.optim`'s own update, on parameters stacked as `[S, M, ...]`. Coupled decay (SGD, Adam) adds
`weight_decay * w` to the gradient; decoupled decay (AdamW) multiplies w by `1 - lr * weight_decay` first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dampen.errors import InputError

_FUSED_ADAM, _FUSED_ADAMW = torch.ops.aten._fused_adam_.default, torch.ops.aten._fused_adamw_.default
_WORTH_A_CALL = 1 << 14  # numbers in a group of members below which a call of torch's fused kernel costs too much


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with coupled decay, as `torch.optim.SGD`.

    Args:
        momentum: share of the last step's direction that is kept.
        nesterov: look ahead along that direction (Sutskever et al. 2013, equations 3 and 4).

    Raises:
        InputError: momentum outside [0, 1), or Nesterov without momentum.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be from 0 to below 1, got {self.momentum!r}")
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs a momentum above 0")

    def alone(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Return torch's own optimizer for one network."""
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)

    def stacked(self, *args: Any) -> "StackedSGD":
        """Return the optimizer of stacked parameters; arguments as `Stacked`."""
        return StackedSGD(self, *args)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with coupled decay, as `torch.optim.Adam`.

    Args:
        betas: decay of the running means of the gradient and of its square.
        eps: added to the denominator.

    Raises:
        InputError: a beta outside [0, 1), or eps below 0.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decoupled: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers from 0 to below 1, got {self.betas!r}")
        if not 0 <= self.eps < math.inf:
            raise InputError(f"eps must be 0 or larger, got {self.eps!r}")

    def alone(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Return torch's own optimizer for one network."""
        kind = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        return kind(groups, lr=lr, betas=self.betas, eps=self.eps)

    def stacked(self, *args: Any) -> "StackedAdam":
        """Return the optimizer of stacked parameters; arguments as `Stacked`."""
        return StackedAdam(self, *args)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled decay (Loshchilov and Hutter 2019, algorithm 2), as `torch.optim.AdamW`."""

    decoupled: bool = field(default=True, init=False, repr=False)


Optimizer = SGD | Adam | AdamW
_BY_NAME: dict[str, Optimizer] = {"sgd": SGD(), "adam": Adam(), "adamw": AdamW()}


def find(optimizer: object) -> Optimizer:
    """Return the optimizer meant by a name or a value.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(optimizer, SGD | Adam):
        return optimizer
    if not isinstance(optimizer, str) or optimizer not in _BY_NAME:
        raise InputError(f"optimizer must be sgd, adam, adamw or one of dampen's optimizers, got {optimizer!r}")
    return _BY_NAME[optimizer]


class Stacked:
    """An optimizer over stacked parameters, with a learning rate and a decay for each member.

    Args:
        spec: what kind.
        parameters: `[S, M, ...]` each, updated in place.
        lr: peak learning rate of each member, float64, on the CPU.
        weight_decay: decay of each member, float64, on the CPU.
        decayed: for each parameter, whether decay applies to it.
    """

    slots: dict[str, list[Tensor]]
    """The optimizer's own numbers, by torch's names, one tensor for each parameter."""

    def __init__(
        self,
        spec: Any,
        parameters: Sequence[Tensor],
        lr: Float[Tensor, "S M"],
        weight_decay: Float[Tensor, "S M"],
        decayed: Sequence[bool],
    ):
        self.spec, self.parameters = spec, list(parameters)
        self.steps = 0
        self.slots = {}
        self._lr, self._weight_decay, self._decayed = lr, weight_decay, decayed
        self._lr_columns = [_column(lr, p) for p in parameters]
        on = bool(weight_decay.any())  # knobs that are off are free
        self._decay_columns = [
            _column(weight_decay, p) if on and d else None for p, d in zip(parameters, decayed, strict=True)
        ]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Take one step.

        Args:
            gradients: `[S, M, ...]` each; may be overwritten.
            factor: the schedule's share of the peak learning rate.
        """
        self.steps += 1
        self._step(gradients, factor)

    def _step(self, gradients: Sequence[Tensor], factor: float) -> None:
        raise NotImplementedError


class StackedSGD(Stacked):
    """SGD of every member."""

    def __init__(self, spec: SGD, parameters: Sequence[Tensor], *args: Any):
        super().__init__(spec, parameters, *args)
        if spec.momentum:
            self.slots = {"momentum_buffer": [torch.zeros_like(p) for p in parameters]}

    def _step(self, gradients: Sequence[Tensor], factor: float) -> None:
        momentum = self.spec.momentum
        for i, (p, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            weight_decay = self._decay_columns[i]
            if weight_decay is not None:
                gradient.addcmul_(p, weight_decay)
            if momentum:
                buffer = self.slots["momentum_buffer"][i].mul_(momentum).add_(gradient)
                direction = gradient.add_(buffer, alpha=momentum) if self.spec.nesterov else buffer
            else:
                direction = gradient
            p.addcmul_(direction, self._lr_columns[i], value=-factor)


class StackedAdam(Stacked):
    """Adam or AdamW of every member: torch's fused kernel on groups of members; tensor by tensor for small ones."""

    def __init__(self, spec: Adam, parameters: Sequence[Tensor], *args: Any):
        super().__init__(spec, parameters, *args)
        self.slots = {name: [torch.zeros_like(p) for p in parameters] for name in ("exp_avg", "exp_avg_sq")}
        size = sum(p.numel() for p in parameters)
        by_both = _groups(self._lr, self._weight_decay, self._decayed)
        by_lr = _groups(self._lr, torch.zeros_like(self._weight_decay), self._decayed)
        self._kernel_decays = len(by_both) <= 2 * len(by_lr)  # else a pass over the weights beats so many calls
        groups = by_both if self._kernel_decays else by_lr
        if self.parameters[0].device.type not in ("cpu", "cuda") or size < _WORTH_A_CALL * len(groups):
            self._calls: list[_FusedCall] | None = None
        else:
            self._calls = [_FusedCall(*key, members, self.parameters, self.slots) for key, members in groups.items()]
        self._count = torch.zeros((), device=self.parameters[0].device)

    def _step(self, gradients: Sequence[Tensor], factor: float) -> None:
        if self._calls is None:
            self._by_tensor(gradients, factor)
            return
        gradients = [g.contiguous() for g in gradients]
        if not self._kernel_decays:
            self._decay(gradients, factor)
        self._count.fill_(self.steps)
        kernel = _FUSED_ADAMW if self.spec.decoupled else _FUSED_ADAM
        each = _each(gradients)
        for call in self._calls:
            call(kernel, gradients, each, self._count, factor, self.spec)

    def _decay(self, gradients: Sequence[Tensor], factor: float) -> None:
        for p, gradient, lr, weight_decay in zip(
            self.parameters, gradients, self._lr_columns, self._decay_columns, strict=True
        ):
            if weight_decay is not None and self.spec.decoupled:
                p.mul_(1 - lr * factor * weight_decay)
            elif weight_decay is not None:
                gradient.addcmul_(p, weight_decay)

    def _by_tensor(self, gradients: Sequence[Tensor], factor: float) -> None:
        self._decay(gradients, factor)
        beta1, beta2 = self.spec.betas
        correction1, correction2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        columns = zip(
            self.parameters, gradients, self._lr_columns, self.slots["exp_avg"], self.slots["exp_avg_sq"], strict=True
        )
        for p, gradient, lr, mean, square in columns:
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            direction = square.sqrt().div_(correction2**0.5).add_(self.spec.eps).reciprocal_().mul_(mean)
            p.addcmul_(direction, lr, value=-factor / correction1)


class _FusedCall:
    """One call of torch's fused kernel: the parameters of all members with one learning rate and one decay.

    Args:
        lr: their learning rate.
        weight_decay: their decay.
        members: for each parameter, which of its members `[S * M]` belong, None for all.
        parameters: `[S, M, ...]` each.
        slots: the optimizer's numbers for each.
    """

    def __init__(
        self,
        lr: float,
        weight_decay: float,
        members: dict[int, list[int] | None],
        parameters: Sequence[Tensor],
        slots: dict[str, list[Tensor]],
    ):
        self._lr, self._weight_decay, self._members = lr, weight_decay, members
        self._tensors = [self._parts(tensors, _each(tensors)) for tensors in (parameters, *slots.values())]

    def __call__(self, kernel: Any, gradients: Sequence[Tensor], each: Any, count: Tensor, factor: float, spec: Adam):
        parameters, *slots = self._tensors
        kernel(
            parameters,
            self._parts(gradients, each),
            *slots,
            [],
            [count] * len(parameters),
            lr=self._lr * factor,
            beta1=spec.betas[0],
            beta2=spec.betas[1],
            weight_decay=self._weight_decay,
            eps=spec.eps,
            amsgrad=False,
            maximize=False,
        )

    def _parts(self, tensors: Sequence[Tensor], each: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return this call's parts of tensors, `each` of which has been unbound by member."""
        found: list[Tensor] = []
        for i, members in self._members.items():
            if members is None:
                found.append(tensors[i])
            else:
                found += [each[i][k] for k in members]
        return found


def _each(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    return [t.flatten(0, 1).unbind(0) for t in tensors]


def clip_(gradients: Sequence[Tensor], max_norm: float) -> None:
    """Shrink each member's gradients so that their common L2 norm is at most `max_norm`, as `clip_grad_norm_` does."""
    squares = sum(g.square().flatten(2).sum(-1) if g.ndim > 2 else g.square() for g in gradients)
    shrink = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)  # type: ignore[union-attr]
    for g in gradients:
        g.mul_(shrink.view(*shrink.shape, *[1] * (g.ndim - 2)))


def _groups(
    lr: Tensor, weight_decay: Tensor, decayed: Sequence[bool]
) -> dict[tuple[float, float], dict[int, list[int] | None]]:
    """Return the members of each parameter by learning rate and decay; None stands for all of them."""
    found: dict[tuple[float, float], dict[int, list[int] | None]] = {}
    rates, decays = lr.flatten().tolist(), weight_decay.flatten().tolist()
    for i, on in enumerate(decayed):
        keys = list(zip(rates, decays if on else [0.0] * len(rates), strict=True))
        for key in dict.fromkeys(keys):
            members = [k for k, other in enumerate(keys) if other == key]
            found.setdefault(key, {})[i] = None if len(members) == len(keys) else members
    return found


def _column(values: Tensor, parameter: Tensor) -> Tensor:
    values = values.to(parameter.device, parameter.dtype)
    return values.reshape(*values.shape, *[1] * (parameter.ndim - values.ndim))
