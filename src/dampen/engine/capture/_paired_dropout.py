"""Drop units by given rates and uniforms: members that share a seed share the uniforms, whatever their rates."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dampen.engine.capture._draws import DrawCall
from dampen.engine.capture._dropout_mode import CatchDropout
from dampen.engine.capture._sites import Kind, Placed
from dampen.engine.knobs.noise.dropout import alpha_dropout, dropout
from dampen.errors import InputError


class NotRepeated(RuntimeError):
    """A part of the forward pass runs again in the backward pass, with other random numbers than it had."""


class PairedDropout(CatchDropout):
    """Drops units by given rates and uniforms instead of the modules' own rates and torch's global generator.

    Checkpointing runs parts of the forward pass again in the backward pass, after it has set torch's generator back.
    So every place draws a number there: one that has been met before is of the same place.

    Args:
        rates: rate at each place of the forward pass.
        uniforms: uniforms for each place, of the place's shape.
        placed: what knobs do at other sites.
        own: random numbers for each place where the network draws its own.
    """

    def __init__(
        self,
        rates: Sequence[float],
        uniforms: Sequence[Tensor],
        placed: Placed | None = None,
        own: Sequence[Tensor] = (),
    ):
        super().__init__(placed)
        self._own = own
        self._rates, self._uniforms = rates, uniforms
        self._kinds = {"drop", *(kind for kind, _ in self._placed), *(["draw"] if own else [])}
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

    def drawn(self, number: int, draw: DrawCall) -> Any:
        """See `CatchDropout`; a call that the first forward pass did not show draws by the global generator."""
        if number < 0 or not draw.fits(self._own, number):
            return self.other(*draw.call)
        result = draw.result(self._own[number])
        return result if draw.target is None else self.changed(draw.target, result)

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
