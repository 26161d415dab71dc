"""Record the tensor operations of a function once, and run them again without the Python that led to them.

A training step under `vmap` is the same list of operations on stacked tensors every time; deriving that list costs
milliseconds a step (module calls, batching rules, autograd's bookkeeping), running it costs what the operations
cost. Recording sees every operation below autograd and `vmap`, gradients included.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_aten = torch.ops.aten
# Operations whose result decides what Python does next, or whose output's shape depends on values.
_DATA_DEPENDENT = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
}


Layout = tuple[tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""Shape, strides, place of the first element in its memory, type."""


class NotRecordable(RuntimeError):
    """The function's operations depend on the values of its tensors, so that one recording can't stand for all."""


def record(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    """Run `function(*inputs)` once and return a callable that repeats its operations on other inputs.

    The inputs of a repetition must have the same shapes, strides and types. What the function does to its inputs
    in place is done again, and was done to `inputs` while recording. Gradients inside the function are recorded;
    the callable itself is not differentiable.

    Raises:
        NotRecordable: the function reads a tensor's values to decide what to do.
    """
    graph = fx.Graph()
    tape = _Tape(graph)
    for i, tensor in enumerate(inputs):
        tape.know(tensor, graph.placeholder(f"input_{i}"))
    with tape:
        outputs = function(*inputs)
    graph.output([tape.node(t) for t in outputs])
    _simplify(graph, tape.layouts)
    module = fx.GraphModule(tape.constants, graph)
    run = module.forward

    def repeat(*tensors: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return run(*tensors)

    return repeat


class _Tape(TorchDispatchMode):
    """Writes each operation into a graph while it runs."""

    def __init__(self, graph: fx.Graph):
        super().__init__()
        self.constants = torch.nn.Module()
        self.layouts: dict[fx.Node, Layout] = {}
        self._graph = graph
        self._known: dict[int, tuple[Tensor, fx.Node]] = {}  # holds the tensors, so that an id is not used again

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, torch's default, imports all of torch.compile (seconds) at the first operation

    def know(self, tensor: Tensor, node: fx.Node) -> None:
        self._known[id(tensor)] = (tensor, node)
        self.layouts[node] = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype

    def node(self, tensor: Tensor) -> fx.Node:
        """Return the node that made a tensor; one that nothing made is a constant of the user's module."""
        if id(tensor) not in self._known:
            name = f"constant_{len(self._known)}"
            self.constants.register_buffer(name, tensor.detach())
            self.know(tensor, self._graph.get_attr(name))
        return self._known[id(tensor)][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DATA_DEPENDENT:
            raise NotRecordable(f"{func.name()} reads a tensor's values")
        kwargs = kwargs or {}

        def as_node(x: Any) -> Any:
            return self.node(x) if isinstance(x, Tensor) else x

        node = self._graph.call_function(func, tree_map(as_node, args), tree_map(as_node, kwargs))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.know(result, node)
        elif isinstance(result, tuple | list):
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self.know(part, self._graph.call_function(operator.getitem, (node, i)))
        return result


def _simplify(graph: fx.Graph, layouts: dict[fx.Node, Layout]) -> None:
    """Drop views that change nothing, make each chain of views one view, and drop what nobody uses.

    Args:
        graph: the recorded operations.
        layouts: of the tensor that each of its nodes made.
    """
    owner: dict[fx.Node, fx.Node] = {}  # of a view, the node whose memory it shows from the first element on
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not {node, source} <= layouts.keys() or not _is_view(node):
            continue
        base: fx.Node = owner.get(source, source)
        shape, stride, *start = layouts[node]
        if start != list(layouts[base][2:]):
            continue
        owner[node] = base
        if (shape, stride) == layouts[base][:2]:
            node.replace_all_uses_with(base)
        else:
            node.target, node.args, node.kwargs = torch.as_strided, (base, shape, stride), {}
    graph.eliminate_dead_code(is_impure_node=_changes_something)
    graph.lint()


def _is_view(node: fx.Node) -> bool:
    return node.target is _aten.detach.default or getattr(node.target, "is_view", False)


def _changes_something(node: fx.Node) -> bool:
    if node.op in ("placeholder", "output"):
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable
