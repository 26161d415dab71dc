"""Recurrent layers written out as a scan: linear layers with a rule of their own, and a cell's few operations."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dampen.engine.batching._linear import Linear
from dampen.engine.batching._lstm import lstm

_Cell = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]
"""Of a step's `W x + b`, `W h + b` and the state before it, `h` first, the state after it."""


def _gru(x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    (x_rz, x_n), (h_rz, h_n) = (t.tensor_split([2 * (t.shape[1] // 3)], 1) for t in (x, h))
    r, z = (x_rz + h_rz).sigmoid().chunk(2, 1)
    n = torch.addcmul(x_n, r, h_n).tanh()
    return [torch.lerp(n, state[0], z)]


def _rnn_tanh(x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [(x + h).tanh()]


def _rnn_relu(x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [(x + h).relu()]


_CELLS: dict[str, _Cell] = {"gru": _gru, "rnn_tanh": _rnn_tanh, "rnn_relu": _rnn_relu}


def written_out(func: Any, args: Any) -> tuple[Tensor, ...] | None:
    """Return what a call of `torch.lstm` and the like returns; None for packed sequences, projections and other calls.

    Nothing is dropped between its layers.

    Args:
        func: a torch function.
        args: its arguments.
    """
    name = getattr(func, "__name__", "")
    if name not in ("lstm", *_CELLS) or len(args) != 9 or not isinstance(args[3], bool):
        return None
    x, given, weights, has_bias, layers, _, _, bidirectional, batch_first = args
    states = list(given) if name == "lstm" else [given]
    directions = 1 + bidirectional
    if len(weights) != layers * directions * (4 if has_bias else 2):
        return None
    per_layer = len(weights) // layers // directions
    x = x.transpose(0, 1) if batch_first else x
    last: list[list[Tensor]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            n = layer * directions + direction
            begin = [state[n] for state in states]
            own = weights[n * per_layer : (n + 1) * per_layer]
            steps, end = _scan(_CELLS.get(name), x, begin, own, backward=direction == 1)
            outputs.append(steps)
            last.append(end)
        x = outputs[0] if directions == 1 else torch.cat(outputs, 2)
    ends = (torch.stack(parts) for parts in zip(*last, strict=True))
    return (x.transpose(0, 1) if batch_first else x, *ends)


def _scan(
    cell: _Cell | None, x: Tensor, state: list[Tensor], weights: Sequence[Tensor], *, backward: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return one layer's outputs for `[T, B, in]` in one direction, `[T, B, H]`, and the state after the last step.

    Without a cell they are an LSTM's.
    """
    w_x, w_h, *biases = weights
    b_x, b_h = biases or (None, None)
    if cell is None:
        of_inputs = Linear.apply(x, w_x, None if b_x is None or b_h is None else b_x + b_h)
        hs, cs = lstm(of_inputs.flip(0) if backward else of_inputs, state[0], state[1], w_h)
        return hs.flip(0) if backward else hs, [hs[-1], cs[-1]]
    of_inputs = Linear.apply(x, w_x, b_x).unbind(0)
    outputs = []
    for of_input in reversed(of_inputs) if backward else of_inputs:
        state = cell(of_input, Linear.apply(state[0], w_h, b_h), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backward else outputs), state
