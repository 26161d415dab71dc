"""Knobs on gradients and weights, around the optimizer's step: for stacked parameters, and for one network's."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.errors import InputError


class AroundStep:
    """What the active knobs do to the decaying parameters of some members around each step.

    Args:
        active: the knobs of the M settings.
        names: of the trained parameters.
        parameters: `[*lead, ...]` each; changed in place.
        decayed: for each, whether it decays.
        lr: peak learning rate of each member, `[*lead]`.
        start: initial weights by name, which broadcast against the parameters, if a knob needs them.

        normalised: names of those whose layer a normalisation follows.

    Raises:
        InputError: a knob that finds no parameter to act on.
    """

    def __init__(
        self,
        active: ActiveKnobs,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        decayed: Sequence[bool],
        lr: Float[Tensor, "..."],
        start: Mapping[str, Tensor],
        normalised: Collection[str] = (),
    ):
        self._lead = lead = lr.ndim
        every = list(zip(range(len(names)), names, parameters, decayed, strict=True))
        on = [(i, name, p) for i, name, p, yes in every if yes]
        self._gradient: list[Any] = []
        self._before: list[Any] = []
        self._after: list[Any] = []
        self._update: list[Any] = []
        self._kept: list[Tensor] = []  # what the last of these act on, as it was before the optimizer's step
        self._lr = lr.contiguous()
        self._thresholds = [(knob.name, acts.threshold, active.numbers(knob)) for knob, acts in active.weights]

        for knob, acts in active.gradient:
            values = active.numbers(knob)
            self._refuse(knob.name, on)
            for i, name, p in on:
                first = start[name] if acts.needs_start else None
                self._gradient.append((knob.name, i, p, acts.gradient, self._column(values, p), first))
        for knob, acts in active.weights:
            values = active.numbers(knob)
            acted_on = [entry for entry in on if entry[2].ndim - lead >= 2] if acts.matrices else on
            self._refuse(knob.name, acted_on)
            for _, name, p in acted_on:
                where = self._before if acts.when == "before" else self._after
                columns = self._column(values, p), self._column(lr, p)
                where.append((knob.name, p, acts.function, *columns, acts.rate, name in normalised))
        for knob, acts in active.updates:
            values = active.numbers(knob)
            self._refuse(knob.name, on)
            for _, _, p in on:
                self._update.append((knob.name, p, acts.function, self._column(values, p), self._column(lr, p)))

    @staticmethod
    def _refuse(name: str, parameters: Sequence[object]) -> None:
        if not parameters:
            raise InputError(
                f"{name} finds no weight to act on: it takes those that decay; choose them with decay_filter=, or "
                "leave it out"
            )

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._gradient or self._before or self._after or self._update)

    @property
    def shrinks_only(self) -> bool:
        """Whether all there is to do is to move weights towards 0, by `thresholds`."""
        return not (self._gradient or self._update) and all(threshold for _, threshold, _ in self._thresholds)

    def thresholds(self, factor: float, scales: Mapping[str, Tensor]) -> Float64[Tensor, "*lead"]:
        """Return by how much each member's decaying weights move towards 0; arguments as `before`."""
        total, lr = torch.zeros_like(self._lr), self._lr * factor
        for name, threshold, values in self._thresholds:
            if threshold is not None:
                total += threshold(values * scales[name] if name in scales else values, lr)
        return total

    @torch.no_grad()
    def before(self, gradients: Sequence[Tensor], factor: float, scales: Mapping[str, Tensor]) -> None:
        """Add penalties to the gradients, and change weights before the optimizer's step.

        Args:
            gradients: of all parameters, changed in place.
            factor: the schedule's share of the peak learning rate.
            scales: share of each member's value of those knobs that a schedule moves, `[M]` each.
        """
        for name, i, p, gradient, value, start in self._gradient:
            gradients[i].add_(gradient(p, self._now(value, name, p, scales), start))
        self._change(self._before, factor, scales)
        self._kept = [p.clone() for _, p, *_ in self._update]

    @torch.no_grad()
    def after(self, factor: float, scales: Mapping[str, Tensor]) -> None:
        """Change weights after the optimizer's step; arguments as `before`."""
        for (name, p, function, value, lr), kept in zip(self._update, self._kept, strict=True):
            p.copy_(function(p, kept, self._now(value, name, p, scales), lr * factor))
        self._kept = []
        self._change(self._after, factor, scales)

    def _change(self, these: Sequence[Any], factor: float, scales: Mapping[str, Tensor]) -> None:
        for name, p, function, value, lr, rate, followed in these:
            now = lr * factor if rate is None else rate(lr, factor, followed)
            p.copy_(function(p, self._now(value, name, p, scales), now, self._lead))

    def _now(self, value: Tensor, name: str, p: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
        return value * self._column(scales[name], p) if name in scales else value

    def _column(self, values: Tensor, p: Tensor) -> Tensor:
        """Return a number for each member so that it broadcasts against a parameter."""
        if not self._lead:
            return values.reshape(()).to(p.device, p.dtype)
        values = values.to(p.device, p.dtype).expand(p.shape[: self._lead])
        return values.reshape(*values.shape, *[1] * (p.ndim - self._lead))
