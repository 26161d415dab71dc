"""Dropout at each member's own rate, under `vmap`, beside the batching rules of linear layers and convolutions.

`vmap` runs the user's module on stacked parameters, and `BatchedDropout` sees its calls.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.batching._conv import CONVOLUTIONS, Convolution, convolution_arguments
from dampen.engine.batching._linear import Linear, linear_arguments
from dampen.engine.capture import CatchDropout, Kind, Placed
from dampen.engine.knobs._masks import Keep
from dampen.engine.knobs.noise.dropout import alpha_dropout


class BatchedDropout(CatchDropout):
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
        """Send linear layers and convolutions to their rules."""
        if func is F.linear:
            return Linear.apply(*map(self._rounded, linear_arguments(*args, **kwargs)))
        if func in CONVOLUTIONS:
            arguments = convolution_arguments(CONVOLUTIONS[func], *args, **kwargs)
            if arguments is not None:
                tensors, options = arguments
                return Convolution.apply(*map(self._rounded, tensors), options)
        return func(*args, **kwargs)

    def _rounded(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or self._low is None or not t.is_floating_point() else t.to(self._low)
