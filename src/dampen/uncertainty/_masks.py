"""The masks behind Monte-Carlo dropout: a function of (seed, sample, place, row, unit) and of nothing else.

A unit is kept where `(a + b) mod 2^32 >= 2^32 p`, with one uniform number `a` for each sample and unit and another,
`b`, for each row and unit. For every row the samples' masks are independent of each other, for every sample the rows'
are, and any two masks are independent (a rank-1 shift, as Cranley and Patterson 1976 randomise lattices): what a row's
samples say is distributed as under fresh masks, at the price of drawing `T + N` numbers instead of `T N`.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int32
from torch import Tensor

from dampen.engine.capture import Kind
from dampen.engine.knobs import WithoutGradient
from dampen.engine.knobs.noise.dropout import alpha_scale_and_shift
from dampen.uncertainty._sites import RandomPlace, Sampling

LEVELS = 1 << 32  # of a uniform number
_BLOCK, _BLOCK_NUMBERS = 64, 1 << 18  # rows that share a generator, and numbers that it draws at most for several rows
_SAMPLE, _ROW = 0, 1  # streams that must not coincide
_ALPHA = -1.7580993408473766  # what SELU tends to for large negative inputs


class Numbers:
    """Draws the numbers behind the masks of one network.

    Args:
        places: where it drops units.
        seed: of all masks.
        member: which network of an ensemble.
        device: where they are needed; they are drawn on the CPU, so that every device sees the same.
        keep: how many samples' numbers to keep, so that they are not drawn again for other rows.
    """

    def __init__(
        self,
        places: Sequence[RandomPlace],
        seed: int,
        member: int,
        device: torch.device,
        keep: int = 0,
    ):
        self.places, self._key, self._device = places, (seed, member), device
        self._kept = self._drawn(0, keep) if keep else []
        self._keep = keep

    def of_samples(self, first: int, last: int) -> list[Int32[Tensor, "T ..."]]:
        """Return the numbers of samples `first` to `last - 1`, for each place `[T, ...]`."""
        if last <= self._keep:
            return [numbers[first:last] for numbers in self._kept]
        return self._drawn(first, last)

    def _drawn(self, first: int, last: int) -> list[Tensor]:
        numbers = []
        for i, place in enumerate(self.places):
            n = math.prod(place.row)
            drawn = np.stack([_numbers(n, *self._key, i, _SAMPLE, t) for t in range(first, last)])
            numbers.append(torch.from_numpy(drawn).view(last - first, *place.row).to(self._device))
        return numbers

    def of_rows(self, first: int, last: int) -> list[Int32[Tensor, "B ..."]]:
        """Return the numbers of rows `first` to `last - 1`, for each place `[B, ...]`; `[0]` where rows share one."""
        masks = []
        for i, place in enumerate(self.places):
            if place.dim is None:
                masks.append(torch.empty(0, dtype=torch.int32, device=self._device))
                continue
            n = math.prod(place.row)
            size = max(1, min(_BLOCK, 1 << int(math.log2(max(1, _BLOCK_NUMBERS // max(1, n))))))
            blocks = range(first // size, -(-last // size))
            drawn = np.concatenate([_numbers(n * size, *self._key, i, _ROW, block) for block in blocks])
            start = first - blocks.start * size
            rows = drawn.reshape(len(blocks) * size, n)[start : start + last - first]
            masks.append(torch.from_numpy(np.ascontiguousarray(rows)).view(last - first, *place.row).to(self._device))
        return masks


def _numbers(n: int, *key: int) -> np.ndarray:
    bits = np.random.SFC64(np.random.SeedSequence(key))
    return bits.random_raw(-(-n // 2)).view(np.int32)[:n]


@cache
def threshold(p: float) -> int:
    """Return the smallest number, -2^31 to 2^31 - 1, that keeps a unit; 2^31 where nothing is kept."""
    return round(p * LEVELS) - LEVELS // 2


def uniforms(place: RandomPlace, a: Tensor, b: Tensor) -> Int32[Tensor, "..."]:
    """Return the numbers that decide, of the mask's own shape; `a` may have dimensions before those of a row."""
    if place.dim is None:
        return a
    before = a.ndim - len(place.row)
    d = place.dim
    return (a.unsqueeze(before + d) + b.movedim(0, d)).flatten(before + d, before + d + 1)


def keeps(place: RandomPlace, a: Tensor, b: Tensor) -> Bool[Tensor, "..."]:
    """Return whether a unit is kept, of the mask's own shape."""
    u, least = uniforms(place, a, b), threshold(place.p)
    return torch.ones_like(u, dtype=torch.bool) if least <= -LEVELS // 2 else u > least - 1


