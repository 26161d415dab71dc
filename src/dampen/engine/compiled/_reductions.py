"""C for what is taken over dimensions: sums, means, largest values, softmax, and the losses of classes."""

import math
from collections.abc import Callable
from typing import Any

from dampen.engine.compiled._kernel import Code, refuse
from dampen.engine.compiled._loops import Access, View, contiguous, nest, pointer, zeroed


def _dims(node: Any, ndim: int) -> list[int]:
    dims = node.args[1] if len(node.args) > 1 else None
    if isinstance(dims, int):
        dims = [dims]
    dims = list(dims) if dims else list(range(ndim))
    return [d % ndim for d in dims] if ndim else []


def reduction(start: str, join: str, end: Callable[[int, str], str] = lambda n, c: "") -> Code:
    """Return what writes a reduction: `join` takes `{acc}` and `{x}`."""

    def code(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        x, (out,) = of(node.args[0]), made
        assert out is not None
        dims = _dims(node, len(x.shape))
        kept = [d for d in range(len(x.shape)) if d not in dims]
        sizes = [n for n in out.shape if n != 1]
        refuse([x.shape[d] for d in kept if x.shape[d] != 1] != sizes, "shape of a sum")
        own = iter([s for n, s in zip(out.shape, out.strides, strict=True) if n != 1])
        to = [next(own) if d in kept and x.shape[d] != 1 else 0 for d in range(len(x.shape))]
        c, n = out.c_type, math.prod(x.shape[d] for d in dims)
        order = [d for d in sorted(range(len(x.shape)), key=lambda d: -x.strides[d]) if x.shape[d] != 1]
        last = order[-1] if order else None
        initial = {"low": f"({c})-INFINITY" if out.dtype.is_floating_point else "INT64_MIN"}.get(start, f"({c}){start}")
        px, po = pointer(x), pointer(out)
        total = math.prod(out.shape)
        refuse(list(out.strides) != list(contiguous(out.shape)), "layout of a sum")
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
            at_o = " + ".join(f"i{d} * {to[d]}" for d in order if to[d]) or "0"
            if last in kept:
                each = f"{po}[{at_o}] = {join.format(acc=f'{po}[{at_o}]', x=f'({c}){px}[{at_x}]')};"
                lines += [f'{indent}_Pragma("GCC ivdep")', f"{indent}{loop} {each}"]
            else:
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


def argmax(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out,) = of(node.args[0]), made
    assert out is not None
    refuse(len(node.args) < 2 or node.args[1] is None, "argmax over everything")
    d = node.args[1] % len(x.shape)
    others = [i for i in range(len(x.shape)) if i != d]
    shape = tuple(x.shape[i] for i in others)
    strides = [s for n, s in zip(out.shape, out.strides, strict=True) if n != 1]
    own = iter(strides)
    to = tuple(next(own) if n != 1 else 0 for n in shape)
    source = Access(pointer(x), tuple(x.strides[i] for i in others))
    target = Access(pointer(out), to)

    def body(at: list[str]) -> list[str]:
        return [
            f"const {x.c_type} *X = {pointer(x)} + {source.index(at)};",
            "int64_t best = 0;",
            f"for (int64_t l = 1; l < {x.shape[d]}; ++l)",
            f"    if (X[l * {x.strides[d]}] > X[best * {x.strides[d]}]) best = l;",
            f"{target.at(at)} = best;",
        ]

    return nest(shape, [target, source], body, ivdep=False)


def _over_dimension(
    write: Callable[[View, int, list[View], int, list[str], list[Access]], list[str]], n_inputs: int
) -> Code:
    """Return what writes an operation along one dimension, which comes after its inputs."""

    def code(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
        inputs, (out,) = [of(a) for a in node.args[:n_inputs]], made
        assert out is not None
        d = node.args[n_inputs] % len(out.shape)
        others = [i for i in range(len(out.shape)) if i != d]
        shape = tuple(out.shape[i] for i in others)
        accesses = [Access(pointer(v), tuple(v.strides[i] for i in others)) for v in (out, *inputs)]

        def body(at: list[str]) -> list[str]:
            return write(out, d, inputs, out.shape[d], at, accesses)

        return nest(shape, accesses, body, ivdep=False)

    return code


def softmax(log: bool) -> Code:
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


def softmax_backward(log: bool) -> Code:
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


def nll(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, targets, (out, weight, _) = of(node.args[0]), of(node.args[1]), made
    refuse(node.args[2] is not None or node.args[3] != 0 or (weight is not None and out is None), "a weighted loss")
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


def nll_backward(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, targets, (out,) = of(node.args[0]), of(node.args[2]), made
    assert out is not None
    refuse(node.args[3] is not None or node.args[4] != 0, "a weighted loss")
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
        zeroed(out),
        *nest(shape, [target, source, aim], body, ivdep=False),
    ]
