"""Averages of the weights: what members that keep one are evaluated with, and end as."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from dampen.engine.execution._active_knobs import ActiveKnobs

_RUNNING = ("running_mean", "running_var")


class Average:
    """An average of everything that members are: parameters and buffers; those that are not numbers are copied.

    Args:
        active: the knobs of the M settings.
        state: parameters and buffers, `[S, M, ...]` each.
        tensors: an average to go on with.
    """

    def __init__(self, active: ActiveKnobs, state: Sequence[Tensor], tensors: Sequence[Tensor] | None = None):
        self._settings = M = len(active.settings)
        self.tensors = [t.detach().clone() for t in (state if tensors is None else tensors)]
        self._kept = [
            (m, setting[knob.name], acts)
            for knob, acts in active.averages
            for m, setting in enumerate(active.settings)
            if knob.on(setting)
        ]
        on = {m for m, _, _ in self._kept}
        self._on = None if len(on) == M else torch.tensor([m in on for m in range(M)])

    @torch.no_grad()
    def update(
        self, each: Literal["step", "epoch"], state: Sequence[Tensor], done: int, of: int, held: Bool[Tensor, "S M"]
    ) -> None:
        """Take the present weights into the averages that are renewed at this occasion.

        Args:
            each: the occasion.
            state: `[S, M, ...]` each.
            done: how many steps or epochs are done.
            of: of how many.
            held: members whose average changes no more.
        """
        shares = self.shares(each, done, of, held)
        if shares is None:
            return
        shares = shares.to(state[0].device)
        for average, t in zip(self.tensors, state, strict=True):
            weights = shares.view(*shares.shape, *[1] * (t.ndim - 2))
            if t.is_floating_point() and held.any():  # of what has diverged even no share is no number
                average.copy_(torch.where(weights > 0, average.lerp(t, weights.to(t.dtype)), average))
            elif t.is_floating_point():
                average.lerp_(t, weights.to(t.dtype))
            else:
                average.copy_(torch.where(weights > 0, t, average))

    @property
    def each_step(self) -> bool:
        """Whether a step renews any."""
        return any(acts.each == "step" for _, _, acts in self._kept)

    def shares(
        self, each: Literal["step", "epoch"], done: int, of: int, held: Bool[Tensor, "S M"]
    ) -> Float64[Tensor, "S M"] | None:
        """Return the share of the present weights in each member's new average; None where none is renewed.

        Arguments as for `update`.
        """
        renewed = {m: acts.share(value, done, of) for m, value, acts in self._kept if acts.each == each}
        if not renewed:
            return None
        share = torch.tensor([renewed.get(m, 0.0) for m in range(self._settings)], dtype=torch.float64)
        return torch.where(held.cpu(), 0.0, share)

    def shown(self, state: Sequence[Tensor]) -> list[Tensor]:
        """Return what members are evaluated with: the average, or the weights of those that keep none."""
        if self._on is None:
            return list(self.tensors)
        on = self._on.to(state[0].device)
        return [torch.where(on.view(-1, *[1] * (t.ndim - 2)), a, t) for a, t in zip(self.tensors, state, strict=True)]

    def stale(self, done: int, of: int) -> Bool[Tensor, " M"]:
        """Return whose running statistics must be found anew after `done` epochs of `of`."""
        stale = torch.zeros(self._settings, dtype=torch.bool)
        for m, value, acts in self._kept:
            if acts.recompute:
                stale[m] = acts.share(value, done, of) < 1
        return stale


def running_statistics(network: nn.Module) -> list[str]:
    """Return the names of the buffers that hold running statistics of activations."""
    return [
        f"{name}.{buffer}".removeprefix(".")
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None
        for buffer in _RUNNING
    ]


@contextlib.contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """While entered, let a pass in training mode leave its own batch's statistics in the running ones."""
    modules = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [m.momentum for m in modules]
    try:
        for module in modules:
            module.momentum = 1.0
        yield
    finally:
        for module, momentum in zip(modules, momenta, strict=True):
            module.momentum = momentum
