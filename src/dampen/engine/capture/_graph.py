"""Record the tensor operations of a function once, and run them again without the Python that led to them.

A training step under `vmap` is the same list of operations on stacked tensors every time; deriving that list costs
milliseconds a step (module calls, batching rules, autograd's bookkeeping), running it costs what the operations
cost. Recording sees every operation below autograd and `vmap`, gradients included.
"""

import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

_aten = torch.ops.aten
# Operations whose result decides what Python does next, or whose output's shape depends on values.
_DATA_DEPENDENT = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
}


EMPTY = {
    _aten.empty.memory_format,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.empty_strided.default,
    _aten.new_empty_strided.default,
}
"""Operations that return memory which something else fills."""

Layout = tuple[tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""Shape, strides, place of the first element in its memory, type."""


_recording = threading.local()  # its `tape` writes down what this thread does


class NotRecordable(RuntimeError):
    """The function's operations depend on the values of its tensors, so that one recording can't stand for all."""


class Unsettled(NotRecordable):
    """What a function reads is not the same for all members."""


@dataclass(frozen=True)
class Recording:
    """What a function did.

    Args:
        graph: its operations.
        constants: a module that holds tensors which nothing made.
        layouts: of the tensor that each node made.
        reads: operations that find the values which the function read, if it did; each is one number.
        values: these numbers, as they were.
    """

    graph: fx.Graph
    constants: torch.nn.Module
    layouts: dict[fx.Node, Layout]
    reads: fx.Graph | None = None
    values: tuple[bool | int | float, ...] = ()


def operations(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], deciding: Sequence[bool] = ()
) -> Recording:
    """Run a function and return its operations.

    Args:
        function: takes the inputs.
        inputs: tensors.
        deciding: for each input, whether values that follow from it may be read (`value_of`); by default none.

    Raises:
        NotRecordable: the function reads a tensor's values to decide what to do.
    """
    graph = fx.Graph()
    placeholders = [graph.placeholder(f"input_{i}") for i in range(len(inputs))]
    tape = _Tape(graph, {node for node, may in zip(placeholders, deciding, strict=False) if may})
    for tensor, node in zip(inputs, placeholders, strict=True):
        tape.know(tensor, node)
    with tape:
        outputs = function(*inputs)
    reads = tape.reads()
    graph.output([tape.node(t) for t in outputs])
    _simplify(graph, tape.layouts)
    return Recording(graph, tape.constants, tape.layouts, reads, tuple(tape.values))


@dataclass(frozen=True)
class Read:
    """What a function read of its inputs while it was recorded.

    Args:
        find: finds it in others.
        values: what it was.
    """

    find: Callable[..., list[Tensor]]
    values: tuple[bool | int | float, ...]

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the function would read the same values of these inputs, for every member."""
        found = self.find(*tensors)
        return all(bool((t == value).all()) for t, value in zip(found, self.values, strict=True))


def read_of(recording: Recording) -> Read | None:
    """Return what a recorded function read; None where it read nothing."""
    if recording.reads is None:
        return None
    return Read(_runner(replace(recording, graph=recording.reads)), recording.values)


@dataclass(frozen=True)
class Recorded:
    """A recording that can be repeated.

    Args:
        run: repeats it.
        read: what the function read; None where it read nothing.
    """

    run: Callable[..., list[Tensor]]
    read: Read | None

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the function would read the same values of these inputs, for every member."""
        return self.read is None or self.read.holds(tensors)


def record_reading(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], deciding: Sequence[bool]
) -> Recorded:
    """Run `function(*inputs)` once and return what repeats it where it would read the same values; see `operations`.

    The inputs of a repetition must have the same shapes, strides and types. What the function does to its inputs in
    place is done again. Gradients inside the function are recorded; what repeats it is not differentiable.
    """
    recording = operations(function, inputs, deciding)
    return Recorded(_runner(recording), read_of(recording))


def value_of(t: Tensor) -> bool | int | float | None:
    """Return the number that a tensor holds for every member, while a function is recorded; None while none is.

    The recording then stands for inputs that lead to the same number.

    Args:
        t: of one number for each member.

    Raises:
        NotRecordable: the number depends on something that may not decide.
        Unsettled: it differs from member to member.
    """
    tape = getattr(_recording, "tape", None)
    return None if tape is None else tape.value_of(t)


def _runner(recording: Recording) -> Callable[..., list[Tensor]]:
    run = fx.GraphModule(recording.constants, recording.graph).forward

    def repeat(*tensors: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return run(*tensors)

    return repeat


class _Tape(TorchDispatchMode):
    """Writes each operation into a graph while it runs.

    Args:
        graph: to write into.
        deciding: its placeholders that values may follow from which the function reads.
    """

    def __init__(self, graph: fx.Graph, deciding: set[fx.Node]):
        super().__init__()
        self.values: list[bool | int | float] = []
        self._deciding = deciding
        self._read: list[fx.Node] = []
        self._ways: set[fx.Node] = set()
        self.constants = torch.nn.Module()
        self.layouts: dict[fx.Node, Layout] = {}
        self._graph = graph
        self._known: dict[int, tuple[Tensor, fx.Node]] = {}  # holds the tensors, so that an id is not used again

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, torch's default, imports all of torch.compile (seconds) at the first operation

    def __enter__(self) -> Any:
        self._outer, _recording.tape = getattr(_recording, "tape", None), self
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        _recording.tape = self._outer
        super().__exit__(*raised)

    def value_of(self, t: Tensor) -> bool | int | float:
        """See the function of that name."""
        node = self.node(t)
        way = self._way_to(node)
        with _disable_current_modes():
            values = t.detach().flatten()
            if not len(values) or not bool((values == values[0]).all()):
                raise Unsettled("a value that it reads is not the same for all members")
            value = values[0].item()
        assert isinstance(value, bool | int | float)
        self._read.append(node)
        self._ways |= way
        self.values.append(value)
        return value

    def reads(self) -> fx.Graph | None:
        """Return the operations that find the values which have been read, if there are any."""
        if not self._read:
            return None
        graph, copies = fx.Graph(), {}
        for node in self._graph.nodes:
            if node in self._ways or node.op == "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output([copies[node] for node in self._read])
        return graph

    def _way_to(self, node: fx.Node) -> set[fx.Node]:
        """Return the operations that lead to a value, with all that change in place what it follows from.

        Raises:
            NotRecordable: it follows from an input that may not decide, or finding it would change something.
        """
        memory = {of: t.untyped_storage()._cdata for t, of in self._known.values()}
        held = {memory[n] for n in memory if n.op in ("placeholder", "get_attr")}
        wanted, way, seen = {node}, set(), set()
        for other in reversed(self._graph.nodes):
            changed = _changed(other)
            if other not in wanted and not any(memory.get(c) in seen for c in changed):
                continue
            if other.op == "placeholder" and other not in self._deciding:
                raise NotRecordable("_local_scalar_dense of a value that depends on a member")
            if any(memory.get(c) in held for c in changed):
                raise NotRecordable("_local_scalar_dense of a value that is changed in place")
            way.add(other)
            wanted.update(other.all_input_nodes)
            seen |= {memory[n] for n in (other, *other.all_input_nodes) if n in memory}
        return way

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
        try:
            result = func(*args, **kwargs)
        except Exception:  # it did nothing, and something else may be done in its place
            self._graph.erase_node(node)
            raise
        if isinstance(result, Tensor):
            self.know(result, node)
        elif isinstance(result, tuple | list):
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self.know(part, self._graph.call_function(operator.getitem, (node, i)))
        return result


def _simplify(graph: fx.Graph, layouts: dict[fx.Node, Layout]) -> None:
    """Drop views that change nothing, make each chain of views one view, and drop what is unused.

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


@dataclass(frozen=True)
class Staged:
    """A recording cut in two: what does not depend on the late inputs, and the rest.

    Args:
        early: takes the early inputs, returns what `late` needs of them.
        late: takes that and then the late inputs, returns the outputs; may run many times on the same early values.
        recording: of the late stage.
    """

    early: Callable[..., list[Tensor]]
    late: Callable[..., list[Tensor]]
    recording: Recording


def record_staged(
    function: Callable[..., Sequence[Tensor]], early: Sequence[Tensor], late: Sequence[Tensor]
) -> Staged | None:
    """Run `function(*early, *late)` once and return its operations in two stages; None where it can't be cut.

    It can't where something in the late stage changes a value of the early one in place, or the other way round.

    Raises:
        NotRecordable: the function reads a tensor's values to decide what to do.
    """
    recording = operations(function, [*early, *late])
    graph = recording.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    is_late = set(placeholders[len(early) :])
    begun = False
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        if any(source in is_late for source in node.all_input_nodes):
            is_late.add(node)
            begun = True
        elif node.target in EMPTY:  # a fresh one for every run
            is_late.add(node)
        if begun and any(changed not in is_late for changed in _changed(node)):
            return None
    order = list(graph.nodes)
    last = order[-1]
    crossing = [
        node
        for node in order
        if node not in is_late and node.op in ("placeholder", "call_function")
        if any(user in is_late or user is last for user in node.users)
    ]
    first_stage, second_stage = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in order:
        if node not in is_late and node is not last:
            known[node] = first_stage.node_copy(node, known.__getitem__)
    first_stage.output([known[node] for node in crossing])
    known = {node: second_stage.placeholder(f"early_{i}") for i, node in enumerate(crossing)}
    for node in order:
        if node in is_late or node.op == "get_attr":
            known[node] = second_stage.node_copy(node, known.__getitem__)
    layouts = {copy: recording.layouts[node] for node, copy in known.items() if node in recording.layouts}
    second_stage.output([known[node] for node in last.args[0]])  # type: ignore[union-attr]
    for stage in (first_stage, second_stage):
        stage.eliminate_dead_code(is_impure_node=_changes_something)
        stage.lint()
    late_stage = replace(recording, graph=second_stage, layouts=layouts)
    return Staged(_runner(replace(recording, graph=first_stage)), _runner(late_stage), late_stage)


def _changed(node: fx.Node) -> list[fx.Node]:
    """Return the nodes whose tensors an operation changes in place."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    names = [argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write]
    given: dict[str, Any] = (
        dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
    )
    return [given[name] for name in names if isinstance(given.get(name), fx.Node)]
