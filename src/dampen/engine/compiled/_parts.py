"""C for parts of tensors: joined, cut out, chosen by numbers, and their gradients."""

from collections.abc import Callable
from typing import Any

from dampen.engine.compiled._kernel import Code, refuse
from dampen.engine.compiled._loops import Access, View, contiguous, nest, pointer, within, zeroed


def cat(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    parts, (out,) = [of(a) for a in node.args[0]], made
    assert out is not None
    d = (node.args[1] if len(node.args) > 1 else 0) % len(out.shape)
    lines, start = [], 0
    for part in parts:
        target = Access(f"({pointer(out)} + {start * out.strides[d]})", out.strides)
        source = Access(pointer(part), part.strides)

        def body(at: list[str], target: Access = target, source: Access = source) -> list[str]:
            return [f"{target.at(at)} = {source.at(at)};"]

        lines += nest(part.shape, [target, source], body)
        start += part.shape[d]
    return lines


def stack(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    parts, (out,) = [of(a) for a in node.args[0]], made
    assert out is not None
    d = (node.args[1] if len(node.args) > 1 else 0) % len(out.shape)
    rest, lines = (*out.strides[:d], *out.strides[d + 1 :]), []
    for i, part in enumerate(parts):
        target, source = Access(f"({pointer(out)} + {i * out.strides[d]})", rest), Access(pointer(part), part.strides)

        def body(at: list[str], target: Access = target, source: Access = source) -> list[str]:
            return [f"{target.at(at)} = {source.at(at)};"]

        lines += nest(part.shape, [target, source], body)
    return lines


def flip(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out,) = of(node.args[0]), made
    assert out is not None
    turned = {d % len(x.shape) for d in node.args[1]} if x.shape else set()
    last = sum((x.shape[d] - 1) * x.strides[d] for d in turned)
    strides = tuple(-s if d in turned else s for d, s in enumerate(x.strides))
    target, source = Access(pointer(out), out.strides), Access(f"({pointer(x)} + {last})", strides)
    return nest(out.shape, [target, source], lambda at: [f"{target.at(at)} = {source.at(at)};"])


def into_zeros(place: Callable[[Any], tuple[int, int, int]]) -> Code:
    """Return what writes the gradient of a part: zeros, and in them a gradient from a place on with a step."""

    def code(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        x, (out,) = of(node.args[0]), made
        assert out is not None
        refuse(list(out.strides) != list(contiguous(out.shape)), "a layout")
        d, start, step = place(node)
        shape, strides = out.shape, list(out.strides)
        if len(x.shape) < len(shape):  # the part lacks the dimension
            shape, strides = (*shape[:d], *shape[d + 1 :]), [*strides[:d], *strides[d + 1 :]]
            offset = start * out.strides[d]
        else:
            offset, strides[d] = start * strides[d], strides[d] * step
        target, source = Access(f"({pointer(out)} + {offset})", tuple(strides)), Access(pointer(x), x.strides)
        zeros = zeroed(out)
        return [zeros, *nest(x.shape, [target, source], lambda at: [f"{target.at(at)} = {source.at(at)};"])]

    return code


def slice_place(node: Any) -> tuple[int, int, int]:
    _, sizes, d, start, _, step = node.args
    n = sizes[d]
    return d % len(sizes), min(start + n if start < 0 else start, n), step


def select_place(node: Any) -> tuple[int, int, int]:
    _, sizes, d, index = node.args
    return d % len(sizes), index % sizes[d], 1


def index_select(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, index, (out,) = of(node.args[0]), of(node.args[2]), made
    assert out is not None
    d = node.args[1] % len(out.shape)
    rest = tuple(0 if i == d else s for i, s in enumerate(x.strides))
    along = tuple(index.strides[0] if i == d else 0 for i in range(len(out.shape)))
    target, source, which = Access(pointer(out), out.strides), Access(pointer(x), rest), Access(pointer(index), along)

    def body(at: list[str]) -> list[str]:
        return [f"{target.at(at)} = {pointer(x)}[{source.index(at)} + {which.at(at)} * {x.strides[d]}];"]

    return [*within(index, x.shape[d]), *nest(out.shape, [target, source, which], body)]


def embedding(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    table, index, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    source, which = (
        Access(pointer(table), (*[0] * len(index.shape), table.strides[1])),
        Access(pointer(index), (*index.strides, 0)),
    )
    target = Access(pointer(out), out.strides)

    def body(at: list[str]) -> list[str]:
        return [f"{target.at(at)} = {pointer(table)}[{source.index(at)} + {which.at(at)} * {table.strides[0]}];"]

    return [*within(index, table.shape[0]), *nest(out.shape, [target, source, which], body)]


def embedding_backward(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, index, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    refuse(bool(node.args[4]) or list(out.strides) != list(contiguous(out.shape)), "scaled gradients")
    which = Access(pointer(index), index.strides)
    source = Access(pointer(gradient), gradient.strides[:-1])
    n, step = out.shape[1], gradient.strides[-1]

    def body(at: list[str]) -> list[str]:
        row = f"{pointer(out)}[t * {n} + j] += {pointer(gradient)}[{source.index(at)} + j * {step}];"
        return [
            f"const int64_t t = {which.at(at)};",
            f"for (int64_t j = 0; t != {node.args[3]} && j < {n}; ++j) {row}",
        ]

    zeros = zeroed(out)
    return [zeros, *nest(index.shape, [which, source], body, ivdep=False)]


def triangle(keeps: str) -> Code:
    """Return what writes a matrix with zeros on one side of a diagonal; `keeps` compares column and row."""

    def code(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        x, (out,) = of(node.args[0]), made
        assert out is not None
        diagonal = node.args[1] if len(node.args) > 1 else 0
        target, source = Access(pointer(out), out.strides), Access(pointer(x), x.strides)

        def body(at: list[str]) -> list[str]:
            return [f"{target.at(at)} = {at[-1]} - {at[-2]} {keeps} {diagonal} ? {source.at(at)} : ({out.c_type})0;"]

        apart = Access("", (1,) * len(out.shape))  # no two dimensions become one loop: their indices are compared
        return nest(out.shape, [target, source, apart], body)

    return code


def arange(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    (out,) = made
    assert out is not None
    start, _, step = {1: (0, None, 1), 2: (*node.args, 1)}.get(len(node.args), node.args)
    return [f"for (int64_t i = 0; i < {out.shape[0]}; ++i) {pointer(out)}[i] = {start} + i * {step};"]
