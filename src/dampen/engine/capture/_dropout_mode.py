"""Catch every kind of dropout in a forward pass, whoever calls it: a layer, a function, attention.

The user's module is never rewritten: a `TorchFunctionMode` sees each call of a torch function while the module runs.
"""

import contextlib
import math
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from dampen.engine.capture._module_path import ModulePath
from dampen.engine.capture._residual import Lineage, addends
from dampen.engine.execution._active_knobs import Placed
from dampen.engine.knobs import Site
from dampen.engine.knobs.noise.dropout import Rates, alpha_dropout, dropout
from dampen.errors import InputError

Kind = Literal["unit", "alpha", "recurrent"]


@dataclass(frozen=True)
class Place:
    """One place of a forward pass where units are dropped.

    Args:
        module: path of the innermost module that calls it.
        kind: `unit` for dropout of units or channels, `alpha` for alpha dropout, `recurrent` for the dropout between
            the layers of a `nn.GRU`, `nn.LSTM` or `nn.RNN`.
        p: the rate that the network gives.
        shape: of the uniforms that decide, for one member.
    """

    module: str
    kind: Kind
    p: float
    shape: tuple[int, ...]


class CatchDropout(TorchFunctionMode):
    """Hands each active dropout to `drop`, with its number in the forward pass; other functions go to `other`.

    Args:
        placed: what knobs do at other sites of the forward pass.
    """

    in_place = True
    """Whether a dropout that is asked for in place changes its input; if not, it only returns what it dropped."""
    attends = False
    """Whether attention that drops nothing is written out, too: torch's own kernel runs no population."""

    def __init__(self, placed: Placed | None = None) -> None:
        super().__init__()
        self._placed = placed or {}
        self._seen: dict[str, int] = {}
        self._adds = any(kind == "addend" for kind, _ in self._placed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _READ:
            read, kind, batch_ndim = _READ[func]
            h, p, training, inplace = read(*args, **kwargs)
            if not training:
                return h
            shape = tuple(h.shape)
            if batch_ndim:  # whole channels; a tensor without a batch dimension starts with them
                leading = 2 if h.ndim >= batch_ndim else 1
                shape = (*shape[:leading], *[1] * (h.ndim - leading))
            dropped = self.drop(self.number("drop"), kind, self.site("dropout", h), p, shape)
            return h.copy_(dropped) if inplace and self.in_place else dropped
        if func is F.scaled_dot_product_attention:
            arguments = _attention_arguments(*args, **kwargs)
            if arguments["dropout_p"] > 0 or self.attends:
                return self._attention(**arguments)
        if func is F.multi_head_attention_forward:
            with self:  # a mode is off while it handles a call: on again for the attention's own calls
                return _attention_body(*args, **kwargs)
        if getattr(func, "__name__", "") in _RECURRENT:
            i = 5 if isinstance(args[3], bool) else 6  # packed sequences have one argument more
            if args[i] > 0 and args[i + 1]:
                return self.recurrent(self.number("drop"), func, args, i, kwargs)
        if func in WEIGHTED:
            return self._weighted(func, args, kwargs)
        if func in _SPARSE:  # a stacked gradient is dense
            i = _SPARSE[func]
            args, kwargs = (
                ((*args[:i], False, *args[i + 1 :]), kwargs) if len(args) > i else (args, kwargs | {"sparse": False})
            )
        if self._adds and (pair := addends(func, args, kwargs)) is not None:
            return self.added(func, args, kwargs, pair)
        return self.other(func, args, kwargs)

    def added(self, func: Any, args: Any, kwargs: Any, pair: tuple[Tensor, Tensor]) -> Any:
        """Add two tensors of one shape, each as the knobs at its site have it."""
        left, right = (self.site("addend", t) for t in pair)
        if left is pair[0] and right is pair[1]:
            return self.other(func, args, kwargs)
        total = torch.add(left, right, alpha=kwargs.get("alpha", 1))
        return pair[0].copy_(total) if func.__name__ in ("add_", "__iadd__") else total

    def site(self, kind: str, h: Tensor) -> Tensor:
        """Return a tensor as the knobs at its site have it."""
        for function in self._placed.get((kind, self.number(kind)), ()):
            h = function(h)
        return h

    def number(self, kind: str) -> int:
        """Return how many of a kind the forward pass has met before this one."""
        number = self._seen.get(kind, 0)
        self._seen[kind] = number + 1
        return number

    def _weighted(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a linear layer or a convolution."""
        if len(args) > 1:
            args = (args[0], self.site("weight", args[1]), *args[2:])
        else:
            kwargs = kwargs | {"weight": self.site("weight", kwargs["weight"])}
        result = self.other(func, args, kwargs)
        return result if func is F.linear else self.site("map", result)

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop units of `h` by uniforms of this shape."""
        raise NotImplementedError

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Run a recurrent network with dropout between its layers; `args[place_of_p]` is its rate."""
        raise NotImplementedError

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function that drops nothing."""
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        dropout_p: float,
        is_causal: bool,
        scale: float | None,
        enable_gqa: bool,
    ) -> Tensor:
        """Attend as `F.scaled_dot_product_attention` documents it, with our dropout on the attention weights."""
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
        L, S = query.shape[-2], key.shape[-2]
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(L, S, dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
            else:
                scores = scores + attn_mask
        weights = scores.softmax(-1)
        if dropout_p > 0:
            shape = tuple(weights.shape)
            weights = self.drop(self.number("drop"), "unit", self.site("dropout", weights), dropout_p, shape)
        return weights @ value


_SHAPES = ("squeeze", "unsqueeze", "flatten", "ravel", "view", "reshape", "contiguous", "__getitem__", "select")


class RecordDropout(CatchDropout):
    """Notes in `places` where a forward pass drops units, in `functions` what else each module calls.

    `activation_bytes` is the size of what these functions returned, `last` the id of what the last one returned and the
    last function that did more than give it another shape.

    Args:
        where: knows which module a forward pass is in.
        additions: whether to look for residual branches, too: it holds every tensor of the forward pass.
    """

    def __init__(self, where: ModulePath, additions: bool = False) -> None:
        super().__init__()
        self._adds = additions
        self._lineage = Lineage() if additions else None
        self.places: list[Place] = []
        self.sites: list[Site] = []
        self.functions: dict[str, set[Any]] = {}
        self.activation_bytes = 0
        self.last: tuple[int, str] = 0, ""
        self._where = where

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if self._lineage is not None:
            self._lineage.note(func, args, kwargs or {}, result)
        return result

    def added(self, func: Any, args: Any, kwargs: Any, pair: tuple[Tensor, Tensor]) -> Any:
        """Note both sites, and whether one of the tensors is a residual branch."""
        branch = self._lineage.branch(*pair, self._where.given) if self._lineage else None
        for place, t in enumerate(pair):
            self.sites.append(Site("addend", self._where.current, tuple(t.shape), residual=place == branch))
        return self.other(func, args, kwargs)

    def site(self, kind: Any, h: Tensor) -> Tensor:
        """Note the site."""
        self.sites.append(Site(kind, self._where.current, tuple(h.shape)))
        return h

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Note the place and drop nothing."""
        self.places.append(Place(self._where.current, kind, p, shape))
        return h

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Note the place and drop nothing."""
        self.places.append(Place(self._where.current, "recurrent", args[place_of_p], ()))
        return func(*args[:place_of_p], 0.0, *args[place_of_p + 1 :], **kwargs)

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note the call."""
        self.functions.setdefault(self._where.current, set()).add(func)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.activation_bytes += result.nbytes
            name = getattr(func, "__name__", "")
            shaped = name in _SHAPES and args and id(args[0]) == self.last[0]
            self.last = id(result), self.last[1] if shaped else name
        return result


class NotRepeated(RuntimeError):
    """A part of the forward pass runs again in the backward pass, with other random numbers than it had."""


class PairedDropout(CatchDropout):
    """Drops units by given rates and uniforms instead of the modules' own rates and torch's global generator.

    Checkpointing runs parts of the forward pass again in the backward pass, after it has set torch's generator back.
    So every place draws a number there: one that has been met before is of the same place.

    Args:
        rates: rate at each place of the forward pass.
        uniforms: uniforms for each place, of the shape that the place says.
        placed: what knobs do at other sites.
    """

    def __init__(self, rates: Sequence[float], uniforms: Sequence[Tensor], placed: Placed | None = None):
        super().__init__(placed)
        self._rates, self._uniforms = rates, uniforms
        self._kinds = {"drop", *(kind for kind, _ in self._placed)}
        self._met: dict[tuple[str, int], int] = {}
        self._again = False

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Be on while the backward pass runs."""
        self._again = True
        try:
            with self:
                yield
        finally:
            self._again = False

    def number(self, kind: str) -> int:
        """See `CatchDropout`; the number that a place had where it runs again."""
        if kind not in self._kinds:
            return -1
        drawn = kind, int(torch.empty((), dtype=torch.int64).random_())
        if not self._again:
            self._met[drawn] = super().number(kind)
        elif drawn not in self._met:
            if kind == "addend":  # hooks on gradients add, too
                return -1
            raise NotRepeated
        return self._met[drawn]

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop by the place's rate and uniforms."""
        if number >= len(self._rates):
            raise InputError(
                "the network drops units in more places than in its first forward pass: let it call its dropout in "
                "every forward pass of training, with F.dropout(x, 0.0) where nothing is to be dropped"
            )
        function = alpha_dropout if kind == "alpha" else dropout
        return function(h, self._rates[number], self._uniforms[number])

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function that drops nothing; a backward pass with this mode on, for what runs again in it."""
        if func is torch.autograd.backward:
            tensors = args[0] if isinstance(args[0], tuple | list) else (args[0],)
            grads = _given(kwargs.pop("grad_tensors", None), tensors)
            inputs = kwargs.pop("inputs", None)
            with self:  # edges of the graph instead of tensors: those are handed to modes, which are off then
                return func(_edges(tensors), grads, **kwargs, inputs=None if inputs is None else _edges(inputs))
        if func is torch.autograd.grad:
            outputs, inputs = args[:2]
            grads = _given(kwargs.pop("grad_outputs", None), outputs)
            with self:
                return func(_edges(outputs), _edges(inputs), grads, **kwargs)
        return func(*args, **kwargs)

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Drop at the place's rate; the noise is that of torch's global generator."""
        return func(*args[:place_of_p], self._rates[number], *args[place_of_p + 1 :], **kwargs)


def _edges(tensors: Sequence[Tensor]) -> tuple[GradientEdge, ...]:
    return tuple(get_gradient_edge(t) if isinstance(t, Tensor) else t for t in tensors)


def _given(gradients: Any, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients that a backward pass starts from, ones where none are given."""
    given = [gradients] if isinstance(gradients, Tensor) else gradients or [None] * len(of)
    return tuple(torch.ones_like(t) if g is None else g for g, t in zip(given, of, strict=True))


def rates_at(value: Rates | None, places: Sequence[Place]) -> list[float]:
    """Return the rate at each place of a forward pass under a setting's `dropout`; None keeps the network's own.

    Raises:
        InputError: the setting names another number of rates than there are places, or a module that drops nothing.
    """
    if value is None:
        return [place.p for place in places]
    if not isinstance(value, tuple):
        return [float(value)] * len(places)
    if value and isinstance(value[0], tuple):
        return _rates_by_name(dict(value), places)  # type: ignore[arg-type]
    if len(value) != len(places):
        raise InputError(
            f"dropout names {len(value)} rates, but the network drops units in {len(places)} places: give one rate "
            "for each, or a single rate for all"
        )
    return [float(rate) for rate in value]  # type: ignore[arg-type]


def set_rates(network: nn.Module, places: Sequence[Place], rates: Sequence[float]) -> None:
    """Let a network's own layers drop at these rates; what functions are called with stays as the network says."""
    for place, rate in zip(places, rates, strict=True):
        module = network.get_submodule(place.module)
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = rate


def _rates_by_name(by_name: dict[str, float], places: Sequence[Place]) -> list[float]:
    """Return each place's rate: that of the longest given name which is its module or contains it."""

    def holds(name: str, module: str) -> bool:
        return name == module or module.startswith(f"{name}.")

    for name in by_name:
        if not any(holds(name, place.module) for place in places):
            named = ", ".join(dict.fromkeys(repr(place.module) for place in places)) or "none"
            raise InputError(f"dropout names the module {name!r}, which drops nothing; those that do are {named}")
    found: list[float] = []
    for place in places:
        names = [name for name in by_name if holds(name, place.module)]
        found.append(by_name[max(names, key=len)] if names else place.p)
    return found


def _dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: bool | None = None
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training if train is None else train, inplace


def _alpha(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *, train: bool | None = None
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training if train is None else train, inplace


def _in_place(input: Tensor, p: float, train: bool) -> tuple[Tensor, float, bool, bool]:
    return input, p, train, True


def _attention_arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    return locals()


def _without_override_check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a torch function written in Python whose body runs although a mode is on: it hands nothing to it."""
    scope = dict(function.__globals__) | {"has_torch_function": lambda *_: False}
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_attention_body = _without_override_check(F.multi_head_attention_forward)
WEIGHTED = {F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
_SPARSE: dict[Any, int] = {F.embedding: 6, F.embedding_bag: 7}  # and the place of `sparse` among their arguments
_RECURRENT = {"gru", "lstm", "rnn_tanh", "rnn_relu"}
# How a call is read, what it drops and, for whole channels, how many dimensions a batch has at least.
_READ: dict[Any, tuple[Callable[..., tuple[Tensor, float, bool, bool]], Kind, int]] = {
    F.dropout: (_dropout, "unit", 0),
    torch.dropout: (_dropout, "unit", 0),
    torch.dropout_: (_in_place, "unit", 0),
    F.dropout1d: (_dropout, "unit", 3),
    F.dropout2d: (_dropout, "unit", 2),
    F.dropout3d: (_dropout, "unit", 5),
    torch.feature_dropout: (_dropout, "unit", 2),
    torch.feature_dropout_: (_in_place, "unit", 2),
    F.alpha_dropout: (_alpha, "alpha", 0),
    torch.alpha_dropout: (_dropout, "alpha", 0),
    torch.alpha_dropout_: (_in_place, "alpha", 0),
    F.feature_alpha_dropout: (_alpha, "alpha", 2),
    torch.feature_alpha_dropout: (_dropout, "alpha", 2),
    torch.feature_alpha_dropout_: (_in_place, "alpha", 2),
}
