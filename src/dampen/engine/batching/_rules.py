"""How the calls that matter most run for all members at once: linear layers, convolutions, dropout.

`vmap` runs the user's module on stacked parameters and `CatchDropout` sees its calls. Each class below is a torch
function whose batching rule is ours: `vmap` over settings meets the first rule, `vmap` over seeds the second.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.capture._dropout_mode import CatchDropout, Kind
from dampen.engine.execution._active_knobs import Placed
from dampen.engine.knobs._masks import Keep
from dampen.engine.knobs.noise.dropout import alpha_dropout

_convolution: Any = torch.convolution
_SMALL_COPIES = 1 << 15  # numbers of a seed's rows, copied for each setting, below which a call costs more than copies
_SMALL = 1 << 16  # multiplications of one member's layer below which members that share an input share a product

LINEAR: set[Any] = {F.linear}
CONVOLUTIONS: dict[Any, bool] = {  # and whether each is transposed
    F.conv1d: False,
    F.conv2d: False,
    F.conv3d: False,
    F.conv_transpose1d: True,
    F.conv_transpose2d: True,
    F.conv_transpose3d: True,
}


class FastLanes(CatchDropout):
    """Dropout at each member's own rates, linear layers as few large products, convolutions by the faster way.

    Args:
        rates: this member's rate at each place.
        scales: what a kept unit is multiplied by at each place, of the activations' type.
        uniforms: for each place, this seed's uniforms.
        low: type to which linear layers and convolutions round their inputs, if any (autocast does it elsewhere).
        placed: what knobs do at other sites.
    """

    attends = True

    def __init__(
        self,
        rates: Tensor,
        scales: Tensor,
        uniforms: Sequence[Tensor],
        low: torch.dtype | None = None,
        placed: Placed | None = None,
    ):
        super().__init__(placed)
        self._rates, self._scales, self._uniforms, self._low = rates, scales, uniforms, low

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop by the place's uniforms and this member's rate."""
        rate, uniforms = self._rates[number], self._uniforms[number]
        if kind == "alpha":
            return alpha_dropout(h, rate, uniforms)
        return h * Keep.apply(uniforms, rate.to(uniforms.dtype), self._scales[number].to(h.dtype))

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Refuse: `vmap` has no rule for recurrent networks."""
        raise RuntimeError(f"{func.__name__} has no batching rule")

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Send linear layers and convolutions to their lanes."""
        if func is F.linear:
            return _Linear.apply(*map(self._rounded, _linear_arguments(*args, **kwargs)))
        if func in CONVOLUTIONS:
            found = _convolution_arguments(CONVOLUTIONS[func], *args, **kwargs)
            if found is not None:
                tensors, options = found
                return _Convolve.apply(*map(self._rounded, tensors), options)
        return func(*args, **kwargs)

    def _rounded(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or self._low is None or not t.is_floating_point() else t.to(self._low)


class _Linear(torch.autograd.Function):
    """`F.linear` of one member."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

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
            return _Linear.apply(x.movedim(x_dim, 0), weight, bias), 0
        weight = _first(weight, weight_dim, info.batch_size)
        bias = None if bias is None else _first(bias, bias_dim, info.batch_size)
        if x_dim is not None:
            return _MemberLinear.apply(x.movedim(x_dim, 0), weight, bias), 0
        y = _SharedLinear.apply(x.unsqueeze(0), weight.unsqueeze(0), None if bias is None else bias.unsqueeze(0))
        return y.squeeze(0), 0


class _SharedLinear(torch.autograd.Function):
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
        """Say whether one wide product beats one product for each setting: it does for one, and for small layers."""
        return weight.shape[1] == 1 or rows.shape[1] * weight.shape[2] * weight.shape[3] < _SMALL

    @staticmethod
    def _worth_copies(rows: Tensor, weight: Tensor) -> bool:
        """Say whether to copy the rows for each setting, so that one call serves all seeds."""
        return len(rows) > 1 and rows[0].numel() * weight.shape[1] < _SMALL_COPIES

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

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
        weight = _first(weight, weight_dim, size)  # [size, 1, M, out, in]
        bias = None if bias is None else _first(bias, bias_dim, size)
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


class _MemberLinear(torch.autograd.Function):
    """A linear layer with an input, a weight and a bias for each member: `[K, ..., in]` to `[K, ..., out]`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = _product(_rows(x, 1), weight.transpose(1, 2), bias)
        return y.view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

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
            None if t is None else _first(t, dim, info.batch_size).flatten(0, 1)
            for t, dim in zip(inputs, in_dims, strict=True)
        ]
        return _MemberLinear.apply(*tensors).unflatten(0, (info.batch_size, -1)), 0


Options = tuple[list[int], list[int], list[int], bool, list[int], int]
"""Stride, padding, dilation, whether transposed, output padding, groups."""


class _Convolve(torch.autograd.Function):
    """A convolution of one member."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        return _convolution(x, weight, bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.options = inputs[3]

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
            y = _Convolve.apply(x.flatten(0, 1), weight, bias, options)
            return y.unflatten(0, x.shape[:2]), 0
        weight = _first(weight, weight_dim, info.batch_size).unsqueeze(0)
        bias = None if bias is None else _first(bias, bias_dim, info.batch_size).unsqueeze(0)
        x = (x.unsqueeze(0) if x_dim is None else x.movedim(x_dim, 0)).unsqueeze(0)
        return _PopulationConvolve.apply(x, weight, bias, options).squeeze(0), 0


class _PopulationConvolve(torch.autograd.Function):
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
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.options = inputs[3]

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
        weight = _first(weight, in_dims[1], size).flatten(0, 1)
        bias = None if bias is None else _first(bias, in_dims[2], size).flatten(0, 1)
        x = x if in_dims[0] is None else x.movedim(in_dims[0], 0).flatten(0, 1)
        return _PopulationConvolve.apply(x, weight, bias, options).unflatten(0, (size, -1)), 0


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, options: Options, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    channels = gradient.shape[1]
    found = torch.ops.aten.convolution_backward(gradient, x, weight, [channels], *options, list(needed[:3]))
    return tuple(g if n else None for g, n in zip(found, needed, strict=False))


def _of(x: Tensor, s: int, m: int) -> Tensor:
    """Return a member's own part of an input that seeds or settings may share."""
    return x[s if x.shape[0] > 1 else 0, m if x.shape[1] > 1 else 0]


def _product(rows: Tensor, matrices: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return `rows @ matrices + bias`, batched, written into `out` if there is one."""
    if bias is None:
        return torch.bmm(rows, matrices) if out is None else torch.bmm(rows, matrices, out=out)
    bias = bias.unsqueeze(1)
    return torch.baddbmm(bias, rows, matrices) if out is None else torch.baddbmm(bias, rows, matrices, out=out)


def _rows(t: Tensor, leading: int) -> Tensor:
    """Return `[leading ..., N, last]`: all dimensions between the leading ones and the last made one."""
    return t.flatten(leading, -2) if t.ndim > leading + 1 else t.unsqueeze(leading)


def _first(t: Tensor, dim: int | None, size: int) -> Tensor:
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def _linear_arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
    return input, weight, bias


def _convolution_arguments(
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
