"""Random numbers that a network draws itself, by `torch.rand`, `x.bernoulli_(p)` and the like, of a known shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

DrawKind = Literal["uniform", "normal"]


@dataclass(frozen=True)
class Draw:
    """One place of a forward pass that draws random numbers.

    Args:
        module: path of the innermost module that calls it.
        kind: of the numbers: uniform in [0, 1), or standard normal.
        shape: of them, for one member.
    """

    module: str
    kind: DrawKind
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DrawCall:
    """A call that draws.

    Args:
        kind: of the numbers that it needs.
        shape: of them.
        result: makes its result of them.
        target: the tensor that it changes in place, if it does.
        call: function, arguments and named arguments.
    """

    kind: DrawKind
    shape: tuple[int, ...]
    result: Callable[[Tensor], Tensor]
    target: Tensor | None
    call: tuple[Any, Any, Any]

    def fits(self, numbers: Sequence[Tensor], at: int) -> bool:
        """Return whether there are numbers for this call, the one at that place."""
        return at < len(numbers) and tuple(numbers[at].shape) == self.shape


def draw_of(func: Any, args: Any, kwargs: Any) -> DrawCall | None:
    """Return what a call draws; None for one that draws nothing, or from a generator of its own, or into `out`."""
    read = DRAWS.get(func)
    if read is None or kwargs.get("generator") is not None or kwargs.get("out") is not None:
        return None
    kind, shape, result, target = read(*args, **kwargs)
    return DrawCall(kind, tuple(shape), result, target, (func, args, kwargs))


_Read = tuple[DrawKind, Sequence[int], Callable[[Tensor], Tensor], Tensor | None]


def _made(kind: DrawKind, *size: Any, **kwargs: Any) -> _Read:
    shape = kwargs["size"] if "size" in kwargs else size[0] if size and not isinstance(size[0], int) else size
    return kind, shape, partial(_as, **_options(kwargs)), None


def _like(kind: DrawKind, input: Tensor, **kwargs: Any) -> _Read:
    options = _options({"dtype": kwargs.get("dtype") or input.dtype} | kwargs)
    return kind, input.shape, partial(_as, **options), None


def _options(kwargs: dict[str, Any]) -> dict[str, Any]:
    options = {name: kwargs[name] for name in ("dtype", "device", "requires_grad") if kwargs.get(name) is not None}
    return {"dtype": torch.get_default_dtype()} | options


def _as(numbers: Tensor, dtype: torch.dtype, device: Any = None, requires_grad: bool = False) -> Tensor:
    numbers = numbers.to(device=device, dtype=dtype)
    return numbers.requires_grad_() if requires_grad else numbers


def _coins(input: Tensor, p: float | None = None, **_: Any) -> _Read:
    """`torch.bernoulli(probabilities)`, or with one probability for all."""
    probability = input if p is None else p
    return "uniform", input.shape, lambda numbers: (numbers < probability).to(input.dtype), None


def _coins_(input: Tensor, p: Any = 0.5, **_: Any) -> _Read:
    return "uniform", input.shape, lambda numbers: (numbers < p).to(input.dtype), input


def _uniform_(input: Tensor, *ends: float, **named: Any) -> _Read:
    low, high = (*ends, *(named.get("from", 0.0), named.get("to", 1.0))[len(ends) :])
    return "uniform", input.shape, lambda numbers: numbers.to(input.dtype) * (high - low) + low, input


def _normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> _Read:
    return "normal", input.shape, lambda numbers: numbers.to(input.dtype) * std + mean, input


def _exponential_(input: Tensor, lambd: float = 1.0, **_: Any) -> _Read:
    return "uniform", input.shape, lambda numbers: -torch.log1p(-numbers.to(input.dtype)) / lambd, input


DRAWS: dict[Any, Callable[..., _Read]] = {
    torch.rand: partial(_made, "uniform"),
    torch.randn: partial(_made, "normal"),
    torch.rand_like: partial(_like, "uniform"),
    torch.randn_like: partial(_like, "normal"),
    torch.bernoulli: _coins,
    Tensor.bernoulli: _coins,
    Tensor.bernoulli_: _coins_,
    Tensor.uniform_: _uniform_,
    Tensor.normal_: _normal_,
    Tensor.exponential_: _exponential_,
}
