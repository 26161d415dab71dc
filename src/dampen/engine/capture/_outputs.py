"""What a network returns: whether it is a tensor with a row for each row, and whether its rows are probabilities."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_ROUNDING = 1e-2  # of a sum of probabilities, in bfloat16


def describe_output(output: Any) -> str:
    """Describe an output that is not a tensor with a row for each row, and how to return such a tensor."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {list(output.shape)}"
    name = type(output).__name__
    if isinstance(output, Mapping):
        part = f"one of its entries ({', '.join(map(str, list(output)[:4]))})"
    elif isinstance(output, tuple | list):
        part = "one of its parts"
    else:
        part = "its .logits" if hasattr(output, "logits") else "the tensor in it"
    return f"{name}: wrap it in a nn.Module whose forward returns {part}"


def are_probabilities(outputs: Tensor, dim: int = 1) -> bool:
    """Return whether outputs `[N, C, ...]` are what a softmax gives: 0 or larger, with a sum of 1 along `dim`."""
    if outputs.ndim <= dim or outputs.shape[dim] < 2 or not outputs.is_floating_point():
        return False
    sums = outputs.double().sum(dim)
    return bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=_ROUNDING)
