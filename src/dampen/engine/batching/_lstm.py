"""An LSTM layer's scan over time, for all members at once, with its gradient by hand: half of autograd's operations."""

from typing import Any

import torch
from torch import Tensor

from dampen.engine.batching._members_first import members_first

_aten = torch.ops.aten


def lstm(x: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden and cell states after each step, `[T, B, H]` each (Hochreiter and Schmidhuber 1997; Gers 2000).

    Args:
        x: what the inputs and the biases bring to the gates, in torch's order, `[T, B, 4 H]`.
        h: hidden state before the first step, `[B, H]`.
        c: cell state before it.
        weight: from the hidden state to the gates, `[4 H, H]`.
    """
    h_after, c_after, _, _ = _Scan.apply(*(t.unsqueeze(0) for t in (x, h, c, weight)))
    return h_after.squeeze(0), c_after.squeeze(0)


class _Scan(torch.autograd.Function):
    """The scan of K members: `[K, ...]` each. Gates and `tanh c` are returned for the backward pass only."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        K, T, B, _ = x.shape
        H = h.shape[-1]
        gates = x.new_empty(K, T, B, 4 * H)
        hs, cs, tanhs = (x.new_empty(K, T, B, H) for _ in range(3))
        transposed = weight.transpose(1, 2)
        for t in range(T):
            into_if, into_new, into_o = gates[:, t].split([2 * H, H, H], 2)
            of_if, of_new, of_o = torch.baddbmm(x[:, t], h, transposed).split([2 * H, H, H], 2)
            i, f = torch.sigmoid(of_if, out=into_if).split(H, 2)
            new, o = torch.tanh(of_new, out=into_new), torch.sigmoid(of_o, out=into_o)
            c = torch.mul(f, c, out=cs[:, t]).addcmul_(i, new)
            h = torch.mul(o, torch.tanh(c, out=tanhs[:, t]), out=hs[:, t])
        return hs, cs, gates, tanhs

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, h, c, weight = inputs
        ctx.save_for_backward(h, c, weight, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        h, c, weight, hs, cs, gates, tanhs = ctx.saved_tensors
        of_hs, of_cs = gradients[:2]
        T, H = hs.shape[1], hs.shape[3]
        of_gates = torch.empty_like(gates)
        of_h, of_c = torch.zeros_like(h), torch.zeros_like(c)
        for t in range(T - 1, -1, -1):
            i, f, new, o = gates[:, t].split(H, 2)
            before = cs[:, t - 1] if t else c
            if of_hs is not None:
                of_h = of_h + of_hs[:, t]
            of_c = of_c + _aten.tanh_backward(of_h * o, tanhs[:, t])
            if of_cs is not None:
                of_c = of_c + of_cs[:, t]
            to_i, to_f, to_new, to_o = of_gates[:, t].split(H, 2)
            torch.mul(of_c, new, out=to_i)
            torch.mul(of_c, before, out=to_f)
            _aten.tanh_backward.grad_input(of_c * i, new, grad_input=to_new)
            _aten.sigmoid_backward.grad_input(of_h * tanhs[:, t], o, grad_input=to_o)
            both = of_gates[:, t][..., : 2 * H]
            _aten.sigmoid_backward.grad_input(both, gates[:, t][..., : 2 * H], grad_input=both)
            of_h, of_c = torch.bmm(of_gates[:, t], weight), of_c * f
        earlier = torch.cat([h.unsqueeze(1), hs[:, :-1]], 1)
        of_weight = torch.bmm(of_gates.flatten(1, 2).transpose(1, 2), earlier.flatten(1, 2))
        return of_gates, of_h, of_c, of_weight

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        given = [members_first(t, dim, size).flatten(0, 1) for t, dim in zip(inputs, in_dims, strict=True)]
        return tuple(t.unflatten(0, (size, -1)) for t in _Scan.apply(*given)), (0, 0, 0, 0)
