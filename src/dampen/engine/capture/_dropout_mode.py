"""Catch every kind of dropout in a forward pass, whoever calls it: a layer, a function, attention.

The user's module is never rewritten: a `TorchFunctionMode` sees each call of a torch function while the module runs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dampen.engine.capture._attention import (
    attend,
    attention_arguments,
    multi_head_attention_body,
    without_override_check,
)
from dampen.engine.capture._draws import DRAWS, DrawCall, draw_of
from dampen.engine.capture._residual import addends
from dampen.engine.capture._sites import Kind, Placed


class CatchDropout(TorchFunctionMode):
    """Hands each active dropout to `drop`, with its number in the forward pass; other functions go to `other`.

    Args:
        placed: what knobs do at other sites of the forward pass.
    """

    in_place = True
    """Whether a dropout called with `inplace=True` changes its input; if not, it only returns what it dropped."""
    attends = False
    """Whether attention that drops nothing is written out, too: torch's own kernel runs no population."""

    def __init__(self, placed: Placed | None = None) -> None:
        super().__init__()
        self._placed = placed or {}
        self._seen: dict[str, int] = {}
        self._adds = any(kind == "addend" for kind, _ in self._placed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self._adds and not _acts(func):
            return self.other(func, args, kwargs)
        if func in _READ:
            read, kind, batch_ndim = _READ[func]
            h, p, training, inplace = read(*args, **kwargs)
            if not training:
                return h
            shape = tuple(h.shape)
            if batch_ndim:  # whole channels; a tensor without a batch dimension starts with them
                leading = 2 if h.ndim >= batch_ndim else 1
                shape = (*shape[:leading], *[1] * (h.ndim - leading))
            dropped = self.drop(self.number("drop"), kind, self.site("dropout", h), p, shape)
            return self.changed(h, dropped) if inplace and self.in_place else dropped
        if func is F.scaled_dot_product_attention:
            arguments = attention_arguments(*args, **kwargs)
            if arguments["dropout_p"] > 0 or self.attends:
                return attend(**arguments, drop=self._drop_weights)
        if func is F.multi_head_attention_forward:
            with self:  # a mode is off while it handles a call: on again for the attention's own calls
                return multi_head_attention_body(*args, **kwargs)
        if getattr(func, "__name__", "") in _RECURRENT:
            i = 5 if isinstance(args[3], bool) else 6  # packed sequences have one argument more
            if args[i] > 0 and args[i + 1]:
                return self.recurrent(self.number("drop"), func, args, i, kwargs)
        if func is F.gumbel_softmax:
            with self:
                return _gumbel_softmax_body(*args, **kwargs)
        if (draw := draw_of(func, args, kwargs)) is not None:
            return self.drawn(self.number("draw"), draw)
        if func in WEIGHTED:
            return self._weighted(func, args, kwargs)
        if func in _SPARSE:  # a stacked gradient is dense
            i = _SPARSE[func]
            args, kwargs = (
                ((*args[:i], False, *args[i + 1 :]), kwargs) if len(args) > i else (args, kwargs | {"sparse": False})
            )
        if self._adds and (pair := addends(func, args, kwargs)) is not None:
            return self.added(func, args, kwargs, pair)
        return self.other(func, args, kwargs)

    def added(self, func: Any, args: Any, kwargs: Any, pair: tuple[Tensor, Tensor]) -> Any:
        """Add two tensors of one shape, each as the knobs at its site have it."""
        left, right = (self.site("addend", t) for t in pair)
        if left is pair[0] and right is pair[1]:
            return self.other(func, args, kwargs)
        total = torch.add(left, right, alpha=kwargs.get("alpha", 1))
        return self.changed(pair[0], total) if func.__name__ in ("add_", "__iadd__") else total

    def changed(self, t: Tensor, result: Tensor) -> Tensor:
        """Give a tensor that is changed in place its new values."""
        return t.copy_(result)

    def site(self, kind: str, h: Tensor) -> Tensor:
        """Return a tensor as the knobs at its site have it."""
        for function in self._placed.get((kind, self.number(kind)), ()):
            h = function(h)
        return h

    def number(self, kind: str) -> int:
        """Return how many of a kind the forward pass has met before this one."""
        number = self._seen.get(kind, 0)
        self._seen[kind] = number + 1
        return number

    def _weighted(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a linear layer or a convolution."""
        if len(args) > 1:
            args = (args[0], self.site("weight", args[1]), *args[2:])
        else:
            kwargs = kwargs | {"weight": self.site("weight", kwargs["weight"])}
        result = self.other(func, args, kwargs)
        return result if func is F.linear else self.site("map", result)

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop units of `h` by uniforms of this shape."""
        raise NotImplementedError

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Run a recurrent network with dropout between its layers; `args[place_of_p]` is its rate."""
        raise NotImplementedError

    def drawn(self, number: int, draw: DrawCall) -> Any:
        """Draw random numbers; by default as the network does, by the global generator."""
        return self.other(*draw.call)

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function that drops nothing."""
        return func(*args, **kwargs)

    def _drop_weights(self, weights: Tensor, p: float) -> Tensor:
        """Drop attention weights."""
        return self.drop(self.number("drop"), "unit", self.site("dropout", weights), p, tuple(weights.shape))


def _dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: bool | None = None
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training if train is None else train, inplace


def _alpha(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *, train: bool | None = None
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training if train is None else train, inplace


def _in_place(input: Tensor, p: float, train: bool) -> tuple[Tensor, float, bool, bool]:
    return input, p, train, True


_gumbel_softmax_body = without_override_check(F.gumbel_softmax)
WEIGHTED = {F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
_SPARSE: dict[Any, int] = {F.embedding: 6, F.embedding_bag: 7}  # and the place of `sparse` among their arguments
_RECURRENT = {"gru", "lstm", "rnn_tanh", "rnn_relu"}
# How a call is read, what it drops and, for whole channels, how many dimensions a batch has at least.
_READ: dict[Any, tuple[Callable[..., tuple[Tensor, float, bool, bool]], Kind, int]] = {
    F.dropout: (_dropout, "unit", 0),
    torch.dropout: (_dropout, "unit", 0),
    torch.dropout_: (_in_place, "unit", 0),
    F.dropout1d: (_dropout, "unit", 3),
    F.dropout2d: (_dropout, "unit", 2),
    F.dropout3d: (_dropout, "unit", 5),
    torch.feature_dropout: (_dropout, "unit", 2),
    torch.feature_dropout_: (_in_place, "unit", 2),
    F.alpha_dropout: (_alpha, "alpha", 0),
    torch.alpha_dropout: (_dropout, "alpha", 0),
    torch.alpha_dropout_: (_in_place, "alpha", 0),
    F.feature_alpha_dropout: (_alpha, "alpha", 2),
    torch.feature_alpha_dropout: (_dropout, "alpha", 2),
    torch.feature_alpha_dropout_: (_in_place, "alpha", 2),
}


@cache
def _acts(func: Any) -> bool:
    """Return whether a function drops, draws, has weights or calls others that do."""
    whole = func in (F.scaled_dot_product_attention, F.multi_head_attention_forward, F.gumbel_softmax)
    tables = func in _READ or func in WEIGHTED or func in _SPARSE or func in DRAWS
    return whole or tables or getattr(func, "__name__", "") in _RECURRENT
