"""Copies of a user's network, also of one that has run already."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_CONTAINERS = (list, tuple, set, frozenset)


def copied(network: nn.Module, *, shared: bool = False) -> nn.Module:
    """Return a deep copy of a network.

    What modules keep of a forward pass, such as the weight that weight normalisation made of its parts, is no leaf of
    autograd's graph and has no deep copy of torch's: the copy has its values, cut off from the graph. Hooks on
    parameters' gradients come along.

    Args:
        network: any.
        shared: let the copy have the network's own parameters.
    """
    memo: dict[int, Any] = {id(p): p for p in network.parameters()} if shared else {}
    for t in _kept(network):
        if not t.is_leaf:
            memo[id(t)] = _cut_off(t)
    twin = copy.deepcopy(network, memo)
    if not shared:
        for p, of_copy in zip(network.parameters(), twin.parameters(), strict=True):
            for hook in hooks_of(p)[0]:
                of_copy.register_hook(hook)
            for hook in hooks_of(p)[1]:
                of_copy.register_post_accumulate_grad_hook(hook)
    return twin


def hooks_of(p: Tensor) -> tuple[list[Any], list[Any]]:
    """Return the hooks on a parameter's gradient, those that run before it is accumulated and those after."""
    return list((p._backward_hooks or {}).values()), list(
        (getattr(p, "_post_accumulate_grad_hooks", None) or {}).values()
    )


def attributes(network: nn.Module) -> dict[tuple[str, str], Any]:
    """Return what modules hold as plain attributes, apart from tensors of their own, by module and name.

    Values that are equal have not changed between two calls; containers stand for what they hold.
    """
    return {
        (path, name): _frozen(value)
        for path, module in network.named_modules()
        for name, value in vars(module).items()
        if name not in _OF_MODULES and not name.startswith("_") and not isinstance(value, nn.Module | type)
    }


def _frozen(value: Any, depth: int = 0) -> Any:
    """Return what an attribute holds as something that `==` compares; the values stay alive, so that ids do."""
    if isinstance(value, Tensor):
        return _Same(value, value._version)
    if isinstance(value, int | float | str | None):
        return value
    if depth < _DEPTH and isinstance(value, dict):
        return [(key, _frozen(item, depth + 1)) for key, item in value.items()]
    if depth < _DEPTH and (isinstance(value, _CONTAINERS) or type(value).__name__ == "deque"):
        return [_frozen(item, depth + 1) for item in value]
    return _Same(value)


class _Same:
    """Equal to the same object at the same version alone."""

    def __init__(self, value: Any, version: int = 0):
        self._value, self._version = value, version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value and other._version == self._version

    __hash__ = object.__hash__


def _cut_off(t: Tensor) -> Tensor | None:
    try:
        return t.detach().clone()
    except RuntimeError:  # left by a pass under vmap: it holds no values any more
        return None


def _kept(network: nn.Module) -> Iterator[Tensor]:
    """Give the tensors that modules hold as plain attributes, or in containers there."""
    seen: set[int] = set()
    waiting: list[Any] = [
        value for module in network.modules() for name, value in vars(module).items() if name not in _OF_MODULES
    ]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, _CONTAINERS):
            waiting += value
        elif (
            not isinstance(value, nn.Module | type)
            and type(value).__module__ not in _PLAIN
            and hasattr(value, "__dict__")
        ):
            waiting += vars(value).values()


_OF_MODULES = {"_parameters", "_modules", "training"}
_DEPTH = 3  # of containers that are looked into
_PLAIN = {"builtins", "torch", "numpy", "types", "functools"}
