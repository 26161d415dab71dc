"""Catch every kind of dropout in a forward pass, whoever calls it: a layer, a function, attention.

The user's module is never rewritten: a `TorchFunctionMode` sees each call of a torch function while the module runs.
"""

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dampen.errors import InputError
from dampen.knobs import Site
from dampen.knobs.dropout import Rates, alpha_dropout, dropout
from dampen.population._lineage import Lineage, addends
from dampen.population._turned import Placed
from dampen.population._where import ModulePath

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
        self._calls = 0
        self._placed = placed or {}
        self._sites: dict[str, int] = dict.fromkeys(("dropout", "weight", "map", "addend"), 0)
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
            dropped = self.drop(self._next(), kind, self.site("dropout", h), p, shape)
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
                return self.recurrent(self._next(), func, args, i, kwargs)
        if func in WEIGHTED:
            return self._weighted(func, args, kwargs)
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
        number = self._sites[kind]
        self._sites[kind] += 1
        for function in self._placed.get((kind, number), ()):
            h = function(h)
        return h

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

    def _next(self) -> int:
        self._calls += 1
        return self._calls - 1

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
            weights = self.drop(self._next(), "unit", self.site("dropout", weights), dropout_p, shape)
        return weights @ value


class RecordDropout(CatchDropout):
    """Notes in `places` where a forward pass drops units, in `functions` what else each module calls.

    `activation_bytes` is the size of what these functions returned.

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
        return result


class PairedDropout(CatchDropout):
    """Drops units by given rates and uniforms instead of the modules' own rates and torch's global generator.

    Args:
        rates: rate at each place of the forward pass.
        uniforms: uniforms for each place, of the shape that the place says.
        placed: what knobs do at other sites.
    """

    def __init__(self, rates: Sequence[float], uniforms: Sequence[Tensor], placed: Placed | None = None):
        super().__init__(placed)
        self._rates, self._uniforms = rates, uniforms

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Drop by the place's rate and uniforms."""
        function = alpha_dropout if kind == "alpha" else dropout
        return function(h, self._rates[number], self._uniforms[number])

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Drop at the place's rate; the noise is that of torch's global generator."""
        return func(*args[:place_of_p], self._rates[number], *args[place_of_p + 1 :], **kwargs)


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
