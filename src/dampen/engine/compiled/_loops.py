"""Loops in C over tensors that lie anyhow in memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.bool: "uint8_t",
}


@dataclass(frozen=True)
class View:
    """Where a value lies.

    Args:
        root: the node that made its memory.
        offset: of its first element from the root's.
        shape: sizes of its dimensions.
        strides: in elements.
        dtype: of its elements.
    """

    root: fx.Node
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @property
    def c_type(self) -> str:
        """The C type of an element."""
        return C_TYPES[self.dtype]

    def squeezed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return sizes and strides of the dimensions that are larger than 1."""
        kept = [(n, stride) for n, stride in zip(self.shape, self.strides, strict=True) if n != 1]
        return tuple(n for n, _ in kept), tuple(stride for _, stride in kept)

    def strides_in(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the strides of a broadcast to a shape."""
        own = [0 if n == 1 else stride for n, stride in zip(self.shape, self.strides, strict=True)]
        extra = len(self.shape) - len(shape)  # leading dimensions of 1
        return tuple(own[extra:]) if extra >= 0 else (*[0] * -extra, *own)


@dataclass(frozen=True)
class Access:
    """Elements of a tensor in a loop: where it begins and its strides, one for each dimension of the loop."""

    pointer: str
    strides: tuple[int, ...]

    def index(self, indices: Sequence[str]) -> str:
        """Return the place of an element."""
        pairs = zip(indices, self.strides, strict=True)
        terms = [i if stride == 1 else f"{i} * {stride}" for i, stride in pairs if stride and i != "0"]
        return " + ".join(terms) or "0"

    def at(self, indices: Sequence[str]) -> str:
        """Return an element."""
        return f"{self.pointer}[{self.index(indices)}]"


def nest(
    shape: tuple[int, ...], accesses: Sequence[Access], body: Callable[[list[str]], list[str]], *, ivdep: bool = True
) -> list[str]:
    """Return loops over a shape, dimensions that lie one after the other in every access made one.

    Args:
        shape: of the loop.
        accesses: what the body reads and writes, the most important first: along it the innermost loop runs.
        body: takes the index of each dimension, returns lines.
        ivdep: whether no turn of the innermost loop needs another.
    """
    large = [d for d, n in enumerate(shape) if n != 1]
    order = sorted(large, key=lambda d: -accesses[0].strides[d])
    merged: list[list[int]] = []  # dimensions that are one loop, the innermost last
    for d in order:
        if merged and all(a.strides[merged[-1][-1]] == a.strides[d] * shape[d] for a in accesses):
            merged[-1].append(d)
        else:
            merged.append([d])
    lines, indent, at = [], "", ["0"] * len(shape)
    for j, dims in enumerate(merged):
        at[dims[-1]] = f"i{j}"
        if ivdep and j == len(merged) - 1:
            lines.append(indent + '_Pragma("GCC ivdep")')
        size = math.prod(shape[d] for d in dims)
        lines.append(indent + f"for (int64_t i{j} = 0; i{j} < {size}; ++i{j}) {{")
        indent += "    "
    inner = body(at)
    lines += [indent + line for line in inner] if merged else ["{", *inner, "}"]
    for _ in merged:
        indent = indent[:-4]
        lines.append(indent + "}")
    return lines


def within(view: View, size: int, low: int = 0) -> list[str]:
    """Return C that leaves the step where a number is below `low`, or not below `size`."""
    access = Access(pointer(view), view.strides)

    def body(at: list[str]) -> list[str]:
        return [
            f"const int64_t n = {access.at(at)};",
            f"if (n < {low} || n >= {size}) {{ *fault = 1; return; }}",
        ]

    return nest(view.shape, [access], body, ivdep=False)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a tensor that lies in order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def name(node: fx.Node) -> str:
    """Return the C name of where a node's memory begins."""
    return f"p_{node.name}"


def pointer(view: View) -> str:
    """Return where a view begins."""
    return f"(({view.c_type} *){name(view.root)} + {view.offset})"


def zeroed(view: View) -> str:
    """Return C that fills what lies in order with zeros."""
    return f"memset({pointer(view)}, 0, sizeof({view.c_type}) * {math.prod(view.shape)});"
