"""What a call that changes a tensor in place makes of it, as a new tensor.

In place, a linear layer's output can't be changed under `vmap`, nor a tensor that all members share by one that each
member has of its own. The network then goes on with a new tensor wherever it names the changed one.
"""

import inspect
import operator
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dampen.engine.batching._all_members import memory

_OPERATORS = {"__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div", "__ipow__": "pow"}


class Replaced:
    """Tensors that a network has changed, and those that stand in their place."""

    def __init__(self) -> None:
        self._instead: dict[int, tuple[Tensor, Tensor]] = {}  # holds the former, so that an id is not used again
        self._memory: set[int] = set()

    def put(self, t: Tensor, result: Tensor) -> Tensor:
        """Let a tensor be another from now on."""
        self._instead[id(t)] = t, result
        self._memory.add(memory(t))
        return result

    def now(self, values: Any) -> Any:
        """Return arguments, or a result, as they are now.

        Raises:
            RuntimeError: one of them shows the memory of a changed tensor, whose change it would not show.
        """
        return tree_map(self._now, values) if self._instead else values

    def _now(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        while id(value) in self._instead:
            value = self._instead[id(value)][1]
        if memory(value) in self._memory:
            raise RuntimeError("a tensor that shares memory with this one was modified inplace")
        return value


def out_of_place(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Callable[[], Tensor]] | None:
    """Return the tensor that a call changes in place, and what returns what becomes of it; None for other calls."""
    name = getattr(func, "__name__", "")
    if not args or not isinstance(args[0], Tensor):
        return None
    target = args[0]
    if name == "__setitem__":
        return target, partial(_with_items, *args)
    place = _flag(func)
    if place is not None and (args[place] if len(args) > place else kwargs.get("inplace")):
        given = args[:place] + args[place + 1 :] if len(args) > place else args
        rest = {key: value for key, value in kwargs.items() if key != "inplace"}
        return target, partial(func, *given, **rest)
    other = _OPERATORS.get(name) or (name[:-1] if name.endswith("_") and not name.endswith("__") else None)
    function = getattr(Tensor, other or "", None) or getattr(F, other or "", None)
    if other in _WITHOUT_COUNTERPART:
        return target, partial(_changed_copy, func, target, args[1:], kwargs)
    return None if not callable(function) else (target, partial(_alike, function, target, args[1:], kwargs))


_WITHOUT_COUNTERPART = {"copy", "fill", "zero"}


@cache
def _flag(func: Any) -> int | None:
    """Return the place of a function's argument `inplace`, if it has one."""
    if getattr(func, "__module__", None) != F.__name__:
        return None
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names and names[-1] == "inplace" else None


def _alike(function: Any, target: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return what a function makes of a tensor, of its type."""
    result = function(target, *args, **kwargs)
    if result.shape != target.shape:
        raise RuntimeError(f"an operation inplace can't make {list(result.shape)} of {list(target.shape)}")
    return result.to(target.dtype)


def _with_items(target: Tensor, index: Any, value: Any) -> Tensor:
    return _changed_copy(operator.setitem, target, (index, value), {})


def _changed_copy(func: Any, target: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return a copy of a tensor, for each member for which an argument has values of its own, and change that."""
    copy = target.clone()
    for t in tree_leaves((args, kwargs)):
        if isinstance(t, Tensor):
            never = torch.zeros_like(t, dtype=torch.bool).any()
            copy = torch.where(never, copy, copy)
    func(copy, *args, **kwargs)
    return copy
