"""Dropout at each member's own rate, under `vmap`, beside the batching rules of linear layers and convolutions.

`vmap` runs the user's module on stacked parameters, and `BatchedDropout` sees its calls.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.batching import _recurrent as recurrent
from dampen.engine.batching._all_members import memory, of_all_members
from dampen.engine.batching._conv import CONVOLUTIONS, Convolution, convolution_arguments
from dampen.engine.batching._in_place import Replaced, out_of_place
from dampen.engine.batching._linear import Linear, linear_arguments
from dampen.engine.batching._written_out import WRITTEN_OUT
from dampen.engine.capture import CatchDropout, DrawCall, Kind, NotRecordable, Placed, Unsettled, value_of
from dampen.engine.knobs._masks import Keep
from dampen.engine.knobs.noise.dropout import alpha_dropout

_READS: dict[Any, Callable[[Any], Any]] = {  # calls that read the one number of a tensor, and what they give
    Tensor.item: lambda value: value,
    Tensor.__bool__: bool,
    Tensor.__int__: int,
    Tensor.__float__: float,
    Tensor.__index__: int,
    torch.is_nonzero: bool,
    Tensor.is_nonzero: bool,
}


class BatchedDropout(CatchDropout):
    """Dropout at each member's own rates, linear layers as few large products, convolutions by the faster way.

    Args:
        rates: this member's rate at each place.
        scales: what a kept unit is multiplied by at each place, of the activations' type.
        uniforms: for each place, this seed's uniforms.
        low: type to which linear layers and convolutions round their inputs, if any (autocast does it elsewhere).
        placed: what knobs do at other sites.
        own: for each place where the network draws random numbers, this seed's.
        state: this member's parameters and buffers: what changes them in place has to.
    """

    attends = True

    def __init__(
        self,
        rates: Tensor,
        scales: Tensor,
        uniforms: Sequence[Tensor],
        low: torch.dtype | None = None,
        placed: Placed | None = None,
        own: Sequence[Tensor] = (),
        state: Iterable[Tensor] = (),
    ):
        super().__init__(placed)
        self._state = {memory(t) for t in state}
        self._replaced = Replaced()
        self._own = own
        self._rates, self._scales, self._uniforms, self._low = rates, scales, uniforms, low

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self.now(args), self.now(kwargs)
        if func in _READS:
            try:
                value = value_of(of_all_members(args[0]))
            except Unsettled:
                raise
            except NotRecordable as e:
                raise NotRecordable("data-dependent control flow" if _READS[func] is bool else ".item()") from e
            if value is not None:
                return _READS[func](value)
        return super().__torch_function__(func, types, args, kwargs)

    def now(self, values: Any) -> Any:
        """Return tensors as they are after what the network did to them in place."""
        return self._replaced.now(values)

    def changed(self, t: Tensor, result: Tensor) -> Tensor:
        """See `CatchDropout`."""
        try:
            return t.copy_(result)
        except RuntimeError:
            if memory(t) in self._state:
                raise
            return self._replaced.put(t, result.to(t.dtype))

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop by the place's uniforms and this member's rate."""
        rate, uniforms = self._rates[number], self._uniforms[number]
        if kind == "alpha":
            return alpha_dropout(h, rate, uniforms)
        return h * Keep.apply(uniforms, rate.to(uniforms.dtype), self._scales[number].to(h.dtype))

    def drawn(self, number: int, draw: DrawCall) -> Any:
        """See `CatchDropout`."""
        if not draw.fits(self._own, number):
            return self.other(*draw.call)
        result = draw.result(self._own[number])
        if draw.target is None:
            return result
        kept = memory(draw.target) in self._state
        return self.changed(draw.target, result) if kept else self._replaced.put(draw.target, result)

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Refuse: torch draws these masks inside of the layers."""
        raise RuntimeError("it drops units between its layers; give it one layer each and nn.Dropout in between")

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Send linear layers and convolutions to their rules."""
        if func is F.linear:
            return Linear.apply(*map(self._rounded, linear_arguments(*args, **kwargs)))
        if func in CONVOLUTIONS:
            arguments = convolution_arguments(CONVOLUTIONS[func], *args, **kwargs)
            if arguments is not None:
                tensors, options = arguments
                return Convolution.apply(*map(self._rounded, tensors), options)
        if self._low is None and (results := recurrent.written_out(func, args)) is not None:
            return results
        return self._in_place(WRITTEN_OUT.get(func, func), args, kwargs)

    def _in_place(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function; one that can't change its argument in place makes a new tensor, which stands for it then."""
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            way = out_of_place(func, args, kwargs)
            if way is None or memory(way[0]) in self._state:
                raise
            target, result = way
            return self._replaced.put(target, result())

    def _rounded(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or self._low is None or not t.is_floating_point() else t.to(self._low)
