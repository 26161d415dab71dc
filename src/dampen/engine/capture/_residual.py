"""Where a forward pass adds a residual branch to its skip connection: found by what each tensor was computed from.

Nothing marks which additions of a network are residual. Here an addition of two tensors of one shape is, if

- one of them, the branch, was computed from the other, the skip, through a product with weights (a linear layer, a
  convolution, attention); or
- both were computed from a tensor of as many dimensions that the module was given in whose own forward pass they are
  added, the skip through one product (a projection, where shapes differ) and the branch through more.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

_PRODUCTS = {
    *("linear", "bilinear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
}
_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


class Lineage:
    """Records for each tensor of a forward pass what it was computed from, and through how many products.

    It holds every tensor that it has seen: for one pass on a small batch.
    """

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}
        self._from: dict[int, dict[int, int]] = {}  # by tensor: its ancestors, and the most products on a way from them

    def note(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note that a call gave a result."""
        of = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        more = getattr(function, "__name__", "") in _PRODUCTS
        depths: dict[int, int] = {}
        for t in of:
            self._held[id(t)] = t
            for ancestor, products in (*self._from.get(id(t), {}).items(), (id(t), 0)):
                depths[ancestor] = max(depths.get(ancestor, 0), products + more)
        for t in tree_leaves(result):
            if isinstance(t, Tensor):
                self._held[id(t)] = t
                ancestors = self._from.setdefault(
                    id(t), {}
                )  # known before: changed in place, or by a call inside this one
                ancestors |= {a: max(n, ancestors.get(a, 0)) for a, n in depths.items() if a != id(t)}

    def branch(self, left: Tensor, right: Tensor, given: Iterable[Any]) -> int | None:
        """Return which of two tensors that are added is a residual branch, 0 or 1; None if neither is.

        Args:
            left: one of them.
            right: the other.
            given: what the module was called with in whose forward pass they are added.
        """
        for place, (branch, skip) in enumerate(((left, right), (right, left))):
            if self._products(branch, skip) > 0:
                return place
        for source in given:
            if isinstance(source, Tensor) and source.ndim == left.ndim:
                ways = self._products(left, source), self._products(right, source)
                if 1 in ways and min(ways) == 1 < max(ways):
                    return ways.index(max(ways))
        return None

    def _products(self, t: Tensor, ancestor: Tensor) -> int:
        """Return the most products on a way from an ancestor to a tensor; -1 if it is none."""
        return self._from.get(id(t), {}).get(id(ancestor), -1)


def addends(function: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor] | None:
    """Return the two tensors of one shape that a call adds, if it does that."""
    if getattr(function, "__name__", "") not in _ADDITIONS or not args or "out" in kwargs:
        return None
    left, right = args[0], args[1] if len(args) > 1 else kwargs.get("other")
    both = isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape
    return (left, right) if both else None
