"""Batching rules of convolutions: on a CPU member by member, where a grouped one for all members takes longer."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.batching._members_first import members_first

_convolution: Any = torch.convolution

CONVOLUTIONS: dict[Any, bool] = {  # and whether each is transposed
    F.conv1d: False,
    F.conv2d: False,
    F.conv3d: False,
    F.conv_transpose1d: True,
    F.conv_transpose2d: True,
    F.conv_transpose3d: True,
}

Options = tuple[list[int], list[int], list[int], bool, list[int], int]
"""Stride, padding, dilation, whether transposed, output padding, groups."""


class _Layer(torch.autograd.Function):
    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.options = inputs[3]


class Convolution(_Layer):
    """A convolution of one member."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        return _convolution(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return *_convolution_backward(gradients[0], x, weight, ctx.options, ctx.needs_input_grad), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias, options = inputs
        x_dim, weight_dim, bias_dim, _ = in_dims
        if weight_dim is None and bias_dim is None:
            x = x.movedim(x_dim, 0)
            y = Convolution.apply(x.flatten(0, 1), weight, bias, options)
            return y.unflatten(0, x.shape[:2]), 0
        weight = members_first(weight, weight_dim, info.batch_size).unsqueeze(0)
        bias = None if bias is None else members_first(bias, bias_dim, info.batch_size).unsqueeze(0)
        x = (x.unsqueeze(0) if x_dim is None else x.movedim(x_dim, 0)).unsqueeze(0)
        return _PopulationConvolve.apply(x, weight, bias, options).squeeze(0), 0


class _PopulationConvolve(_Layer):
    """A convolution of every member: `[S or 1, M or 1, B, ...]` and `[S, M, ...]` to `[S, M, B, ...]`.

    Member by member: on a CPU, a grouped convolution of all takes up to 1.6 times as long. Other devices have `vmap`'s
    grouped convolution.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        S, M = weight.shape[:2]
        each = [
            _convolution(_of(x, s, m), weight[s, m], None if bias is None else bias[s, m], *options)
            for s in range(S)
            for m in range(M)
        ]
        return torch.stack(each).unflatten(0, (S, M))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        S, M = weight.shape[:2]
        each = [
            _convolution_backward(gradients[0][s, m], _of(x, s, m), weight[s, m], ctx.options, ctx.needs_input_grad)
            for s in range(S)
            for m in range(M)
        ]
        of_x, of_weight, of_bias = (
            None if parts[0] is None else torch.stack(parts).unflatten(0, (S, M)) for parts in zip(*each, strict=True)
        )
        if of_x is not None:
            of_x = of_x.sum_to_size(x.shape)
        return of_x, of_weight, of_bias, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias, options = inputs
        size = info.batch_size
        weight = members_first(weight, in_dims[1], size).flatten(0, 1)
        bias = None if bias is None else members_first(bias, in_dims[2], size).flatten(0, 1)
        x = x if in_dims[0] is None else x.movedim(in_dims[0], 0).flatten(0, 1)
        return _PopulationConvolve.apply(x, weight, bias, options).unflatten(0, (size, -1)), 0


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, options: Options, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    channels = gradient.shape[1]
    gradients = torch.ops.aten.convolution_backward(gradient, x, weight, [channels], *options, list(needed[:3]))
    return tuple(g if n else None for g, n in zip(gradients, needed, strict=False))


def _of(x: Tensor, s: int, m: int) -> Tensor:
    """Return a member's own part of an input that seeds or settings may share."""
    return x[s if x.shape[0] > 1 else 0, m if x.shape[1] > 1 else 0]


def convolution_arguments(
    transposed: bool, input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> tuple[tuple[Tensor, Tensor, Tensor | None], Options] | None:
    """Return a convolution's tensors and options, or None for a form that is left to torch (unbatched, uneven)."""
    n = weight.ndim - 2
    if input.ndim != weight.ndim or input.device.type != "cpu":
        return None
    names = (
        ("stride", "padding", "output_padding", "groups", "dilation")
        if transposed
        else ("stride", "padding", "dilation", "groups")
    )
    given: dict[str, Any] = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
    given |= dict(zip(names, args, strict=False)) | kwargs

    def each(value: Any) -> list[int]:
        return [value] * n if isinstance(value, int) else list(value) * (n if len(value) == 1 else 1)

    dilation = each(given["dilation"])
    padding: Any | Literal["same", "valid"] = given["padding"]
    if padding == "valid":
        padding = 0
    if padding == "same":
        spare = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(s % 2 for s in spare):
            return None
        padding = [s // 2 for s in spare]
    options = each(given["stride"]), each(padding), dilation, transposed, each(given["output_padding"]), given["groups"]
    return (input, weight, bias), options
