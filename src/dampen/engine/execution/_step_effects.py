"""What the active knobs add to one training step: to its batch, to its losses and to its forward pass."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dampen.engine import _losses
from dampen.engine.capture import Placed
from dampen.engine.knobs import KNOBS, OnActivation, OnBatch, Site


@dataclass(frozen=True)
class ActiveSite:
    """An activation knob, in one of its ways, at a site, the `number`th of its kind in the forward pass."""

    knob: str
    way: str
    acts: OnActivation
    site: Site
    number: int


@dataclass(frozen=True)
class StepEffects:
    """What knobs bring to the batch and to the forward pass of one step.

    Args:
        batch: knobs on the batch, and how many tensors each has.
        at: where activation knobs act.
        of_batch: the former's tensors, `[S or 1, M or 1, ...]` each.
        rates: of the latter, `[M, places]`.
        draws: noise of each, `[S, ...]`.
    """

    batch: tuple[tuple[str, int], ...] = ()
    at: tuple[ActiveSite, ...] = ()
    of_batch: list[Tensor] = field(default_factory=list)
    rates: Float[Tensor, "M places"] | None = None
    draws: list[Tensor] = field(default_factory=list)

    @property
    def key(self) -> tuple[Any, ...]:
        """What must agree for a recorded step to serve again."""
        shapes = tuple(tuple(t.shape) for t in (*self.of_batch, *self.draws))
        return self.batch, tuple((site.knob, site.way, site.site.kind, site.number) for site in self.at), shapes

    def tensors(self) -> list[Tensor]:
        """Return what a recorded step takes."""
        return [*self.of_batch, *([self.rates] if self.at and self.rates is not None else []), *self.draws]

    def given(self, tensors: Sequence[Tensor]) -> "StepEffects":
        """Return the same with other tensors, in the order of `tensors()`."""
        n = len(self.of_batch)
        if not self.at:
            return replace(self, of_batch=list(tensors))
        return replace(self, of_batch=list(tensors[:n]), rates=tensors[n], draws=list(tensors[n + 1 :]))

    def only(self, s: int, m: int | None = None) -> "StepEffects":
        """Return what one member takes, with axes of length 1, or all of a seed's."""
        settings = slice(None) if m is None else slice(m, m + 1)
        of_seed = [t[s : s + 1] if len(t) > 1 else t for t in self.of_batch]
        of_batch = [t[:, settings] if t.shape[1] > 1 else t for t in of_seed]
        rates = None if self.rates is None else self.rates[settings]
        return replace(self, of_batch=of_batch, rates=rates, draws=[t[s : s + 1] for t in self.draws])

    def inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return what members are shown, `[S, M or 1, B, ...]`, of a batch `[S, B, ...]`."""
        shown = [t.unsqueeze(1) for t in inputs]
        for acts, tensors in self._on_batch():
            if acts.inputs is not None:
                shown = acts.inputs(shown, *tensors)
        return shown

    @property
    def changes_inputs(self) -> bool:
        """Whether members are shown something else than the rows."""
        return any(acts.inputs is not None for acts, _ in self._on_batch())

    @property
    def changes_losses(self) -> bool:
        """Whether members are compared by something else than the loss."""
        return any(acts.losses is not None for acts, _ in self._on_batch())

    def losses(self, loss: _losses.RowLoss, outputs: Tensor, targets: Tensor) -> Float[Tensor, "S M B"]:
        """Return the losses of outputs `[S, M, B, ...]` and targets `[S, B, ...]`."""
        if isinstance(loss, _losses.Weighted):
            plain, weights = targets[..., 0], targets[..., 1]
            each = self.losses(loss.loss, outputs, plain.long() if loss.classes else plain)
            return each * weights.to(each.dtype).unsqueeze(1)
        of: Callable[[Tensor, Tensor], Tensor] = partial(_losses.stacked, loss)
        for acts, tensors in self._on_batch():
            if acts.losses is not None:
                of = partial(_with_tensors, acts.losses, of, tensors)
        return of(outputs, targets)

    def placed(self, rates: Tensor | None, draws: Sequence[Tensor]) -> Placed:
        """Return what happens where, from one member's rates and one seed's noise."""
        placed: Placed = {}
        for i, (site, noise) in enumerate(zip(self.at, draws, strict=True)):
            assert rates is not None
            function = partial(_applied, site.acts.apply, rates[i], noise)
            placed.setdefault((site.site.kind, site.number), []).append(function)
        return placed

    def _on_batch(self) -> Iterator[tuple[OnBatch, list[Tensor]]]:
        rest = iter(self.of_batch)
        for name, count in self.batch:
            acts = KNOBS[name].acts
            assert isinstance(acts, OnBatch)
            yield acts, [next(rest) for _ in range(count)]


NOTHING = StepEffects()


def _applied(apply: Callable[..., Tensor], rate: Tensor, noise: Tensor, h: Tensor) -> Tensor:
    return apply(h, rate, noise)


def _with_tensors(
    losses: Callable[..., Tensor],
    loss: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    outputs: Tensor,
    targets: Tensor,
) -> Tensor:
    return losses(loss, outputs, targets, *tensors)


@contextlib.contextmanager
def following(network: nn.Module, placed: Placed, number: Callable[[str], int] | None = None) -> Iterator[None]:
    """While entered, let what acts on modules change what they return; `number` counts those that have returned."""
    hooks: list[Any] = []
    if any(kind == "module" for kind, _ in placed):
        count = iter(range(1 << 62))
        numbered = number or (lambda _kind: next(count))

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            for function in placed.get(("module", numbered("module")), []):
                output = function(output)
            return output

        hooks = [module.register_forward_hook(hook) for module in network.modules()]
    try:
        yield
    finally:
        for registered in hooks:
            registered.remove()
