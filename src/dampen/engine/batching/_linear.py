"""Batching rules of linear layers: all members as few large products.

`vmap` over settings meets the first rule, which becomes a function of its own, and `vmap` over seeds the second.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.batching._members_first import members_first

_SMALL_COPIES = 1 << 15  # numbers of a seed's rows, copied for each setting, below which a call costs more than copies
_SMALL = 1 << 16  # multiplications of one member's layer below which members that share an input share a product

LINEAR: set[Any] = {F.linear}


class _Layer(torch.autograd.Function):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])


class Linear(_Layer):
    """`F.linear` of one member."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        gradient = gradients[0].flatten(0, -2) if gradients[0].ndim > 1 else gradients[0].unsqueeze(0)
        rows = x.flatten(0, -2) if x.ndim > 1 else x.unsqueeze(0)
        return (
            gradients[0] @ weight if needs_x else None,
            gradient.T @ rows if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias = inputs
        x_dim, weight_dim, bias_dim = in_dims
        if weight_dim is None and bias_dim is None:
            return Linear.apply(x.movedim(x_dim, 0), weight, bias), 0
        weight = members_first(weight, weight_dim, info.batch_size)
        bias = None if bias is None else members_first(bias, bias_dim, info.batch_size)
        if x_dim is not None:
            return _MemberLinear.apply(x.movedim(x_dim, 0), weight, bias), 0
        y = _SharedLinear.apply(x.unsqueeze(0), weight.unsqueeze(0), None if bias is None else bias.unsqueeze(0))
        return y.squeeze(0), 0


class _SharedLinear(_Layer):
    """A linear layer whose input a seed's settings share: `[S, ..., in]`, `[S, M, out, in]` to `[S, M, ..., out]`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = _rows(x, 1)
        (S, N, _), (M, out) = rows.shape, weight.shape[1:3]
        if _SharedLinear._as_one_product(rows, weight):
            if M == 1:
                y = _product(rows, weight[:, 0].transpose(1, 2), None if bias is None else bias[:, 0]).unsqueeze(1)
            elif out == 1:  # [S, M, N] is then in order as it comes
                y = torch.bmm(weight.squeeze(2), rows.transpose(1, 2)).unsqueeze(-1)
                y = y if bias is None else y.add_(bias.unsqueeze(2))
            else:
                flat = None if bias is None else bias.flatten(1, 2)
                y = _product(rows, weight.flatten(1, 2).transpose(1, 2), flat).unflatten(-1, (M, out)).transpose(1, 2)
        elif _SharedLinear._worth_copies(rows, weight):
            every = None if bias is None else bias.flatten(0, 1)
            y = _product(_copies(rows, M), weight.flatten(0, 1).transpose(1, 2), every).unflatten(0, (S, M))
        else:
            y = x.new_empty(S, M, N, out)
            for s in range(S):
                each = rows[s].expand(M, -1, -1)
                _product(each, weight[s].transpose(1, 2), None if bias is None else bias[s], out=y[s])
        return y.unflatten(2, x.shape[1:-1]) if x.ndim != 3 else y

    @staticmethod
    def _as_one_product(rows: Tensor, weight: Tensor) -> bool:
        """Return whether one wide product beats one product for each setting: it does for one, and for small layers."""
        return weight.shape[1] == 1 or rows.shape[1] * weight.shape[2] * weight.shape[3] < _SMALL

    @staticmethod
    def _worth_copies(rows: Tensor, weight: Tensor) -> bool:
        """Return whether to copy the rows for each setting, so that one call serves all seeds."""
        return len(rows) > 1 and rows[0].numel() * weight.shape[1] < _SMALL_COPIES

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows, gradient = _rows(x, 1), _rows(gradients[0], 2)  # [S, N, in], [S, M, N, out]
        of_x = of_weight = None
        if needs_weight:
            if _SharedLinear._as_one_product(rows, weight):
                wide = gradient.permute(0, 1, 3, 2).flatten(1, 2)  # [S, M * out, N]
                of_weight = torch.bmm(wide, rows).unflatten(1, weight.shape[1:3])
            elif _SharedLinear._worth_copies(rows, weight):
                each = _copies(rows, weight.shape[1])
                of_weight = torch.bmm(gradient.flatten(0, 1).transpose(1, 2), each).view_as(weight)
            else:
                of_weight = torch.empty_like(weight)
                for s in range(len(rows)):
                    each = rows[s].expand(weight.shape[1], -1, -1)
                    torch.bmm(gradient[s].transpose(1, 2), each, out=of_weight[s])
        if needs_x:
            of_x = torch.bmm(gradient.transpose(1, 2).flatten(2, 3), weight.flatten(1, 2)).view_as(x)
        return of_x, of_weight, gradient.sum(2) if needs_bias else None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias = inputs
        x_dim, weight_dim, bias_dim = in_dims
        size = info.batch_size
        weight = members_first(weight, weight_dim, size)  # [size, 1, M, out, in]
        bias = None if bias is None else members_first(bias, bias_dim, size)
        if x_dim is None:  # shared by all seeds, too
            every = None if bias is None else bias.flatten(0, 2).unsqueeze(0)
            y = _SharedLinear.apply(x, weight.flatten(0, 2).unsqueeze(0), every)
            return y.squeeze(0).unflatten(0, (size, 1, -1)), 0
        every = None if bias is None else bias.flatten(0, 1)
        y = _SharedLinear.apply(x.movedim(x_dim, 0).flatten(0, 1), weight.flatten(0, 1), every)
        return y.unflatten(0, (size, 1)), 0


def _copies(rows: Tensor, M: int) -> Tensor:
    """Return each seed's rows M times, `[S * M, N, in]`."""
    return rows.unsqueeze(1).expand(-1, M, -1, -1).flatten(0, 1)


class _MemberLinear(_Layer):
    """A linear layer with an input, a weight and a bias for each member: `[K, ..., in]` to `[K, ..., out]`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = _product(_rows(x, 1), weight.transpose(1, 2), bias)
        return y.view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        gradient, rows = _rows(gradients[0], 1), _rows(x, 1)
        return (
            torch.bmm(gradient, weight).view(x.shape) if needs_x else None,
            torch.bmm(gradient.transpose(1, 2), rows) if needs_weight else None,
            gradient.sum(1) if needs_bias else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        tensors = [
            None if t is None else members_first(t, dim, info.batch_size).flatten(0, 1)
            for t, dim in zip(inputs, in_dims, strict=True)
        ]
        return _MemberLinear.apply(*tensors).unflatten(0, (info.batch_size, -1)), 0


def _product(rows: Tensor, matrices: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return `rows @ matrices + bias`, batched, written into `out` if there is one."""
    if bias is None:
        return torch.bmm(rows, matrices) if out is None else torch.bmm(rows, matrices, out=out)
    bias = bias.unsqueeze(1)
    return torch.baddbmm(bias, rows, matrices) if out is None else torch.baddbmm(bias, rows, matrices, out=out)


def _rows(t: Tensor, leading: int) -> Tensor:
    """Return `[leading ..., N, last]`: all dimensions between the leading ones and the last made one."""
    return t.flatten(leading, -2) if t.ndim > leading + 1 else t.unsqueeze(leading)


def linear_arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
    return input, weight, bias
