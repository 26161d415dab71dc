"""C for operations that are no elementwise ones: products, sums, softmax, losses, normalisation."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dampen.engine.compiled._loops import Access, View, contiguous, nest, pointer

_aten = torch.ops.aten

Code = Callable[[fx.Node, Callable[[Any], View], list[View | None]], list[str]]
"""Takes the operation, what gives the view of an argument, and the views of its results; returns lines of C."""


@dataclass(frozen=True)
class Kernel:
    """An operation with C of its own.

    Args:
        code: writes it; raises `NotImplementedError` for arguments that it does not know.
        several: whether it has several results.
    """

    code: Code
    several: bool = False

    @property
    def results_at_most(self) -> int:
        """How many results there can be."""
        return 3 if self.several else 1

    def results(self, node: fx.Node) -> dict[int, fx.Node]:
        """Return the nodes of its results that are used, by number."""
        if not self.several:
            return {0: node}
        return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise NotImplementedError(why)


def _matrix(view: View) -> tuple[int, int, int, int, int, int]:
    """Return batch, rows, columns of a view, and their strides."""
    shape, strides = ((1,) * (3 - len(view.shape)) + view.shape), ((0,) * (3 - len(view.shape)) + view.strides)
    return (*shape, *strides)  # type: ignore[return-value]


def _side(rows: int, columns: int, row: int, column: int) -> tuple[bool, int] | None:
    """Return whether the BLAS sees a matrix transposed, and its leading dimension; None where it can't be seen so."""
    if column == 1 or columns == 1:
        leading = row if rows > 1 else columns
        if leading >= columns:
            return False, max(1, leading)
    if row == 1 or rows == 1:
        leading = column if columns > 1 else rows
        if leading >= rows:
            return True, max(1, leading)
    return None