class Masked(Sampling):
    """Drops units by given numbers, at the rates that the network has.

    Args:
        places: where it drops units.
        a: numbers of one sample, for each place.
        b: numbers of the batch's rows, for each place.
        in_place: whether a dropout called with `inplace=True` changes its input.
    """

    def __init__(self, places: Sequence[RandomPlace], a: Sequence[Tensor], b: Sequence[Tensor], in_place: bool):
        super().__init__()
        self._places, self._a, self._b = places, a, b
        self.in_place = in_place

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function that drops nothing."""
        if func is F.linear and not kwargs and not self.in_place:
            return _Linear.apply(*args, *[None] * (3 - len(args)))
        return super().other(func, args, kwargs)

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop units of `h`."""
        place = self._places[number]
        if place.p == 0:
            return h.clone()
        return Drop.apply(h, self._a[number], self._b[number], place)

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Run the layers of a recurrent network one by one, with our dropout between them."""
        x, state = args[0], args[place_of_p - 4]
        weights, biases, layers = args[place_of_p - 3], args[place_of_p - 2], args[place_of_p - 1]
        bidirectional, batch_first = args[place_of_p + 2], args[place_of_p + 3]
        each = isinstance(state, Tensor)
        states = [state] if each else list(state)
        directions, per_layer, ends = 1 + bidirectional, len(weights) // layers, []
        place = self._places[number] if layers > 1 else None
        keep: Any = None  # [rows, gaps, steps, outputs]
        if place is not None:
            keep = keeps(place, self._a[number], self._b[number]).to(x.dtype)
        for layer in range(layers):
            layer_states = [s[layer * directions : (layer + 1) * directions] for s in states]
            part = weights[layer * per_layer : (layer + 1) * per_layer]
            x, *end = func(
                x,
                layer_states[0] if each else layer_states,
                part,
                biases,
                1,
                0.0,
                False,
                bidirectional,
                batch_first,
                **kwargs,
            )
            ends.append(end)
            if keep is not None and place is not None and layer < layers - 1:
                mask = keep[:, layer]
                x = x * (mask if batch_first else mask.transpose(0, 1)) * _scale(place.p)
        return x, *(torch.cat([end[i] for end in ends]) for i in range(len(states)))


class Drop(torch.autograd.Function):
    """Drops units of `h` for one sample; under `vmap`, for many at once."""

    @staticmethod
    def forward(h: Tensor, a: Tensor, b: Tensor, place: RandomPlace) -> Tensor:
        return _dropped(h, a, b, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        h, a, b, place = inputs
        if in_dims[0] is not None:
            h = h.movedim(in_dims[0], 0)
        elif place.kind == "unit":  # before the first dropout: scaled once for all samples
            return _dropped(h * _scale(place.p), a.movedim(in_dims[1], 0), b, place, scaled=True), 0
        return _dropped(h, a.movedim(in_dims[1], 0), b, place), 0


def _dropped(h: Tensor, a: Tensor, b: Tensor, place: RandomPlace, scaled: bool = False) -> Tensor:
    """Return `h` with units dropped; `h` may lack the samples that `a` has in front, and be scaled already."""
    scale = 1.0 if scaled else _scale(place.p)
    least, fast = threshold(place.p), place.kind == "unit" and h.dtype == torch.float32
    if fast and least > -LEVELS // 2 and (u := uniforms(place, a, b)).shape[-h.ndim :] == h.shape[-u.ndim :]:
        # One pass, vectorised: what relu's gradient does, on the numbers' bits.
        kept = torch.ops.aten.threshold_backward(h.view(torch.int32), u, least - 1).view(torch.float32)
        return kept.mul_(scale) if scale != 1 else kept
    keep = keeps(place, a, b).to(h.dtype)
    if place.kind == "unit":
        return h * keep * scale
    factor, shift = (float(t) for t in alpha_scale_and_shift(torch.tensor(place.p, dtype=torch.float64)))
    return factor * (h * keep + _ALPHA * (1 - keep)) + shift


def _scale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 1.0


class _Linear(WithoutGradient):
    """`F.linear`; for many samples at once one product with the bias in it, where torch's own rule adds it after."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        x, weight, bias = inputs
        if in_dims[1] is not None or in_dims[2] is not None:  # dropped weights
            return torch.vmap(F.linear, in_dims=tuple(in_dims))(x, weight, bias), 0
        return _Linear.apply(x.movedim(in_dims[0], 0), weight, bias), 0
