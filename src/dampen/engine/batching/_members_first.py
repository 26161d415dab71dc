"""Bring the axis that `vmap` batches over to the front."""

from torch import Tensor


def members_first(t: Tensor, dim: int | None, size: int) -> Tensor:
    """Return a tensor with its batched axis first; one that all members share is expanded."""
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
