"""What happens when a member's forward pass calls `F.linear` or `F.dropout`: one answer for all members at once.

The user's module is never rewritten. `vmap` runs it on stacked parameters, and a `TorchFunctionMode` catches the
two calls whose batched form can be better (linear) or has to be ours (dropout: a rate per member, noise by seed).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dampen.errors import InputError
from dampen.knobs.dropout import dropout


@dataclass(frozen=True)
class DropoutCall:
    """One call of `F.dropout` in a forward pass: the rate that the network gives and the shape of its input."""

    p: float
    shape: tuple[int, ...]


class _CatchDropout(TorchFunctionMode):
    """Hands each active call of `F.dropout` to `drop`, with its place in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.dropout and func is not torch.dropout:
            return self.other(func, args, kwargs)
        h, p, training = _dropout_arguments(*args, **kwargs)
        if not training:
            return h
        layer, self._calls = self._calls, self._calls + 1
        return self.drop(layer, h, p)

    def drop(self, layer: int, h: Tensor, p: float) -> Tensor:
        raise NotImplementedError

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)


class RecordDropout(_CatchDropout):
    """Notes the dropout calls of a forward pass in `calls` and drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[DropoutCall] = []

    def drop(self, layer: int, h: Tensor, p: float) -> Tensor:
        """Note the call."""
        self.calls.append(DropoutCall(p, tuple(h.shape)))
        return h


class PairedDropout(_CatchDropout):
    """Drops units by given rates and uniforms instead of the modules' own rates and torch's global generator.

    Args:
        rate: takes the place of a call in the forward pass and the network's own rate, returns the rate to use.
        uniforms: takes the place of the call and the shape of its input, returns uniforms of that shape.
    """

    def __init__(
        self, rate: Callable[[int, float], float | Tensor], uniforms: Callable[[int, tuple[int, ...]], Tensor]
    ):
        super().__init__()
        self._rate = rate
        self._uniforms = uniforms

    def drop(self, layer: int, h: Tensor, p: float) -> Tensor:
        """Drop by the layer's uniforms."""
        return dropout(h, self._rate(layer, p), self._uniforms(layer, tuple(h.shape)))


class FastLanes(PairedDropout):
    """`PairedDropout` for a forward pass under `vmap` over members, with linear layers as few large products."""

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Send `F.linear` through its fast batching rule and leave every other function alone."""
        if func is F.linear:
            return _Linear.apply(*_linear_arguments(*args, **kwargs))
        return func(*args, **kwargs)


def rate_of_call(value: float | tuple[float, ...] | None, layer: int, p: float) -> float:
    """Return the rate of one dropout call under a setting's `dropout`; None keeps the network's own rate `p`."""
    if value is None:
        return p
    return value[layer] if isinstance(value, tuple) else value


def rates_of_calls(value: float | tuple[float, ...] | None, calls: Sequence[DropoutCall]) -> list[float]:
    """Return the rate of each dropout call of a forward pass under a setting's `dropout`.

    Raises:
        InputError: the setting names another number of rates than there are calls.
    """
    if isinstance(value, tuple) and len(value) != len(calls):
        raise InputError(
            f"dropout names {len(value)} rates, but the network drops units in {len(calls)} places: give one rate for "
            "each, or a single rate for all"
        )
    return [rate_of_call(value, layer, call.p) for layer, call in enumerate(calls)]


class _Linear(torch.autograd.Function):
    """`F.linear`, whose batching rule makes one product of all members that share an input."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)
        of_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return gradients[0] @ weight, gradient.T @ x.flatten(0, -2), of_bias

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias = inputs
        x_dim, weight_dim, bias_dim = in_dims
        if weight_dim is None and bias_dim is None:
            return _Linear.apply(x.movedim(x_dim, 0), weight, bias), 0
        weight = _members_first(weight, weight_dim, info.batch_size)
        bias = None if bias is None else _members_first(bias, bias_dim, info.batch_size)
        if x_dim is not None:
            return _MemberLinear.apply(x.movedim(x_dim, 0), weight, bias), 0
        y = _Linear.apply(x, weight.flatten(0, 1), None if bias is None else bias.flatten(0, 1))
        return y.unflatten(-1, (info.batch_size, -1)), y.ndim - 1


class _MemberLinear(torch.autograd.Function):
    """A linear layer with an input, a weight and a bias for each member: `[K, ..., in]` to `[K, ..., out]`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)
        transposed = weight.transpose(1, 2)
        y = torch.bmm(rows, transposed) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, transposed)
        return y.view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient, rows = ((t.flatten(1, -2) if t.ndim > 2 else t.unsqueeze(1)) for t in (gradients[0], x))
        of_bias = gradient.sum(1) if ctx.needs_input_grad[2] else None
        return torch.bmm(gradient, weight).view_as(x), torch.bmm(gradient.transpose(1, 2), rows), of_bias

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        tensors = [
            None if t is None else _members_first(t, dim, info.batch_size).flatten(0, 1)
            for t, dim in zip(inputs, in_dims, strict=True)
        ]
        return _MemberLinear.apply(*tensors).unflatten(0, (info.batch_size, -1)), 0


def _members_first(t: Tensor, dim: int | None, size: int) -> Tensor:
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def _linear_arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
    return input, weight, bias


def _dropout_arguments(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: bool | None = None
) -> tuple[Tensor, float, bool]:
    return input, p, training if train is None else train
