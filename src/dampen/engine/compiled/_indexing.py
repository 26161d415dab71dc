"""C for what is read or written at places that tensors of numbers tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dampen.engine.compiled._kernel import refuse
from dampen.engine.compiled._loops import Access, View, nest, pointer, within


@dataclass(frozen=True)
class _Places:
    """Elements of a tensor that are chosen by numbers along some of its dimensions.

    Args:
        shape: of what is chosen.
        rest: strides, in the tensor, of those dimensions of the shape that are its own; 0 for the others.
        along: for each dimension with numbers: their view, its strides in the shape, size and stride of the dimension.
        from_end: whether numbers below 0 count from the end, as in `x[...]`; if not, they are outside.
    """

    shape: tuple[int, ...]
    rest: tuple[int, ...]
    along: Sequence[tuple[View, tuple[int, ...], int, int]]
    from_end: bool = True

    def accesses(self) -> list[Access]:
        """Return where the numbers are read."""
        return [Access(pointer(view), strides) for view, strides, _, _ in self.along]

    def checks(self) -> list[str]:
        """Return C that leaves the step where a number is outside of its dimension."""
        return [line for view, _, size, _ in self.along for line in within(view, size, -size * self.from_end)]

    def at(self, tensor: View, at: Sequence[str]) -> tuple[list[str], str]:
        """Return lines that find an element, and where it is; a number below 0 counts from the end."""
        lines, terms = [], [Access("", self.rest).index(at)]
        for k, (access, (_, _, size, stride)) in enumerate(zip(self.accesses(), self.along, strict=True)):
            lines.append(f"const int64_t n{k} = {access.at(at)};")
            terms.append(f"(n{k} < 0 ? n{k} + {size} : n{k}) * {stride}")
        return lines, f"{pointer(tensor)}[{' + '.join(terms)}]"


def _places(tensor: View, indices: Sequence[Any], of: Callable[[Any], View]) -> _Places:
    """Read the indices of `tensor[...]`; dimensions of numbers come first where they do not stand side by side."""
    numbers = {d: of(i) for d, i in enumerate(indices) if i is not None}
    refuse(any(view.dtype not in (torch.int64, torch.int32) for view in numbers.values()), "a mask as an index")
    chosen = torch.broadcast_shapes(*(view.shape for view in numbers.values()))
    own = [d for d in range(len(tensor.shape)) if d not in numbers]
    where = sorted(numbers)
    before = where[0] if where == list(range(where[0], where[-1] + 1)) else 0
    shape = (*(tensor.shape[d] for d in own[:before]), *chosen, *(tensor.shape[d] for d in own[before:]))
    rest = (*(tensor.strides[d] for d in own[:before]), *[0] * len(chosen), *(tensor.strides[d] for d in own[before:]))
    after = len(own) - before
    along = [
        (view, (*[0] * before, *view.strides_in(chosen), *[0] * after), tensor.shape[d], tensor.strides[d])
        for d, view in numbers.items()
    ]
    return _Places(shape, rest, along)


def _copied(x: View, out: View) -> list[str]:
    """Return C that begins with what a tensor held, where another is made of it."""
    if x == out:
        return []
    target, source = Access(pointer(out), out.strides), Access(pointer(x), x.strides)
    return nest(out.shape, [target, source], lambda at: [f"{target.at(at)} = {source.at(at)};"])


def _read(x: View, places: _Places, out: View) -> list[str]:
    """Return C that puts into `out` the elements of `x` at the places."""
    target = Access(pointer(out), out.strides)

    def body(at: list[str]) -> list[str]:
        lines, source = places.at(x, at)
        return [*lines, f"{target.at(at)} = {source};"]

    return [*places.checks(), *nest(out.shape, [target, Access("", places.rest), *places.accesses()], body)]


def _write(x: View, places: _Places, values: View, out: View, put: Callable[[str, str], str]) -> list[str]:
    """Return C that changes `out`, a copy of `x`, at the places, one after the other: several may be the same.

    Args:
        x: what `out` begins with.
        places: in `out`.
        values: one for each place, or to be broadcast.
        out: what is written.
        put: the assignment of a value to an element, given the two.
    """
    source = Access(pointer(values), values.strides_in(places.shape))

    def body(at: list[str]) -> list[str]:
        lines, target = places.at(out, at)
        return [*lines, put(target, source.at(at))]

    accesses = [source, Access("", places.rest), *places.accesses()]
    return [*_copied(x, out), *places.checks(), *nest(places.shape, accesses, body, ivdep=False)]


def index(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out,) = of(node.args[0]), made
    assert out is not None
    places = _places(x, node.args[1], of)
    refuse(places.shape != out.shape, "shape of what is chosen")
    return _read(x, places, out)


def index_put(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, values, (out,) = of(node.args[0]), of(node.args[2]), made
    assert out is not None
    sign = "+=" if len(node.args) > 3 and node.args[3] else "="
    return _write(x, _places(out, node.args[1], of), values, out, lambda to, value: f"{to} {sign} {value};")


def index_add(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, numbers, values, (out,) = of(node.args[0]), of(node.args[2]), of(node.args[3]), made
    assert out is not None
    alpha = f"({out.c_type}){node.kwargs.get('alpha', 1)!r}"
    d = node.args[1] % max(1, len(out.shape))
    along = tuple(numbers.strides[0] if i == d and numbers.shape else 0 for i in range(len(out.shape)))
    places = _along(d, numbers, along, values.shape, out)
    return _write(x, places, values, out, lambda to, value: f"{to} += {alpha} * {value};")


def gather(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, numbers, (out,) = of(node.args[0]), of(node.args[2]), made
    assert out is not None
    return _read(x, _along(node.args[1], numbers, numbers.strides, numbers.shape, x), out)


def scatter_add(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, numbers, values, (out,) = of(node.args[0]), of(node.args[2]), of(node.args[3]), made
    assert out is not None
    places = _along(node.args[1], numbers, numbers.strides, numbers.shape, out)
    return _write(x, places, values, out, lambda to, value: f"{to} += {value};")


def _along(d: int, numbers: View, strides: tuple[int, ...], shape: tuple[int, ...], tensor: View) -> _Places:
    """Return places that numbers tell in one dimension of a tensor; the others are their own."""
    refuse(numbers.dtype not in (torch.int64, torch.int32) or not tensor.shape, "an index")
    d %= len(tensor.shape)
    rest = tuple(0 if i == d else stride for i, stride in enumerate(tensor.strides))
    return _Places(shape, rest, [(numbers, strides, tensor.shape[d], tensor.strides[d])], from_end=False)
