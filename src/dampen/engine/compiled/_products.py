"""C for products of matrices: torch's own BLAS, called with whatever way the matrices lie."""

from collections.abc import Callable
from typing import Any

from dampen.engine.compiled._kernel import refuse
from dampen.engine.compiled._loops import View, pointer

_NARROW = 16  # columns up to which the BLAS is several times as fast at the transposed product (MKL 2024.2, Zen 3)
_STACK = 1 << 16  # bytes of it that a thread's stack has room for


def _matrix(view: View) -> tuple[int, ...]:
    """Return batch, rows, columns of a view, and their strides; a vector is one column."""
    if len(view.shape) == 1:
        view = View(view.root, view.offset, (*view.shape, 1), (*view.strides, 1), view.dtype)
    shape, strides = ((1,) * (3 - len(view.shape)) + view.shape), ((0,) * (3 - len(view.shape)) + view.strides)
    return (*shape, *strides)


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


def product(node: Any, of: Callable[[Any], View], made: list[View | None]) -> list[str]:
    a, b, (out,) = of(node.args[0]), of(node.args[1]), made
    assert out is not None
    refuse(not a.dtype == b.dtype == out.dtype or not a.dtype.is_floating_point, "types of a product")
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
    else:
        if result[0]:  # the transposed product has its rows in order
            n, m, pa, pb, left, right = m, n, pb, pa, (not right[0], right[1]), (not left[0], left[1])
            b_strides, c_row, c_column = a_strides[::-1], c_column, c_row
        if k and m <= _NARROW <= n and max(k, n) * m * out.dtype.itemsize <= _STACK:
            lines += _narrow(c, (n, m, k), (pa, *left), (pb, b_strides[0], b_strides[1]), (pc, c_row, c_column))
        else:
            sides = f"'{'NT'[left[0]]}', '{'NT'[right[0]]}', {n}, {m}, {k}"
            lines.append(f"    gemm_{c}({sides}, {pa}, {left[1]}, {pb}, {right[1]}, {pc}, {result[1]});")
    return [*lines, "}"]


def _narrow(
    c: str, sizes: tuple[int, int, int], a: tuple[str, bool, int], b: tuple[str, int, int], out: tuple[str, int, int]
) -> list[str]:
    """Return C for a product with few columns, found as its transpose.

    What is narrow is copied to where it lies as well for every member: how the BLAS adds up depends on that.
    """
    (n, m, k), (pa, transposed, leading), (pb, b_row, b_column), (pc, c_row, c_column) = sizes, a, b, out
    return [
        f"    _Alignas(64) {c} N[{m * k}], T[{m * n}];",
        f"    const {c} *B = {pb}; {c} *C = {pc};",
        f"    for (int64_t j = 0; j < {m}; ++j)",
        f"        for (int64_t l = 0; l < {k}; ++l) N[j * {k} + l] = B[l * {b_row} + j * {b_column}];",
        f"    gemm_{c}('N', '{'TN'[transposed]}', {m}, {n}, {k}, N, {k}, {pa}, {leading}, T, {n});",
        f"    for (int64_t i = 0; i < {n}; ++i)",
        f"        for (int64_t j = 0; j < {m}; ++j) C[i * {c_row} + j * {c_column}] = T[j * {n} + i];",
    ]
