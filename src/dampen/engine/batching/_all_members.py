"""The tensor of all members behind the one that a network sees under `vmap`."""

from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor


def of_all_members(t: Tensor) -> Tensor:
    """Return the tensor that holds every member's values."""
    while is_batchedtensor(t):
        t = get_unwrapped(t)
    return t


def memory(t: Tensor) -> int:
    """Return what tells one tensor's memory from another's while both live; views of a tensor share its own."""
    return of_all_members(t).untyped_storage()._cdata
