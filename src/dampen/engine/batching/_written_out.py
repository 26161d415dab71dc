"""Functions without a batching rule, or with one that is wrong, written out by functions that have one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.engine.batching._all_members import of_all_members
from dampen.engine.capture import value_of


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Join vectors, as columns, and matrices side by side."""
    return torch.cat([t if t.ndim > 1 else t.reshape(-1, 1) for t in tensors], 1)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Encode classes; numbers outside their range fail as they do by `F.one_hot`, which reads them."""
    if num_classes == -1:
        raise RuntimeError("F.one_hot finds the number of classes by .item(): name it, num_classes=...")
    if value_of(of_all_members(((tensor < 0) | (tensor >= num_classes)).any())):
        raise RuntimeError("one_hot: class values must be 0 or larger and smaller than num_classes")
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look rows up; the one that pads has no gradient.

    torch's own rule lays the members' tables below each other, and spares that row of the first one alone.
    """
    found = F.embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq, sparse)
    if padding_idx is None:
        return found
    pads = input == (padding_idx if padding_idx >= 0 else len(weight) + padding_idx)
    return torch.where(pads.unsqueeze(-1), found.detach(), found)


WRITTEN_OUT: dict[Any, Callable[..., Any]] = {
    torch.column_stack: column_stack,
    F.one_hot: one_hot,
    F.embedding: embedding,
}
