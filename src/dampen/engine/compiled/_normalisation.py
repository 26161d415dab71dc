"""C for normalisation over a row's units or over a batch, and its gradients."""

import math
from collections.abc import Callable
from typing import Any

from dampen.engine.compiled._kernel import refuse
from dampen.engine.compiled._loops import Access, View, contiguous, nest, pointer, zeroed


def _leading(view: View, n_normalised: int) -> tuple[int, ...]:
    """Return the strides of what is not normalised over; the rest must lie in order.

    Raises:
        NotImplementedError: it does not.
    """
    cut = len(view.shape) - n_normalised
    inner = View(view.root, 0, view.shape[cut:], view.strides[cut:], view.dtype).squeezed()
    refuse(inner[1] != contiguous(inner[0]), "a layout")
    return view.strides[:cut]


def layer_norm(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, (out, mean, rstd) = of(node.args[0]), made
    dims: list[int] = list(node.args[1])
    n, k = math.prod(dims), len(dims)
    w, b = (None if a is None else of(a) for a in node.args[2:4])
    for v in (w, b):
        assert v is None or _leading(v, k) == ()
    c, shape = x.c_type, x.shape[: len(x.shape) - k]
    source = Access(pointer(x), _leading(x, k))
    places = [None if v is None else Access(pointer(v), v.strides[: len(shape)]) for v in (mean, rstd)]
    target = None if out is None else Access(pointer(out), _leading(out, k))
    f = "f" if c == "float" else ""
    scaled = "(X[j] - mean) * rstd" + (f" * {pointer(w)}[j]" if w else "") + (f" + {pointer(b)}[j]" if b else "")

    def body(at: list[str]) -> list[str]:
        loop = f"for (int64_t j = 0; j < {n}; ++j)"
        lines = [
            f"const {c} *X = {pointer(x)} + {source.index(at)};",
            f"{c} sum = 0, squares = 0;",
            '_Pragma("omp simd reduction(+:sum)")',
            f"{loop} sum += X[j];",
            f"const {c} mean = sum / {n};",
            '_Pragma("omp simd reduction(+:squares)")',
            f"{loop} squares += (X[j] - mean) * (X[j] - mean);",
            f"const {c} rstd = 1 / sqrt{f}(squares / {n} + ({c}){node.args[4]!r});",
        ]
        if target is not None:
            lines += [f"{c} *Y = {target.pointer} + {target.index(at)};", f"{loop} Y[j] = {scaled};"]
        lines += [f"{place.at(at)} = {value};" for place, value in zip(places, ("mean", "rstd"), strict=True) if place]
        return lines

    return nest(shape, [source, *(a for a in (target, *places) if a is not None)], body, ivdep=False)


def layer_norm_backward(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    g, x, mean, rstd = (of(node.args[i]) for i in (0, 1, 3, 4))
    dims: list[int] = list(node.args[2])
    n, k = math.prod(dims), len(dims)
    w = None if node.args[5] is None else of(node.args[5])
    assert w is None or _leading(w, k) == ()
    of_x, of_w, of_b = made
    c, shape = x.c_type, x.shape[: len(x.shape) - k]
    xs, gs = (Access(pointer(v), _leading(v, k)) for v in (x, g))
    means, rstds = (Access(pointer(v), v.strides[: len(shape)]) for v in (mean, rstd))
    target = None if of_x is None else Access(pointer(of_x), _leading(of_x, k))
    scaled = "G[j]" + (f" * {pointer(w)}[j]" if w else "")
    loop = f"for (int64_t j = 0; j < {n}; ++j)"

    def body(at: list[str]) -> list[str]:
        lines = [
            f"const {c} *X = {pointer(x)} + {xs.index(at)}, *G = {pointer(g)} + {gs.index(at)};",
            f"const {c} mean = {means.at(at)}, rstd = {rstds.at(at)};",
        ]
        if target is not None:
            lines += [
                f"{c} sum = 0, along = 0, *D = {target.pointer} + {target.index(at)};",
                '_Pragma("omp simd reduction(+:sum,along)")',
                f"{loop} {{ const {c} d = {scaled}; sum += d, along += d * (X[j] - mean) * rstd; }}",
                f"{loop} D[j] = rstd * ({scaled} - (sum + (X[j] - mean) * rstd * along) / {n});",
            ]
        if of_w is not None:
            lines.append(f"{loop} {pointer(of_w)}[j] += G[j] * (X[j] - mean) * rstd;")
        if of_b is not None:
            lines.append(f"{loop} {pointer(of_b)}[j] += G[j];")
        return lines

    zeros = [zeroed(v) for v in (of_w, of_b) if v is not None]
    accesses = [xs, gs, means, rstds, *([target] if target else [])]
    return [*zeros, *nest(shape, accesses, body, ivdep=False)]


def _channels(x: View) -> tuple[int, list[int], str]:
    """Return the rows of a channel, the other dimensions, and a C loop over channels."""
    others = [i for i in range(len(x.shape)) if i != 1]
    return math.prod(x.shape[i] for i in others), others, f"for (int64_t c = 0; c < {x.shape[1]}; ++c)"


def batch_norm(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    x, w, b, running_mean, running_var = (None if a is None else of(a) for a in node.args[:5])
    assert x is not None
    out, mean, rstd = made
    training, momentum, eps = node.args[5:8]
    refuse(not training or momentum is None, "normalisation by running statistics")
    n, others, over_channels = _channels(x)
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


def batch_norm_backward(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    gradient, x = of(node.args[0]), of(node.args[1])
    w = None if node.args[2] is None else of(node.args[2])
    mean, rstd = of(node.args[5]), of(node.args[6])
    of_x, of_w, of_b = made
    refuse(not node.args[7], "normalisation by running statistics")
    n, others, over_channels = _channels(x)
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
