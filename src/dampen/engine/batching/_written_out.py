"""Functions without a batching rule, written out by functions that have one."""

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


WRITTEN_OUT: dict[Any, Callable[..., Any]] = {torch.column_stack: column_stack, F.one_hot: one_hot}
