"""What knobs on batches share: numbers of members as tensors, and a function of one member run for all."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.func import vmap

from dampen.errors import InputError


def of_members(values: Sequence[int | float], device: torch.device) -> Float64[Tensor, "1 M"]:
    """Return the settings' numbers, `[1, M]`; `[1, 1]` where all are the same, so that settings share what follows."""
    alike = values[:1] if len(set(values)) == 1 else values
    return torch.tensor([list(alike)], dtype=torch.float64, device=device)


def for_each_member(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Run a function of one member's tensors for all: `[S or 1, M or 1, ...]` each in, `[S, M or 1, ...]` out."""
    S, M = (max(t.shape[axis] for t in tensors) for axis in (0, 1))
    inner = [0 if M > 1 and t.shape[1] == M else None for t in tensors]
    outer = [0 if S > 1 and len(t) == S else None for t in tensors]
    given = [t if i == 0 else t.squeeze(1) for t, i in zip(tensors, inner, strict=True)]
    given = [t if o == 0 else t.squeeze(0) for t, o in zip(given, outer, strict=True)]
    over_settings = function if M == 1 else vmap(function, in_dims=tuple(inner))
    result = (over_settings if S == 1 else vmap(over_settings, in_dims=tuple(outer)))(*given)
    result = result.unsqueeze(0) if S == 1 else result
    return result.unsqueeze(1) if M == 1 else result


def numbers(inputs: Sequence[Tensor], knob: str) -> list[int]:
    """Return which of a network's inputs are real numbers.

    Raises:
        InputError: none is.
    """
    indices = [i for i, t in enumerate(inputs) if t.is_floating_point()]
    if not indices:
        raise InputError(f"{knob} changes inputs that are real numbers: this network takes whole numbers only")
    return indices


def images(inputs: Sequence[Tensor], knob: str, axes: int) -> list[int]:
    """Return which of a network's inputs are images: rows of shape `[H, W]` or `[C, H, W]` after so many other axes.

    Raises:
        InputError: none is.
    """
    indices = [i for i, t in enumerate(inputs) if t.ndim - axes in (2, 3)]
    if not indices:
        shapes = " and ".join(str(list(t.shape[axes:])) for t in inputs)
        raise InputError(f"{knob} moves the pixels of images, rows of shape [H, W] or [C, H, W]: these are {shapes}")
    return indices


def changed(inputs: Sequence[Tensor], which: Sequence[int], function: Callable[[Tensor, int], Any]) -> list[Tensor]:
    """Return inputs of which some are changed, by a function of each and of its place among those."""
    changed_inputs = list(inputs)
    for place, i in enumerate(which):
        changed_inputs[i] = function(changed_inputs[i], place)
    return changed_inputs
