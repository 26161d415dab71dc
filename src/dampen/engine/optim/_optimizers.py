"""SGD, Adam and AdamW with a learning rate and a weight decay for every member.

Each is `torch.optim`'s own update, on parameters stacked as `[S, M, ...]`. Coupled decay (SGD, Adam) adds
`weight_decay * w` to the gradient; decoupled decay (AdamW) multiplies w by `1 - lr * weight_decay` first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dampen._checks import finite, share
from dampen.engine.compiled import Update
from dampen.errors import InputError

_FUSED_ADAM, _FUSED_ADAMW = torch.ops.aten._fused_adam_.default, torch.ops.aten._fused_adamw_.default
_WORTH_A_CALL = 1 << 17  # parameters below which a call of torch's fused kernel costs more than a pass over them


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
        object.__setattr__(self, "momentum", share("momentum", self.momentum))
        if not isinstance(self.nesterov, bool):
            raise InputError(f"nesterov must be True or False, got {self.nesterov!r}")
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
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise InputError(f"betas must be two numbers from 0 to below 1, got {self.betas!r}")
        object.__setattr__(self, "betas", tuple(share("each of betas", beta) for beta in self.betas))
        object.__setattr__(self, "eps", finite("eps", self.eps, zero=True))

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


def momentum_of(optimizer: Optimizer) -> float:
    """Return SGD's momentum, 0 for the others."""
    return optimizer.momentum if isinstance(optimizer, SGD) else 0.0


