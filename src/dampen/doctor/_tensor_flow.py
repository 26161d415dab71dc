"""Watch a forward pass: which units it drops, from where the dropped tensor comes, and where it goes.

Every tensor that depends on the input carries a `Flow`. What is not understood ends a flow: the checks that read it
then see nothing rather than something wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dampen.doctor._intact import tensors_in
from dampen.engine.capture import CatchDropout, Kind, ModulePath


@dataclass
class Drop:
    """One active dropout of a forward pass.

    Args:
        module: path of the innermost module that called it.
        function: name of the torch function.
        p: its rate.
        shape: of what it dropped.
        source: flow of what it dropped.
        combined: whether what is left meets another tensor of the forward pass, or weights that it is matched with:
            attention weights do.
    """

    module: str
    function: str
    p: float
    shape: tuple[int, ...]
    source: "Flow"
    combined: bool = False


@dataclass(frozen=True)
class Flow:
    """What has happened to a tensor.

    Args:
        drop: the dropout that all of it went through since it last met another tensor; None if there is none.
        layers: layers with weights since then.
        linear: whether it leaves a layer with weights without an activation after it; probabilities that are made of
            such a tensor after it was dropped count as it does.
        softmax: whether it leaves a softmax.
        selu: whether it leaves a SELU.
    """

    drop: Drop | None = None
    layers: int = 0
    linear: bool = False
    softmax: bool = False
    selu: bool = False


@dataclass
class Trace:
    """What a forward pass showed.

    Args:
        drops: active dropouts, in order.
        normalised: BatchNorms with running statistics that a dropped tensor reached: module and flow.
        outputs: flows of the tensors that came out.
        working: paths of the modules in which a torch function was called.
        functions: names of the functions.
    """

    drops: list[Drop] = field(default_factory=list)
    normalised: list[tuple[str, Flow]] = field(default_factory=list)
    outputs: list[Flow] = field(default_factory=list)
    working: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)


class Watch(CatchDropout):
    """Fills `trace` while a model runs.

    Args:
        where: the module that a forward pass is in.
        inputs: the tensors that the model is given.
        dropping: whether units are dropped, at rates brought into 0 to 1; else dropout is the identity.
    """

    def __init__(self, where: ModulePath, inputs: Iterable[Tensor], *, dropping: bool) -> None:
        super().__init__()
        self.trace = Trace()
        self._where, self._dropping = where, dropping
        self._function: Any = None
        self._flows: dict[int, Flow] = {}
        self._kept: list[Tensor] = []  # an id means a tensor only as long as the tensor lives
        for t in inputs:
            self._set(t, Flow())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._function = func
        self.trace.working.add(self._where.current)
        self.trace.functions.add(_name(func))
        given = [t for t in tensors_in([args, kwargs or {}]) if id(t) in self._flows]
        if func is F.batch_norm:
            self._normalise(args)
        n_drops = len(self.trace.drops)
        result = super().__torch_function__(func, types, args, kwargs)
        if func is F.multi_head_attention_forward or not given:
            return result  # attention's own calls have been seen, one by one
        flow = self._after(_name(func), given, args, kwargs or {})
        own = self.trace.drops[n_drops:]
        if own and _name(func) not in _FRESH:
            flow = Flow(drop=own[-1], linear=own[-1].source.linear)
        for t in tensors_in(result):
            self._set(t, flow)
        return result

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Note the dropout, and drop or pass on."""
        if p == 0:
            return h.view_as(h)
        self.trace.drops.append(
            Drop(self._where.current, _name(self._function), p, tuple(h.shape), self._flows.get(id(h), Flow()))
        )
        if not self._dropping:
            return h.view_as(h)  # a tensor of its own: its flow differs from that of h, which others may use
        return h * F.dropout(torch.ones(shape, dtype=h.dtype, device=h.device), min(max(p, 0.0), 1.0))

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Note the dropout, and drop or pass on."""
        p = args[place_of_p]
        self.trace.drops.append(Drop(self._where.current, _name(func), p, (), Flow(), combined=True))
        p = min(max(p, 0.0), 1.0) if self._dropping else 0.0
        return func(*args[:place_of_p], p, *args[place_of_p + 1 :], **kwargs)

    def finish(self, output: Any) -> None:
        """Note what came out."""
        self.trace.outputs += [self._flows[id(t)] for t in tensors_in(output) if id(t) in self._flows]
        self._flows, self._kept = {}, []

    def _set(self, t: Tensor, flow: Flow) -> None:
        self._flows[id(t)] = flow
        self._kept.append(t)

    def _normalise(self, args: Any) -> None:
        flow = self._flows.get(id(args[0]))
        if flow is not None and flow.drop is not None and args[1] is not None:
            self.trace.normalised.append((self._where.current, flow))

    def _after(self, name: str, given: list[Tensor], args: Any, kwargs: Any) -> Flow:
        """Return the flow of what a function makes of tensors with flows."""
        values = {id(t): t for t in given if t.is_floating_point()}
        flows = [self._flows[key] for key in values]
        if not flows:
            return Flow()
        if len(flows) > 1 or name in _PRODUCTS:
            for flow in flows:
                if flow.drop is not None and (name in _PRODUCTS or any(other.drop is not flow.drop for other in flows)):
                    flow.drop.combined = True
        combined = flows[0]
        if name in _WEIGHTED or (name in _PRODUCTS and len(flows) == 1):
            return Flow(combined.drop, combined.layers + 1, linear=True)
        if name in _PRODUCTS or name in _FRESH:
            return Flow()
        if any(flow.drop is not combined.drop for flow in flows):
            combined = replace(combined, drop=None, layers=0)
        linear = all(flow.linear for flow in flows)
        if name in _SHAPES:
            return replace(combined, linear=linear)
        if name in _ARITHMETIC:
            return replace(combined, linear=linear and (len(flows) == 1 or name in _SUMS), softmax=False, selu=False)
        probabilities = "softmax" in name or name == "sigmoid"
        linear = linear and probabilities and combined.drop is not None and combined.layers == 0
        return Flow(combined.drop, combined.layers, linear, "softmax" in name, "selu" in name)


def _name(func: Any) -> str:
    return getattr(func, "__name__", "").strip("_")


_CONVOLUTIONS = {f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)}
_WEIGHTED = {"linear", "bilinear", *_CONVOLUTIONS}
_PRODUCTS = {"matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum"}
_FRESH = {  # what comes out has a variance of its own, whatever was dropped before
    *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "embedding", "embedding_bag"),
    "scaled_dot_product_attention",
    *("gru", "lstm", "rnn_tanh", "rnn_relu", "gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"),
}
_SHAPES = {
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "squeeze", "unsqueeze", "contiguous"),
    *("expand", "view_as", "reshape_as", "getitem", "get", "chunk", "split", "unbind", "select", "narrow", "clone"),
    *("detach", "to", "float", "double", "half", "bfloat16", "type", "type_as", "movedim", "swapaxes", "cat", "stack"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
}
_SUMS = {"add", "radd", "iadd", "sub", "rsub", "isub"}
_ARITHMETIC = {*_SUMS, "mul", "rmul", "imul", "div", "truediv", "itruediv", "neg"}
