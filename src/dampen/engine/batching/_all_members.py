"""The tensor of all members behind the one that a network sees under `vmap`."""

import torch
from torch import Tensor

_functorch = torch._C._functorch


def of_all_members(t: Tensor) -> Tensor:
    """Return the tensor that holds every member's values."""
    while _functorch.is_batchedtensor(t):
        t = _functorch.get_unwrapped(t)
    return t


def memory(t: Tensor) -> int:
    """Return what tells one tensor's memory from another's while both live; views of a tensor share its own."""
    return of_all_members(t).untyped_storage()._cdata