def check_timescale(optimizer: Optimizer, settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse decay stated as a time scale where weights are no moving average of their updates.

    Raises:
        InputError: a setting does so under Adam with coupled decay.
    """
    if isinstance(optimizer, Adam) and not optimizer.decoupled:
        for setting in settings:
            if "decay_timescale" in setting:
                raise InputError(
                    "decay_timescale has no meaning under Adam, which rescales its coupled decay: use adamw or sgd"
                )


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
    def step(self, gradients: Sequence[Tensor], factor: float, decay: Float[Tensor, " M"] | None = None) -> None:
        """Take one step.

        Args:
            gradients: `[S, M, ...]` each; may be overwritten.
            factor: the schedule's share of the peak learning rate.
            decay: share of each setting's decay, where a schedule moves it.
        """
        self.steps += 1
        columns = self._decay_columns
        if decay is not None:
            columns = [
                c if c is None else c * _column(decay.expand(p.shape[:2]), p)
                for c, p in zip(columns, self.parameters, strict=True)
            ]
        self._step(gradients, factor, columns)

    def update(self, factor: float, decay: Float[Tensor, " M"] | None = None, **afterwards: Any) -> Update:
        """Count a step that compiled code takes, and return what it does.

        Args:
            factor: as for `step`.
            decay: likewise.
            afterwards: what is done to the weights after it, as for `Update`.
        """
        self.steps += 1
        decays = self._weight_decay if decay is None else self._weight_decay * decay.to(self._weight_decay)
        return Update(
            **self._rule(),
            rates=(self._lr * factor).contiguous(),
            decays=decays.contiguous(),
            decayed=self._decayed,
            slots=list(self.slots.values()),
            steps=self.steps,
            **afterwards,
        )

    def _rule(self) -> dict[str, Any]:
        raise NotImplementedError

    def _step(self, gradients: Sequence[Tensor], factor: float, decays: Sequence[Tensor | None]) -> None:
        raise NotImplementedError


class StackedSGD(Stacked):
    """SGD of every member."""

    def __init__(self, spec: SGD, parameters: Sequence[Tensor], *args: Any):
        super().__init__(spec, parameters, *args)
        if spec.momentum:
            self.slots = {"momentum_buffer": [torch.zeros_like(p) for p in parameters]}

    def _rule(self) -> dict[str, Any]:
        return {"kind": "sgd", "momentum": self.spec.momentum, "nesterov": self.spec.nesterov}

    def _step(self, gradients: Sequence[Tensor], factor: float, decays: Sequence[Tensor | None]) -> None:
        momentum = self.spec.momentum
        for i, (p, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            weight_decay = decays[i]
            if weight_decay is not None:
                gradient.addcmul_(p, weight_decay)
            if momentum:
                buffer = self.slots["momentum_buffer"][i].mul_(momentum).add_(gradient)
                direction = gradient.add_(buffer, alpha=momentum) if self.spec.nesterov else buffer
            else:
                direction = gradient
            p.addcmul_(direction, self._lr_columns[i], value=-factor)


class StackedAdam(Stacked):
    """Adam or AdamW of every member by torch's fused kernel, which takes one learning rate a call.

    Members with the same rate share a call. Where that would make many calls for few numbers, one call with a rate of
    1 finds every member's direction instead, and a second pass takes the steps.
    """

    def __init__(self, spec: Adam, parameters: Sequence[Tensor], *args: Any):
        super().__init__(spec, parameters, *args)
        self.slots = {name: [torch.zeros_like(p) for p in parameters] for name in ("exp_avg", "exp_avg_sq")}
        rates = self._lr.flatten().tolist()
        groups = {rate: [k for k, other in enumerate(rates) if other == rate] for rate in dict.fromkeys(rates)}
        size = sum(p.numel() for p in parameters)
        self._count = torch.zeros((), device=self.parameters[0].device)
        self._directions: list[Tensor] = []
        self._calls: list[_FusedCall] = []
        if len(groups) > 1 and size < _WORTH_A_CALL * len(groups):
            self._directions = [torch.zeros_like(p) for p in parameters]
            self._calls = [_FusedCall(1.0, None, self._directions, self.slots)]
        else:
            for rate, members in groups.items():
                of_rate = members if len(groups) > 1 else None
                self._calls.append(_FusedCall(rate, of_rate, self.parameters, self.slots))

    def _rule(self) -> dict[str, Any]:
        kind = "adamw" if self.spec.decoupled else "adam"
        return {"kind": kind, "betas": self.spec.betas, "eps": self.spec.eps}

    def _step(self, gradients: Sequence[Tensor], factor: float, decays: Sequence[Tensor | None]) -> None:
        gradients = [g.contiguous() for g in gradients]
        self._decay(gradients, factor, decays)
        self._count.fill_(self.steps)
        for direction in self._directions:
            direction.zero_()
        by_member = _by_member(gradients) if len(self._calls) > 1 else []
        for call in self._calls:
            call(gradients, by_member, self._count, 1.0 if self._directions else factor, self.spec)
        for p, direction, lr in zip(self.parameters, self._directions, self._lr_columns, strict=False):
            p.addcmul_(direction, lr, value=factor)

    def _decay(self, gradients: Sequence[Tensor], factor: float, decays: Sequence[Tensor | None]) -> None:
        for p, gradient, lr, weight_decay in zip(self.parameters, gradients, self._lr_columns, decays, strict=True):
            if weight_decay is not None and self.spec.decoupled:
                p.mul_(1 - lr * factor * weight_decay)
            elif weight_decay is not None:
                gradient.addcmul_(p, weight_decay)


class _FusedCall:
    """One call of torch's fused kernel.

    Args:
        lr: learning rate of its members.
        members: which they are of `[S * M]`, None for all.
        parameters: `[S, M, ...]` each.
        slots: the optimizer's numbers for each.
    """

    def __init__(
        self, lr: float, members: list[int] | None, parameters: Sequence[Tensor], slots: dict[str, list[Tensor]]
    ):
        self._lr, self._members = lr, members
        self._tensors = [self._parts(tensors, _by_member(tensors)) for tensors in (parameters, *slots.values())]

    def __call__(
        self,
        gradients: Sequence[Tensor],
        by_member: Sequence[Sequence[Tensor]],
        count: Tensor,
        factor: float,
        spec: Adam,
    ) -> None:
        parameters, *slots = self._tensors
        kernel = _FUSED_ADAMW if spec.decoupled else _FUSED_ADAM
        kernel(
            parameters,
            self._parts(gradients, by_member),
            *slots,
            [],
            [count] * len(parameters),
            lr=self._lr * factor,
            beta1=spec.betas[0],
            beta2=spec.betas[1],
            weight_decay=0.0,
            eps=spec.eps,
            amsgrad=False,
            maximize=False,
        )

    def _parts(self, tensors: Sequence[Tensor], by_member: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return what belongs to the call's members."""
        return list(tensors) if self._members is None else [each[k] for each in by_member for k in self._members]


def _by_member(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    return [t.flatten(0, 1).unbind(0) for t in tensors]


def clip_(gradients: Sequence[Tensor], max_norm: float) -> None:
    """Shrink each member's gradients so that their common L2 norm is at most `max_norm`, as `clip_grad_norm_` does."""
    squares = sum(g.square().flatten(2).sum(-1) if g.ndim > 2 else g.square() for g in gradients)
    shrink = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)  # type: ignore[union-attr]
    for g in gradients:
        g.mul_(shrink.view(*shrink.shape, *[1] * (g.ndim - 2)))


def _column(values: Tensor, parameter: Tensor) -> Tensor:
    values = values.to(parameter.device, parameter.dtype)
    return values.reshape(*values.shape, *[1] * (parameter.ndim - values.ndim))
