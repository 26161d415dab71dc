"""A recorded step in other words, of which fewer and shorter loops can be made."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from dampen.engine.capture import Recording

_aten = torch.ops.aten
_ADDED = {_aten.baddbmm.default: _aten.bmm.default, _aten.addmm.default: _aten.mm.default}
WRITTEN = ("out", "grad_input")  # names of what an operation writes to, where it is not its first argument
_ALIASES = {_aten.detach.default, _aten.alias.default}


def silu_slope(x: Any) -> Any:
    """Stand in a graph for the derivative of `silu`."""
    raise NotImplementedError


def gelu_slope(x: Any, *, approximate: str = "none") -> Any:
    """Stand in a graph for the derivative of `gelu`."""
    raise NotImplementedError


def mish_slope(x: Any) -> Any:
    """Stand in a graph for the derivative of `mish`."""
    raise NotImplementedError


_SLOPES: dict[Any, tuple[Any, Callable[..., Any]]] = {
    _aten.silu_backward.default: (_aten.silu.default, silu_slope),
    _aten.gelu_backward.default: (_aten.gelu.default, gelu_slope),
    _aten.mish_backward.default: (_aten.mish.default, mish_slope),
}


def rewrite(recording: Recording, elementwise: Callable[[fx.Node], bool]) -> None:
    """Change a recording into one that computes the same, number by number.

    Args:
        recording: of one member's step; changed.
        elementwise: returns whether an operation computes each element from those at its place.
    """
    _take_apart(recording)
    _keep_slopes(recording)
    _compute_early(recording, elementwise)


def _take_apart(recording: Recording) -> None:
    """Make products with something added a product and an addition, which joins the loop that comes next."""
    graph, layouts = recording.graph, recording.layouts
    for node in list(graph.nodes):
        if node.target in _ADDED and not node.kwargs:
            with graph.inserting_before(node):
                product = graph.call_function(_ADDED[node.target], node.args[1:])
                whole = graph.call_function(_aten.add.Tensor, (product, node.args[0]))
            layouts[product] = layouts[whole] = layouts[node]
            node.replace_all_uses_with(whole)
            graph.erase_node(node)


def _keep_slopes(recording: Recording) -> None:
    """Find an activation's derivative where its value is found, which shares most of the work, and keep that."""
    graph, layouts, forward = recording.graph, recording.layouts, {}
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.op == "call_function" and node.args and isinstance(node.args[0], fx.Node):
            forward[node.target, _source(node.args[0]), node.kwargs.get("approximate")] = node
        if node.target not in _SLOPES:
            continue
        activation, slope = _SLOPES[node.target]
        given, x = node.args
        value = forward.get((activation, _source(x), node.kwargs.get("approximate")))
        if value is None or layouts[value][:2] != layouts[x][:2]:
            continue
        with graph.inserting_after(value):
            kept = graph.call_function(slope, (value.args[0],), dict(node.kwargs))
        layouts[kept], order[kept] = layouts[value], order[value]
        scale, gradient = _scale(given, kept, recording, order), given
        if scale is not None:  # of dropout: one number is kept for both
            with graph.inserting_after(max(kept, scale, key=order.__getitem__)):
                both = graph.call_function(_aten.mul.Tensor, (scale, kept))
            layouts[both] = layouts[kept]
            gradient, kept = next(a for a in given.args if a is not scale), both
        with graph.inserting_before(node):
            product = graph.call_function(_aten.mul.Tensor, (gradient, kept))
        layouts[product] = layouts[node]
        node.replace_all_uses_with(product)
        graph.erase_node(node)
        if scale is not None:
            graph.erase_node(given)


def _scale(gradient: fx.Node, kept: fx.Node, recording: Recording, order: dict[fx.Node, int]) -> fx.Node | None:
    """Return what a gradient has just been multiplied by, for nothing else, if it was known before the gradient."""
    if gradient.target is not _aten.mul.Tensor or len(gradient.users) > 1:
        return None
    one, other = gradient.args
    if not isinstance(one, fx.Node) or not isinstance(other, fx.Node) or one is other:
        return None
    scale, rest = sorted((one, other), key=lambda n: order.get(n, -1))
    alike = scale in order and rest in order and recording.layouts[scale][:2] == recording.layouts[kept][:2]
    floating = alike and recording.layouts[scale][3] == recording.layouts[kept][3]
    return scale if floating and order[kept] < order[rest] and scale.op == "call_function" else None


def _source(node: fx.Node) -> fx.Node:
    while node.target in _ALIASES:
        node = node.args[0]  # type: ignore[assignment]
    return node


def _compute_early(recording: Recording, elementwise: Callable[[fx.Node], bool]) -> None:
    """Compute single numbers that need nothing but inputs first, so that they stand between no loops."""
    graph = recording.graph
    early = {node for node in graph.nodes if node.op == "placeholder"} - _changed(graph)
    last = next((node for node in reversed(graph.nodes) if node.op == "placeholder"), None)
    for node in list(graph.nodes):
        if node.op != "call_function" or not node.all_input_nodes or not early.issuperset(node.all_input_nodes):
            continue
        single = node in recording.layouts and all(n == 1 for n in recording.layouts[node][0])
        if last is not None and single and (_is_view(node) or elementwise(node)):
            last.append(node)
            last = node
            early.add(node)


def _is_view(node: fx.Node) -> bool:
    return node.target is torch.as_strided or bool(getattr(node.target, "is_view", False))


def _changed(graph: fx.Graph) -> set[fx.Node]:
    """Return the inputs that an operation may change."""
    found = set()
    for node in graph.nodes:
        if getattr(getattr(node.target, "_schema", None), "is_mutable", False):
            written = next((node.kwargs[name] for name in WRITTEN if name in node.kwargs), node.args[0])
            found.add(_root(written))
        elif node.target is _aten.native_batch_norm.default:  # its schema does not say so
            found |= {_root(statistics) for statistics in node.args[3:5] if statistics is not None}
    return found


def _root(node: fx.Node) -> fx.Node:
    while node.op == "call_function" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node