def _product(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    a, b, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    _refuse(not a.dtype == b.dtype == out.dtype or not a.dtype.is_floating_point, "types of a product")
    batch, n, k, a_batch, *a_strides = _matrix(a)
    _, _, m, b_batch, *b_strides = _matrix(b)
    *_, c_batch, c_row, c_column = _matrix(out)
    left, right, result = _side(n, k, *a_strides), _side(k, m, *b_strides), _side(n, m, c_row, c_column)
    lines = [f"for (int64_t b = 0; b < {batch}; ++b) {{"]
    pa, pb = f"{pointer(a)} + b * {a_batch}", f"{pointer(b)} + b * {b_batch}"
    pc = f"{pointer(out)} + b * {c_batch}"
    c = a.c_type
    if left is None or right is None or result is None:
        ra, ca, rb, cb = *a_strides, *b_strides
        lines += [
            f"    const {c} *A = {pa}, *B = {pb}; {c} *C = {pc};",
            f"    for (int64_t i = 0; i < {n}; ++i) for (int64_t j = 0; j < {m}; ++j) {{",
            f"        {c} sum = 0;",
            f"        for (int64_t l = 0; l < {k}; ++l) sum += A[i * {ra} + l * {ca}] * B[l * {rb} + j * {cb}];",
            f"        C[i * {c_row} + j * {c_column}] = sum;",
            "    }",
        ]
    elif not result[0]:
        sides = f"'{'NT'[left[0]]}', '{'NT'[right[0]]}', {n}, {m}, {k}"
        lines.append(f"    gemm_{c}({sides}, {pa}, {left[1]}, {pb}, {right[1]}, {pc}, {result[1]});")
    else:  # the transposed product
        sides = f"'{'TN'[right[0]]}', '{'TN'[left[0]]}', {m}, {n}, {k}"
        lines.append(f"    gemm_{c}({sides}, {pb}, {right[1]}, {pa}, {left[1]}, {pc}, {result[1]});")
    return [*lines, "}"]


def _dims(node: fx.Node, ndim: int) -> list[int]:
    dims = node.args[1] if len(node.args) > 1 else None
    if isinstance(dims, int):
        dims = [dims]
    dims = list(dims) if dims else list(range(ndim))  # type: ignore[arg-type]
    return [d % ndim for d in dims] if ndim else []  # type: ignore[operator]


def _reduction(start: str, join: str, end: Callable[[int, str], str] = lambda n, c: "") -> Code:
    """Return what writes a reduction: `join` takes `{acc}` and `{x}`."""

    def code(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        x, (out,) = of(node.args[0]), made
        assert out is not None
        dims = _dims(node, len(x.shape))
        kept = [d for d in range(len(x.shape)) if d not in dims]
        sizes = [n for n in out.shape if n != 1]
        _refuse([x.shape[d] for d in kept if x.shape[d] != 1] != sizes, "shape of a sum")
        own = iter([s for n, s in zip(out.shape, out.strides, strict=True) if n != 1])
        to = [next(own) if d in kept and x.shape[d] != 1 else 0 for d in range(len(x.shape))]
        c, n = out.c_type, math.prod(x.shape[d] for d in dims)
        order = [d for d in sorted(range(len(x.shape)), key=lambda d: -x.strides[d]) if x.shape[d] != 1]
        last = order[-1] if order else None
        initial = {"low": f"({c})-INFINITY" if out.dtype.is_floating_point else "INT64_MIN", "0": f"({c})0"}[start]
        px, po = pointer(x), pointer(out)
        total = math.prod(out.shape)
        _refuse([s for s in out.strides] != list(contiguous(out.shape)), "layout of a sum")
        lines = [f"for (int64_t i = 0; i < {total}; ++i) {po}[i] = {initial};"]
        indent = ""
        for d in order[:-1]:
            lines.append(f"{indent}for (int64_t i{d} = 0; i{d} < {x.shape[d]}; ++i{d}) {{")
            indent += "    "
        at_x = " + ".join([f"i{d} * {x.strides[d]}" for d in order if x.strides[d]]) or "0"
        if last is None:
            lines.append(f"{po}[0] = {join.format(acc=f'{po}[0]', x=f'({c}){px}[0]')};")
        else:
            loop = f"for (int64_t i{last} = 0; i{last} < {x.shape[last]}; ++i{last})"
            if last in kept:
                at_o = " + ".join(f"i{d} * {to[d]}" for d in order if to[d]) or "0"
                each = f"{po}[{at_o}] = {join.format(acc=f'{po}[{at_o}]', x=f'({c}){px}[{at_x}]')};"
                lines += [f'{indent}_Pragma("GCC ivdep")', f"{indent}{loop} {each}"]
            else:
                at_o = " + ".join(f"i{d} * {to[d]}" for d in order if to[d]) or "0"
                simd = '_Pragma("omp simd reduction(+:acc)")' if "+" in join else ""
                lines += [
                    f"{indent}{c} acc = {initial};",
                    f"{indent}{simd}",
                    f"{indent}{loop} acc = {join.format(acc='acc', x=f'({c}){px}[{at_x}]')};",
                    f"{indent}{po}[{at_o}] = {join.format(acc=f'{po}[{at_o}]', x='acc')};",
                ]
        for _ in order[:-1]:
            indent = indent[:-4]
            lines.append(indent + "}")
        finish = end(n, c)
        if finish:
            lines.append(f"for (int64_t i = 0; i < {total}; ++i) {po}[i] = {po}[i] {finish};")
        return ["{", *lines, "}"]

    return code


def _argmax(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out,) = of(node.args[0]), made
    assert out is not None
    _refuse(len(node.args) < 2 or node.args[1] is None, "argmax over everything")
    d = node.args[1] % len(x.shape)  # type: ignore[operator]
    others = [i for i in range(len(x.shape)) if i != d]
    shape = tuple(x.shape[i] for i in others)
    strides = [s for n, s in zip(out.shape, out.strides, strict=True) if n != 1]
    own = iter(strides)
    to = tuple(next(own) if n != 1 else 0 for n in shape)
    source = Access(pointer(x), tuple(x.strides[i] for i in others))
    target = Access(pointer(out), to)

    def body(at: list[str]) -> list[str]:
        base = source.index(at)
        return [
            "int64_t best = 0;",
            f"for (int64_t l = 1; l < {x.shape[d]}; ++l)",
            f"    if ({pointer(x)}[{base} + l * {x.strides[d]}] > {pointer(x)}[{base} + best * {x.strides[d]}]) best = l;",
            f"{target.at(at)} = best;",
        ]

    return nest(shape, [target, source], body, ivdep=False)


def _over_dimension(
    write: Callable[[View, int, list[View], int, list[str], list[Access]], list[str]], n_inputs: int
) -> Code:
    """Return what writes an operation along one dimension, which comes after its inputs."""

    def code(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        inputs, (out,) = [of(a) for a in node.args[:n_inputs]], made
        assert out is not None
        d = node.args[n_inputs] % len(out.shape)  # type: ignore[operator]
        others = [i for i in range(len(out.shape)) if i != d]
        shape = tuple(out.shape[i] for i in others)
        accesses = [Access(pointer(v), tuple(v.strides[i] for i in others)) for v in (out, *inputs)]

        def body(at: list[str]) -> list[str]:
            return write(out, d, inputs, out.shape[d], at, accesses)

        return nest(shape, accesses, body, ivdep=False)

    return code


def _softmax(log: bool) -> Code:
    def write(out: View, d: int, inputs: list[View], n: int, at: list[str], accesses: list[Access]) -> list[str]:
        c, (x,) = out.c_type, inputs
        ix, io = f"{accesses[1].index(at)} + l * {x.strides[d]}", f"{accesses[0].index(at)} + l * {out.strides[d]}"
        px, po, f = pointer(x), pointer(out), "f" if c == "float" else ""
        loop = f"for (int64_t l = 0; l < {n}; ++l)"
        lines = [
            f"{c} top = -INFINITY, sum = 0;",
            f"{loop} top = {px}[{ix}] > top ? {px}[{ix}] : top;",
            '_Pragma("omp simd reduction(+:sum)")',
            f"{loop} sum += exp_{c}({px}[{ix}] - top);",
        ]
        if log:
            return [*lines, f"const {c} shift = top + log{f}(sum);", f"{loop} {po}[{io}] = {px}[{ix}] - shift;"]
        return [*lines, f"const {c} share = 1 / sum;", f"{loop} {po}[{io}] = exp_{c}({px}[{ix}] - top) * share;"]

    return _over_dimension(write, 1)


def _softmax_backward(log: bool) -> Code:
    def write(out: View, d: int, inputs: list[View], n: int, at: list[str], accesses: list[Access]) -> list[str]:
        c, (g, y) = out.c_type, inputs
        ig, iy = f"{accesses[1].index(at)} + l * {g.strides[d]}", f"{accesses[2].index(at)} + l * {y.strides[d]}"
        io = f"{accesses[0].index(at)} + l * {out.strides[d]}"
        pg, py, po = pointer(g), pointer(y), pointer(out)
        loop = f"for (int64_t l = 0; l < {n}; ++l)"
        simd = '_Pragma("omp simd reduction(+:sum)")'
        if log:
            return [
                f"{c} sum = 0;",
                simd,
                f"{loop} sum += {pg}[{ig}];",
                f"{loop} {po}[{io}] = {pg}[{ig}] - exp_{c}({py}[{iy}]) * sum;",
            ]
        return [
            f"{c} sum = 0;",
            simd,
            f"{loop} sum += {pg}[{ig}] * {py}[{iy}];",
            f"{loop} {po}[{io}] = {py}[{iy}] * ({pg}[{ig}] - sum);",
        ]

    return _over_dimension(write, 2)


def _rows_of(x: View) -> tuple[tuple[int, ...], int, list[int]]:
    """Return the shape of what a class is chosen for, the stride of the classes, and the other strides."""
    d = 1 if len(x.shape) > 1 else 0
    others = [i for i in range(len(x.shape)) if i != d]
    return tuple(x.shape[i] for i in others), x.strides[d], [x.strides[i] for i in others]


def _nll(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, targets, (out, weight, _) = of(node.args[0]), of(node.args[1]), made
    _refuse(node.args[2] is not None or node.args[3] != 0 or weight is not None and out is None, "a weighted loss")
    lines = []
    if out is not None:
        shape, step, strides = _rows_of(x)
        source, aim = Access(pointer(x), tuple(strides)), Access(pointer(targets), targets.strides_in(shape))
        target = Access(pointer(out), out.strides_in(shape))

        def body(at: list[str]) -> list[str]:
            chosen = f"{pointer(x)}[{source.index(at)} + t * {step}]"
            return [f"const int64_t t = {aim.at(at)};", f"{target.at(at)} = t == {node.args[4]} ? 0 : -{chosen};"]

        lines += nest(shape, [target, source, aim], body, ivdep=False)
    if weight is not None:
        lines.append(f"{pointer(weight)}[0] = 0;")
    return lines


def _nll_backward(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, x, targets, (out,) = of(node.args[0]), of(node.args[1]), of(node.args[2]), made
    assert out is not None
    _refuse(node.args[3] is not None or node.args[4] != 0, "a weighted loss")
    shape, step, strides = _rows_of(out)
    source, aim = (
        Access(pointer(gradient), gradient.strides_in(shape)),
        Access(pointer(targets), targets.strides_in(shape)),
    )
    target = Access(pointer(out), tuple(strides))

    def body(at: list[str]) -> list[str]:
        chosen = f"{pointer(out)}[{target.index(at)} + t * {step}]"
        return [f"const int64_t t = {aim.at(at)};", f"if (t != {node.args[5]}) {chosen} = -{source.at(at)};"]

    return [
        f"memset({pointer(out)}, 0, sizeof({out.c_type}) * {math.prod(out.shape)});",
        *nest(shape, [target, source, aim], body, ivdep=False),
    ]


def _layer_norm(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out, mean, rstd) = of(node.args[0]), made
    n = math.prod(node.args[1])  # type: ignore[arg-type]
    w, b = (None if a is None else of(a) for a in node.args[2:4])
    _refuse(any(list(v.strides) != list(contiguous(v.shape)) for v in (x, w, b) if v is not None), "a layout")
    c, rows = x.c_type, math.prod(x.shape) // n
    f = "f" if c == "float" else ""
    scaled = "(X[j] - mean) * rstd" + (f" * {pointer(w)}[j]" if w else "") + (f" + {pointer(b)}[j]" if b else "")
    lines = [
        f"for (int64_t i = 0; i < {rows}; ++i) {{",
        f"    const {c} *X = {pointer(x)} + i * {n};",
        f"    {c} sum = 0, squares = 0;",
        '    _Pragma("omp simd reduction(+:sum)")',
        f"    for (int64_t j = 0; j < {n}; ++j) sum += X[j];",
        f"    const {c} mean = sum / {n};",
        '    _Pragma("omp simd reduction(+:squares)")',
        f"    for (int64_t j = 0; j < {n}; ++j) squares += (X[j] - mean) * (X[j] - mean);",
        f"    const {c} rstd = 1 / sqrt{f}(squares / {n} + ({c}){node.args[4]!r});",
    ]
    if out is not None:
        lines.append(f"    for (int64_t j = 0; j < {n}; ++j) {pointer(out)}[i * {n} + j] = {scaled};")
    if mean is not None:
        lines.append(f"    {pointer(mean)}[i] = mean;")
    if rstd is not None:
        lines.append(f"    {pointer(rstd)}[i] = rstd;")
    return [*lines, "}"]


def _layer_norm_backward(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    g, x, mean, rstd = (of(node.args[i]) for i in (0, 1, 3, 4))
    n = math.prod(node.args[2])  # type: ignore[arg-type]
    w = None if node.args[5] is None else of(node.args[5])
    of_x, of_w, of_b = made
    every = [v for v in (g, x, mean, rstd, w) if v is not None]
    _refuse(any(list(v.strides) != list(contiguous(v.shape)) for v in every), "a layout")
    c, rows = x.c_type, math.prod(x.shape) // n
    scaled = "G[j]" + (f" * {pointer(w)}[j]" if w else "")
    lines = [f"memset({pointer(v)}, 0, sizeof({c}) * {n});" for v in (of_w, of_b) if v is not None]
    lines += [
        f"for (int64_t i = 0; i < {rows}; ++i) {{",
        f"    const {c} *X = {pointer(x)} + i * {n}, *G = {pointer(g)} + i * {n};",
        f"    const {c} mean = {pointer(mean)}[i], rstd = {pointer(rstd)}[i];",
    ]
    if of_x is not None:
        lines += [
            f"    {c} sum = 0, along = 0;",
            '    _Pragma("omp simd reduction(+:sum,along)")',
            f"    for (int64_t j = 0; j < {n}; ++j) {{",
            f"        const {c} d = {scaled}; sum += d, along += d * (X[j] - mean) * rstd;",
            "    }",
            f"    for (int64_t j = 0; j < {n}; ++j) {pointer(of_x)}[i * {n} + j] =",
            f"        rstd * ({scaled} - (sum + (X[j] - mean) * rstd * along) / {n});",
        ]
    if of_w is not None:
        lines.append(f"    for (int64_t j = 0; j < {n}; ++j) {pointer(of_w)}[j] += G[j] * (X[j] - mean) * rstd;")
    if of_b is not None:
        lines.append(f"    for (int64_t j = 0; j < {n}; ++j) {pointer(of_b)}[j] += G[j];")
    return [*lines, "}"]


def _cat(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    parts, (out,) = [of(a) for a in node.args[0]], made  # type: ignore[union-attr]
    assert out is not None
    d = (node.args[1] if len(node.args) > 1 else 0) % len(out.shape)  # type: ignore[operator]
    lines, start = [], 0
    for part in parts:
        target = Access(f"({pointer(out)} + {start * out.strides[d]})", out.strides)
        source = Access(pointer(part), part.strides)

        def body(at: list[str], target: Access = target, source: Access = source) -> list[str]:
            return [f"{target.at(at)} = {source.at(at)};"]

        lines += nest(part.shape, [target, source], body)
        start += part.shape[d]
    return lines


def _into_zeros(place: Callable[[fx.Node], tuple[int, int, int]]) -> Code:
    """Return what writes the gradient of a part: zeros, and in them a gradient from a place on with a step."""

    def code(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        x, (out,) = of(node.args[0]), made
        assert out is not None
        _refuse(list(out.strides) != list(contiguous(out.shape)), "a layout")
        d, start, step = place(node)
        shape, strides = out.shape, list(out.strides)
        if len(x.shape) < len(shape):  # the part lacks the dimension
            shape, strides = (*shape[:d], *shape[d + 1 :]), [*strides[:d], *strides[d + 1 :]]
            offset = start * out.strides[d]
        else:
            offset, strides[d] = start * strides[d], strides[d] * step
        target, source = Access(f"({pointer(out)} + {offset})", tuple(strides)), Access(pointer(x), x.strides)
        zeros = f"memset({pointer(out)}, 0, sizeof({out.c_type}) * {math.prod(out.shape)});"
        return [zeros, *nest(x.shape, [target, source], lambda at: [f"{target.at(at)} = {source.at(at)};"])]

    return code


def _slice_place(node: fx.Node) -> tuple[int, int, int]:
    _, sizes, d, start, _, step = node.args
    n = sizes[d]  # type: ignore[index]
    return d % len(sizes), min(start + n if start < 0 else start, n), step  # type: ignore[arg-type, operator, return-value, type-var]


def _select_place(node: fx.Node) -> tuple[int, int, int]:
    _, sizes, d, index = node.args
    return d % len(sizes), index % sizes[d], 1  # type: ignore[arg-type, operator, return-value, index]


def _index_select(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, index, (out,) = of(node.args[0]), of(node.args[2]), made
    assert out is not None
    d = node.args[1] % len(out.shape)  # type: ignore[operator]
    rest = tuple(0 if i == d else s for i, s in enumerate(x.strides))
    along = tuple(index.strides[0] if i == d else 0 for i in range(len(out.shape)))
    target, source, which = Access(pointer(out), out.strides), Access(pointer(x), rest), Access(pointer(index), along)

    def body(at: list[str]) -> list[str]:
        return [f"{target.at(at)} = {pointer(x)}[{source.index(at)} + {which.at(at)} * {x.strides[d]}];"]

    return nest(out.shape, [target, source, which], body)


def _embedding(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    table, index, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    source, which = (
        Access(pointer(table), (*[0] * len(index.shape), table.strides[1])),
        Access(pointer(index), (*index.strides, 0)),
    )
    target = Access(pointer(out), out.strides)

    def body(at: list[str]) -> list[str]:
        return [f"{target.at(at)} = {pointer(table)}[{source.index(at)} + {which.at(at)} * {table.strides[0]}];"]

    return nest(out.shape, [target, source, which], body)


def _embedding_backward(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, index, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    _refuse(bool(node.args[4]) or list(out.strides) != list(contiguous(out.shape)), "scaled gradients")
    which = Access(pointer(index), index.strides)
    source = Access(pointer(gradient), gradient.strides[:-1])
    n, step = out.shape[1], gradient.strides[-1]

    def body(at: list[str]) -> list[str]:
        row = f"{pointer(out)}[t * {n} + j] += {pointer(gradient)}[{source.index(at)} + j * {step}];"
        return [
            f"const int64_t t = {which.at(at)};",
            f"for (int64_t j = 0; t != {node.args[3]} && j < {n}; ++j) {row}",
        ]

    zeros = f"memset({pointer(out)}, 0, sizeof({out.c_type}) * {math.prod(out.shape)});"
    return [zeros, *nest(index.shape, [which, source], body, ivdep=False)]


def _arange(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    (out,) = made
    assert out is not None
    start, _, step = node.args if len(node.args) == 3 else (*node.args, 1)
    return [f"for (int64_t i = 0; i < {out.shape[0]}; ++i) {pointer(out)}[i] = {start} + i * {step};"]


def _channels(x: View) -> tuple[int, list[int], str, str]:
    """Return rows of a channel, the other dimensions, and C loops over channels and over a channel's rows."""
    others = [i for i in range(len(x.shape)) if i != 1]
    return math.prod(x.shape[i] for i in others), others, f"for (int64_t c = 0; c < {x.shape[1]}; ++c)", ""


def _batch_norm(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, w, b, running_mean, running_var = (None if a is None else of(a) for a in node.args[:5])
    assert x is not None
    out, mean, rstd = made
    training, momentum, eps = node.args[5:8]
    _refuse(not training or momentum is None, "normalisation by running statistics")
    n, others, over_channels, _ = _channels(x)
    shape = tuple(x.shape[i] for i in others)
    c = x.c_type
    source = Access(pointer(x), tuple(x.strides[i] for i in others))

    def summed(expression: str) -> list[str]:
        def body(at: list[str]) -> list[str]:
            return [f"const {c} v = {pointer(x)}[{source.index(at)} + c * {x.strides[1]}];", expression]

        return nest(shape, [source], body, ivdep=False)

    f = "f" if c == "float" else ""
    lines = [f"{over_channels} {{", f"{c} sum = 0, squares = 0;", *summed("sum += v;"), f"const {c} mean = sum / {n};"]
    lines += [*summed("squares += (v - mean) * (v - mean);"), f"const {c} var = squares / {n};"]
    lines += [f"const {c} rstd = 1 / sqrt{f}(var + ({c}){eps!r});"]
    for running, new in ((running_mean, "mean"), (running_var, f"var * {n} / {max(1, n - 1)}")):
        if running is not None:
            place = f"{pointer(running)}[c * {running.strides[0]}]"
            lines.append(f"{place} = (1 - ({c}){momentum!r}) * {place} + ({c}){momentum!r} * ({new});")
    for kept, value in ((mean, "mean"), (rstd, "rstd")):
        if kept is not None:
            lines.append(f"{pointer(kept)}[c] = {value};")
    if out is not None:
        target = Access(pointer(out), tuple(out.strides[i] for i in others))
        scale = f" * {pointer(w)}[c * {w.strides[0]}]" if w else ""
        shift = f" + {pointer(b)}[c * {b.strides[0]}]" if b else ""

        def write(at: list[str]) -> list[str]:
            v = f"{pointer(x)}[{source.index(at)} + c * {x.strides[1]}]"
            return [f"{pointer(out)}[{target.index(at)} + c * {out.strides[1]}] = ({v} - mean) * rstd{scale}{shift};"]

        lines += nest(shape, [target, source], write)
    return [*lines, "}"]


def _batch_norm_backward(node: fx.Node, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, x = of(node.args[0]), of(node.args[1])
    w = None if node.args[2] is None else of(node.args[2])
    mean, rstd = of(node.args[5]), of(node.args[6])
    of_x, of_w, of_b = made
    _refuse(not node.args[7], "normalisation by running statistics")
    n, others, over_channels, _ = _channels(x)
    shape, c = tuple(x.shape[i] for i in others), x.c_type
    xs = Access(pointer(x), tuple(x.strides[i] for i in others))
    gs = Access(pointer(gradient), tuple(gradient.strides[i] for i in others))

    def pair(at: list[str]) -> list[str]:
        return [
            f"const {c} v = ({pointer(x)}[{xs.index(at)} + c * {x.strides[1]}] - mean) * rstd;",
            f"const {c} g = {pointer(gradient)}[{gs.index(at)} + c * {gradient.strides[1]}];",
        ]

    lines = [
        f"{over_channels} {{",
        f"const {c} mean = {pointer(mean)}[c], rstd = {pointer(rstd)}[c];",
        f"{c} sum = 0, along = 0;",
        *nest(shape, [xs, gs], lambda at: [*pair(at), "sum += g, along += g * v;"], ivdep=False),
    ]
    if of_x is not None:
        out = Access(pointer(of_x), tuple(of_x.strides[i] for i in others))
        scale = f" * {pointer(w)}[c * {w.strides[0]}]" if w else ""

        def write(at: list[str]) -> list[str]:
            place = f"{pointer(of_x)}[{out.index(at)} + c * {of_x.strides[1]}]"
            return [*pair(at), f"{place} = rstd{scale} * (g - (sum + v * along) / {n});"]

        lines += nest(shape, [out, xs, gs], write)
    for kept, value in ((of_w, "along"), (of_b, "sum")):
        if kept is not None:
            lines.append(f"{pointer(kept)}[c] = {value};")
    return [*lines, "}"]


_SUM = Kernel(_reduction("0", "{acc} + {x}"))
_MEAN = Kernel(_reduction("0", "{acc} + {x}", lambda n, c: f"/ ({c}){n}"))
_MAX = Kernel(_reduction("low", "({x} > {acc} ? {x} : {acc})"))

KERNELS: dict[Any, Kernel] = {
    _aten.bmm.default: Kernel(_product),
    _aten.mm.default: Kernel(_product),
    _aten.sum.dim_IntList: _SUM,
    _aten.sum.default: _SUM,
    _aten.mean.dim: _MEAN,
    _aten.mean.default: _MEAN,
    _aten.amax.default: _MAX,
    _aten.argmax.default: Kernel(_argmax),
    _aten._log_softmax.default: Kernel(_softmax(log=True)),
    _aten._softmax.default: Kernel(_softmax(log=False)),
    _aten._log_softmax_backward_data.default: Kernel(_softmax_backward(log=True)),
    _aten._softmax_backward_data.default: Kernel(_softmax_backward(log=False)),
    _aten.nll_loss_forward.default: Kernel(_nll, several=True),
    _aten.nll_loss2d_forward.default: Kernel(_nll, several=True),
    _aten.nll_loss_backward.default: Kernel(_nll_backward),
    _aten.nll_loss2d_backward.default: Kernel(_nll_backward),
    _aten.native_layer_norm.default: Kernel(_layer_norm, several=True),
    _aten.native_layer_norm_backward.default: Kernel(_layer_norm_backward, several=True),
    _aten.native_batch_norm.default: Kernel(_batch_norm, several=True),
    _aten.native_batch_norm_backward.default: Kernel(_batch_norm_backward, several=True),
    _aten.cat.default: Kernel(_cat),
    _aten.slice_backward.default: Kernel(_into_zeros(_slice_place)),
    _aten.select_backward.default: Kernel(_into_zeros(_select_place)),
    _aten.index_select.default: Kernel(_index_select),
    _aten.embedding.default: Kernel(_embedding),
    _aten.embedding_dense_backward.default: Kernel(_embedding_backward),
    _aten.arange.start_step: Kernel(_arange),
    _aten.arange.start: Kernel(_arange),
}
"""By operation; products with something added are taken apart before."""
