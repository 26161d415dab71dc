"""One member's recorded step as C: elementwise operations become few loops, products are the BLAS's.

The function that is written runs for every member of a chunk, members side by side on the machine's cores, each with
all that lies between its weights and its gradients in one core's cache.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from dampen.engine.capture import EMPTY, Layout, Recording
from dampen.engine.compiled._expressions import CONSTANTS, EXPRESSIONS, OVERWRITING, number
from dampen.engine.compiled._loops import C_TYPES, Access, View, contiguous, nest, pointer
from dampen.engine.compiled._loops import name as name_of
from dampen.engine.compiled._operators import KERNELS
from dampen.engine.compiled._rewrite import WRITTEN, rewrite

_aten = torch.ops.aten
_VIEWS = {_aten.unbind.int, _aten.split.Tensor, _aten.split_with_sizes.default, _aten.chunk.default}
_ALIASES = {_aten.detach.default, _aten.alias.default, _aten._unsafe_view.default}
_ALIGNED = 64  # bytes at which a buffer begins


class Untranslatable(RuntimeError):
    """A step with an operation that has no translation."""


@dataclass(eq=False)
class Loop:
    """Elementwise operations over one shape, in one pass.

    Args:
        shape: without dimensions of 1.
        nodes: the operations, in order.
        in_place: whether its one operation changes memory that something else has made.
    """

    shape: tuple[int, ...]
    nodes: list[fx.Node] = field(default_factory=list)
    in_place: bool = False


@dataclass(frozen=True)
class Translation:
    """A member's step in C.

    Args:
        code: of the function `step_member`.
        outputs: shape and type of each output of a member.
        scratch: bytes that a thread needs.
    """

    code: str
    outputs: list[tuple[tuple[int, ...], torch.dtype]]
    scratch: int


def translate(recording: Recording) -> Translation:
    """Return C for a recording.

    Args:
        recording: of one member's step; its inputs and then its constants become the function's.

    Raises:
        Untranslatable: one of its operations is not among those that are known here.
    """
    try:
        rewrite(recording, lambda node: node.target in EXPRESSIONS)
        return _Translator(recording).translation()
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise Untranslatable(f"an operation with arguments that are not foreseen ({type(e).__name__})") from e


class _Translator:
    def __init__(self, recording: Recording):
        self.graph, self.layouts = recording.graph, recording.layouts
        self.views: dict[fx.Node, View] = {}
        self.steps: list[Loop | fx.Node] = []
        self.place: dict[fx.Node, int] = {}  # of the step that wrote to a node's memory last
        self.born: dict[fx.Node, int] = {}  # of the step that did so first
        self.loop_of: dict[fx.Node, Loop] = {}
        self.inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
        self.inputs += [n for n in self.graph.nodes if n.op == "get_attr"]
        self.stored: set[fx.Node] = set()

    def translation(self) -> Translation:
        order = {node: i for i, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._own(node)
                self.place[node] = -1
            elif node.op == "call_function":
                self._add(node, order)
        (outputs,) = next(node for node in self.graph.nodes if node.op == "output").args
        pointers, taken = self._memory(outputs)
        lines = []
        for step in self.steps:
            lines += self._loop(step) if isinstance(step, Loop) else self._kernel(step)
        for i, node in enumerate(outputs):
            if self._bound(node, i, outputs) is None:
                lines += self._copy(self.views[node], i)
        found = [(self.views[node].shape, self.views[node].dtype) for node in outputs]
        body = "\n".join(f"    {line}" for line in [*pointers, *lines])
        return Translation(
            f"static void step_member(char **in, char **out, char *scratch, int *fault) {{\n{body}\n}}\n", found, taken
        )

    def _own(self, node: fx.Node) -> None:
        shape, strides, _, dtype = self._layout(node)
        self.views[node] = View(node, 0, shape, strides, dtype)

    def _layout(self, node: fx.Node) -> Layout:
        layout = self.layouts.get(node)
        if layout is None or layout[3] not in C_TYPES:
            raise Untranslatable(str(node.target))
        return layout

    def _changed(self, node: fx.Node, order: dict[fx.Node, int]) -> fx.Node | None:
        """Return what an operation changes in place where its memory matters: others see it through views of theirs.

        What nobody else looks at afterwards is a new value instead, which can join a loop.
        """
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            return None
        changed = next((node.kwargs[name] for name in WRITTEN if name in node.kwargs), node.args[0])
        assert isinstance(changed, fx.Node)
        root = self.views[changed].root
        if root.op != "call_function" or node.target in KERNELS:
            return changed
        seen = any(
            view.root is root and any(order[user] > order[node] for user in other.users)
            for other, view in self.views.items()
        )
        return changed if seen else None

    def _write(self, node: fx.Node, changed: fx.Node) -> None:
        """Let an operation change memory where it lies, after whatever came before."""
        view = self.views[changed]
        if view.dtype not in C_TYPES or (node.target not in KERNELS and node.target not in EXPRESSIONS):
            raise Untranslatable(getattr(node.target, "name", lambda: str(node.target))())
        self.views[node] = view
        self.born.setdefault(view.root, len(self.steps))
        self.place[view.root] = len(self.steps)
        self.steps.append(node if node.target in KERNELS else Loop(view.squeezed()[0], [node], in_place=True))

    def _add(self, node: fx.Node, order: dict[fx.Node, int]) -> None:
        target = node.target
        changed = self._changed(node, order)
        if changed is not None:
            self._write(node, changed)
        elif target in _VIEWS or (target is operator.getitem and node.args[0].target not in _VIEWS):  # type: ignore[union-attr]
            return  # of an operation with several results, which sees to it
        elif target is torch.as_strided or target in _ALIASES or getattr(target, "is_view", False) or _is_part(node):
            whole = node.args[0].args[0] if _is_part(node) else node.args[0]  # type: ignore[union-attr]
            source = self.views[whole]  # type: ignore[index]
            shape, strides, start, dtype = self._layout(node)
            if target is torch.as_strided or target is _aten._unsafe_view.default:
                offset = source.offset
            else:
                offset = source.offset + start - self.layouts[whole][2]  # type: ignore[index]
            self.views[node] = View(source.root, offset, shape, strides, dtype)
        elif target in EMPTY:
            self._own(node)
            self.place[node] = -1
        elif target in EXPRESSIONS or target in CONSTANTS:
            self._own(node)
            self._join_loop(node)
        elif target in KERNELS:
            for made in KERNELS[target].results(node).values():
                self._own(made)
                self.place[made] = self.born[made] = len(self.steps)
            self.steps.append(node)
        else:
            raise Untranslatable(getattr(target, "name", lambda: str(target))())

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        if node.target in CONSTANTS:
            return []
        return [a for a in node.args[node.target in OVERWRITING :] if isinstance(a, fx.Node)]

    def _join_loop(self, node: fx.Node) -> None:
        """Put an elementwise operation into the latest loop that it fits, or into a new one."""
        shape = self.views[node].squeezed()[0]
        i = self._loop_for(node, shape)
        if i is None:
            self.steps.append(Loop(shape))
            i = len(self.steps) - 1
        loop = self.steps[i]
        assert isinstance(loop, Loop)
        loop.nodes.append(node)
        self.place[node], self.born[node], self.loop_of[node] = i, i, loop

    def _loop_for(self, node: fx.Node, shape: tuple[int, ...]) -> int | None:
        for i in range(len(self.steps) - 1, -1, -1):
            loop = self.steps[i]
            if isinstance(loop, Loop) and not loop.in_place and loop.shape == shape and self._fits(node, loop, i):
                return i
            if any(self.place[self.views[a].root] == i for a in self._operands(node)):
                return None
        return None

    def _fits(self, node: fx.Node, loop: Loop, i: int) -> bool:
        for operand in self._operands(node):
            view = self.views[operand]
            if self.loop_of.get(view.root) is loop and self.place[view.root] == i:
                if not self._same_element(view, loop.shape):
                    return False
            elif self.place[view.root] >= i:
                return False
        return True

    def _same_element(self, view: View, shape: tuple[int, ...]) -> bool:
        own = self.views[view.root]
        alike = own.dtype.itemsize == view.dtype.itemsize
        return alike and view.offset == 0 and view.squeezed() == own.squeezed() and view.squeezed()[0] == shape

    def _bound(self, node: fx.Node, i: int, outputs: Sequence[fx.Node]) -> fx.Node | None:
        """Return the root that can be written where the i-th output is wanted; None where it has to be copied there."""
        view = self.views[node]
        first = next(j for j, other in enumerate(outputs) if self.views[other].root is view.root)
        own = self.views[view.root]
        in_order = view.squeezed()[1] == contiguous(view.squeezed()[0])
        whole = math.prod(view.shape) == math.prod(own.shape) and own.squeezed()[1] == contiguous(own.squeezed()[0])
        return view.root if view.root.op == "call_function" and i == first and in_order and whole else None

    def _memory(self, outputs: Sequence[fx.Node]) -> tuple[list[str], int]:
        """Return declarations of all pointers, and the bytes of what lies between inputs and outputs."""
        bound = {root: i for i, node in enumerate(outputs) if (root := self._bound(node, i, outputs)) is not None}
        last: dict[fx.Node, int] = {}
        for i, step in enumerate(self.steps):
            for node in step.nodes if isinstance(step, Loop) else [step]:
                for source in node.all_input_nodes if node.target not in CONSTANTS else []:
                    root = self.views[source].root
                    own = isinstance(step, Loop) and self.loop_of.get(root) is step
                    if not own or not self._same_element(self.views[source], self.views[root].squeezed()[0]):
                        last[root] = max(i, last.get(root, 0))
        for node in outputs:
            last[self.views[node].root] = len(self.steps)
        self.stored = set(last)
        declared, free, taken, ends = [], [], 0, []
        for i, node in enumerate(self.inputs):
            declared.append(f"{self.views[node].c_type} *{name_of(node)} = (void *)in[{i}];")
        made: dict[int, list[fx.Node]] = {}
        for node, at in self.born.items():
            if node.op == "call_function" and node in self.stored:
                made.setdefault(at, []).append(node)
        for i in range(len(self.steps)):
            for end, start, size in [e for e in ends if e[0] < i]:
                ends.remove((end, start, size))
                free.append((start, size))
            for node in made.get(i, []):
                own = self.views[node]
                if node in bound:
                    declared.append(f"{own.c_type} *{name_of(node)} = (void *)out[{bound[node]}];")
                    continue
                extent = 1 + sum((n - 1) * stride for n, stride in zip(own.shape, own.strides, strict=True))
                size = -(-max(1, extent) * own.dtype.itemsize // _ALIGNED) * _ALIGNED
                fitting = min((f for f in free if f[1] >= size), key=lambda f: f[1], default=None)
                if fitting is None:
                    start, taken = taken, taken + size
                else:
                    free.remove(fitting)
                    start = fitting[0]
                    if fitting[1] > size:
                        free.append((start + size, fitting[1] - size))
                declared.append(f"{own.c_type} *{name_of(node)} = (void *)(scratch + {start});")
                ends.append((last[node], start, size))
        return declared, taken

    def _kernel(self, node: fx.Node) -> list[str]:
        kernel = KERNELS[node.target]
        results = kernel.results(node)
        made = [
            self.views[results[i]] if i in results and self.views[results[i]].root in self.stored else None
            for i in range(kernel.results_at_most)
        ]
        if not any(made):
            return []  # of which only the shape was wanted
        try:
            return kernel.code(node, self.views.__getitem__, made)
        except NotImplementedError as e:
            raise Untranslatable(f"{node.target}: {e}") from e

    def _copy(self, view: View, i: int) -> list[str]:
        shape, strides = view.squeezed()
        source, target = Access(pointer(view), strides), Access(f"(({view.c_type} *)out[{i}])", contiguous(shape))
        return nest(shape, [target, source], lambda at: [f"{target.at(at)} = {source.at(at)};"])

    def _loop(self, loop: Loop) -> list[str]:
        reads: dict[tuple[Any, ...], Access] = {}
        used: dict[tuple[fx.Node, fx.Node], tuple[Any, ...]] = {}
        for node in loop.nodes:
            for operand in self._operands(node):
                view = self.views[operand]
                if self.loop_of.get(view.root) is loop and self._same_element(view, loop.shape):
                    continue
                strides = self._strides(view, node)
                key = view.root, view.offset, strides, view.c_type
                used[node, operand] = key
                reads.setdefault(key, Access(pointer(view), strides))
        writes = {
            n: Access(pointer(self.views[n]), self.views[n].squeezed()[1])
            for n in loop.nodes
            if n in self.stored or loop.in_place
        }
        names = {key: f"r{j}" for j, key in enumerate(reads)}

        def body(at: list[str]) -> list[str]:
            lines = [f"const {key[3]} {names[key]} = {access.at(at)};" for key, access in reads.items()]
            for node in loop.nodes:
                lines.append(f"const {self.views[node].c_type} v_{node.name} = {self._expression(node, used, names)};")
                if node in writes:
                    lines.append(f"{writes[node].at(at)} = v_{node.name};")
            return lines

        return nest(loop.shape, [*writes.values(), *reads.values()], body)

    def _strides(self, view: View, node: fx.Node) -> tuple[int, ...]:
        shape = self.views[node].shape
        return tuple(s for n, s in zip(shape, view.strides_in(shape), strict=True) if n != 1)

    def _value(self, view: View) -> str:
        """Return what this loop has computed, its bits read as another type where they are viewed so."""
        value, made = f"v_{view.root.name}", self.views[view.root]
        return value if made.dtype == view.dtype else f"bits_{made.c_type}_{view.c_type}({value})"

    def _expression(self, node: fx.Node, used: dict[Any, Any], names: dict[Any, str]) -> str:
        own = self.views[node]
        if node.target in CONSTANTS:
            return number(CONSTANTS[node.target](node), own.c_type)
        operands = [self.views[a].dtype for a in self._operands(node)]
        inner = own.dtype if own.dtype.is_floating_point and node.target not in _COMPARING else _promoted(operands)
        c = C_TYPES[inner]

        def text(x: Any) -> str:
            if isinstance(x, fx.Node):
                view = self.views[x]
                if x is node.args[0] and node.target in OVERWRITING:
                    return ""  # not read
                name = names[used[node, x]] if (node, x) in used else self._value(view)
                return name if view.c_type == c or view.dtype is torch.bool else f"({c}){name}"
            if isinstance(x, int | float):
                return number(x, c)
            return str(x)

        try:
            arguments = [text(a) for a in node.args if a is not None or node.target in _NONE_COUNTS]
            named = {k: text(v) for k, v in node.kwargs.items() if k not in WRITTEN}
            return f"({own.c_type})({EXPRESSIONS[node.target](arguments, named, c)})"
        except (KeyError, IndexError) as e:
            raise Untranslatable(f"{node.target}{node.args}") from e


_COMPARING = {
    getattr(getattr(_aten, name), overload)
    for name in ("ge", "gt", "le", "lt", "eq", "ne")
    for overload in ("Tensor", "Scalar", "Tensor_out")
}
_NONE_COUNTS = {_aten.clamp.default}


def _is_part(node: fx.Node) -> bool:
    """Return whether a node is one of the parts that a tensor is seen in."""
    return node.target is operator.getitem and node.args[0].target in _VIEWS  # type: ignore[union-attr]


def _promoted(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    found = dtypes[0]
    for other in dtypes[1:]:
        found = torch.promote_types(found, other)
    return found
