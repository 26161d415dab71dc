"""The knobs that some of a chunk's settings turn, and what they bring to one training step.

A knob that none of them turns is not here: it costs nothing, and what is recorded knows nothing of it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.engine import _losses
from dampen.engine._rng import StepDraws
from dampen.engine.knobs import (
    KNOBS,
    Averages,
    Knob,
    OnActivation,
    OnBatch,
    OnGradient,
    OnWeights,
    Scales,
    Setting,
    Site,
    Variants,
)
from dampen.errors import InputError


class Turned:
    """The knobs that at least one of some settings turns, by where they enter.

    Args:
        settings: the M settings.
    """

    def __init__(self, settings: Sequence[Setting]):
        self.settings = tuple(settings)
        on = [knob for knob in KNOBS.values() if any(knob.on(setting) for setting in self.settings)]
        self.gradient = [(k, k.acts) for k in on if isinstance(k.acts, OnGradient)]
        self.weights = [(k, k.acts) for k in on if isinstance(k.acts, OnWeights)]
        self.batch = [(k, k.acts) for k in on if isinstance(k.acts, OnBatch)]
        self.activation = [
            *((k, "", k.acts) for k in on if isinstance(k.acts, OnActivation)),
            *((k, *way) for k in on if isinstance(k.acts, Variants) for way in k.acts.of(self.values(k)).items()),
        ]
        self.averages = [(k, k.acts) for k in on if isinstance(k.acts, Averages)]
        self._scales = [(k, k.acts) for k in on if isinstance(k.acts, Scales)]
        self._rates: dict[tuple[Site, ...], tuple[tuple[_At, ...], Tensor]] = {}

    @property
    def key(self) -> tuple[str, ...]:
        """What must agree for two chunks to run the same operations: the knobs inside the recorded step."""
        return tuple(knob.name for knob, *_ in (*self.batch, *self.activation))

    @property
    def additions(self) -> bool:
        """Whether a knob acts on what is added."""
        return any(acts.kind == "addend" for _, _, acts in self.activation)

    def values(self, knob: Knob) -> list[Any]:
        """Return each setting's value, the neutral one where a setting does not turn the knob."""
        beside = KNOBS[knob.acts.beside] if isinstance(knob.acts, Variants) else None
        own = [setting.get(knob.name, knob.neutral) for setting in self.settings]
        if beside is None:
            return own
        return [(mine, s.get(beside.name, beside.neutral)) for mine, s in zip(own, self.settings, strict=True)]

    def numbers(self, knob: Knob) -> Float[Tensor, " M"]:
        """Return each setting's number, float64."""
        return torch.tensor(self.values(knob), dtype=torch.float64)

    def scales(self, step: int, steps: int) -> dict[str, Float[Tensor, " M"]]:
        """Return the share of a knob's value that each setting has at a step, for the knobs that a schedule moves."""
        found: dict[str, Tensor] = {}
        for knob, acts in self._scales:
            shares = [acts.factor(s[knob.name], step, steps) if knob.on(s) else 1.0 for s in self.settings]
            found |= dict.fromkeys(acts.of, torch.tensor(shares, dtype=torch.float64))
        return found

    @property
    def busiest(self) -> int:
        """Number of the setting that turns most knobs."""
        return max(range(len(self.settings)), key=lambda m: sum(k.on(self.settings[m]) for k in KNOBS.values()))

    def check(
        self, loss: _losses.RowLoss, sites: Sequence[Site], drops: bool, inputs: Sequence[Tensor], targets: Tensor
    ) -> None:
        """Refuse knobs that can't act on this network, these rows `[S, B, ...]` or this loss.

        Args:
            loss: of each row.
            sites: of the network's forward pass.
            drops: whether the network drops units anywhere.
            inputs: `[S, B, ...]` each.
            targets: `[S, B, ...]`.

        Raises:
            InputError: there is one.
        """
        for knob, acts in self._scales:
            if "dropout" in acts.of and not drops and not any(of in s for s in self.settings for of in acts.of):
                raise InputError(f"{knob.name} moves {', '.join(acts.of)}: no setting turns one of these")
        for knob in KNOBS.values():
            if isinstance(knob.acts, Variants):
                beside = knob.acts.beside
                if any(beside in s and knob.name not in s for s in self.settings):
                    raise InputError(f"{beside} acts through {knob.name}: turn that, too, or leave it out")
        for knob, acts in self.batch:
            if acts.losses is not None and isinstance(loss, _losses.Weighted):  # it would take weights for targets
                raise InputError(
                    f"{knob.name} changes losses, which rows with weights don't allow: leave one of them out"
                )
            if acts.loss is not None and loss is not _losses.LOSSES[acts.loss]:
                raise InputError(f"{knob.name} changes the loss {acts.loss} only: leave it out, or use that loss")
            acts.draw(self.values(knob), StepDraws([0] * len(targets), 0, knob.name, targets.device), inputs, targets)
        self._sites(tuple(sites))

    def at(
        self,
        seeds: Sequence[int],
        step: int,
        sites: Sequence[Site],
        inputs: Sequence[Tensor],
        targets: Tensor,
        scales: Mapping[str, Float[Tensor, " M"]] | None = None,
    ) -> "Extra":
        """Return what the knobs bring to a step.

        Args:
            seeds: the S seeds.
            step: its number, from 0.
            sites: of the network's forward pass on such a batch.
            inputs: `[S, B, ...]` each.
            targets: `[S, B, ...]`.
            scales: share of its rate at which a knob acts now, by knob (see `scales`).
        """
        if not self.batch and not self.activation:
            return NOTHING
        of_batch = [
            acts.draw(self.values(knob), StepDraws(seeds, step, knob.name, targets.device), inputs, targets)
            for knob, acts in self.batch
        ]
        at, rates = self._sites(tuple(sites))
        if scales and at:
            ones = rates.new_ones(len(self.settings))
            rates = rates * torch.stack([scales.get(one.knob, ones) for one in at], 1)
        draws = [
            one.acts.draw(StepDraws(seeds, step, f"{one.knob}/{one.number}", targets.device), one.site) for one in at
        ]
        counts = tuple((knob.name, len(tensors)) for (knob, _), tensors in zip(self.batch, of_batch, strict=True))
        return Extra(
            counts, at, [t for tensors in of_batch for t in tensors], rates.to(targets.device) if at else None, draws
        )

    def _sites(self, sites: tuple[Site, ...]) -> "tuple[tuple[_At, ...], Tensor]":
        """Return where activation knobs act, and each setting's rate there, `[M, places]`."""
        if sites not in self._rates:
            found: list[_At] = []
            rates: list[list[float]] = []
            for knob, way, acts in self.activation:
                alike = [site for site in sites if site.kind == acts.kind]
                each = [
                    acts.rates(value, alike) if knob.on(s) else [0.0] * len(alike)
                    for value, s in zip(self.values(knob), self.settings, strict=True)
                ]
                for number, (site, column) in enumerate(zip(alike, zip(*each, strict=True), strict=True)):
                    if any(column):
                        found.append(_At(knob.name, way, acts, site, number))
                        rates.append(list(column))
            table = torch.tensor(rates, dtype=torch.float64).view(len(found), len(self.settings)).T.contiguous()
            self._rates[sites] = tuple(found), table
        return self._rates[sites]

    def where(self, sites: Sequence[Site]) -> dict[str, list[str]]:
        """Return the modules in which each activation knob acts."""
        found: dict[str, list[str]] = {}
        for one in self._sites(tuple(sites))[0]:
            found.setdefault(one.knob, []).append(one.site.module)
        return found


@dataclass(frozen=True)
class _At:
    """An activation knob, in one of its ways, at a site, the `number`th of its kind in the forward pass."""

    knob: str
    way: str
    acts: OnActivation
    site: Site
    number: int


Placed = dict[tuple[str, int], list[Callable[[Tensor], Tensor]]]
"""What changes a tensor at a site, by kind and number."""


@dataclass(frozen=True)
class Extra:
    """What knobs bring to the batch and to the forward pass of one step.

    Args:
        batch: knobs on the batch, and how many tensors each has.
        at: where activation knobs act.
        of_batch: the former's tensors, `[S or 1, M or 1, ...]` each.
        rates: of the latter, `[M, places]`.
        draws: noise of each, `[S, ...]`.
    """

    batch: tuple[tuple[str, int], ...] = ()
    at: tuple[_At, ...] = ()
    of_batch: list[Tensor] = field(default_factory=list)
    rates: Float[Tensor, "M places"] | None = None
    draws: list[Tensor] = field(default_factory=list)

    @property
    def key(self) -> tuple[Any, ...]:
        """What must agree for a recorded step to serve again."""
        shapes = tuple(tuple(t.shape) for t in (*self.of_batch, *self.draws))
        return self.batch, tuple((one.knob, one.way, one.site.kind, one.number) for one in self.at), shapes

    def tensors(self) -> list[Tensor]:
        """Return what a recorded step takes."""
        return [*self.of_batch, *([self.rates] if self.at and self.rates is not None else []), *self.draws]

    def given(self, tensors: Sequence[Tensor]) -> "Extra":
        """Return the same with other tensors, in the order of `tensors()`."""
        n = len(self.of_batch)
        if not self.at:
            return replace(self, of_batch=list(tensors))
        return replace(self, of_batch=list(tensors[:n]), rates=tensors[n], draws=list(tensors[n + 1 :]))

    def only(self, s: int, m: int) -> "Extra":
        """Return what one member takes, with axes of length 1."""
        of_seed = [t[s : s + 1] if len(t) > 1 else t for t in self.of_batch]
        of_batch = [t[:, m : m + 1] if t.shape[1] > 1 else t for t in of_seed]
        rates = None if self.rates is None else self.rates[m : m + 1]
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
        """Whether members are judged by something else than the loss."""
        return any(acts.losses is not None for acts, _ in self._on_batch())

    def losses(self, loss: _losses.RowLoss, outputs: Tensor, targets: Tensor) -> Float[Tensor, "S M B"]:
        """Return the losses of outputs `[S, M, B, ...]` and targets `[S, B, ...]`."""
        of: Callable[[Tensor, Tensor], Tensor] = partial(_losses.stacked, loss)
        for acts, tensors in self._on_batch():
            if acts.losses is not None:
                of = partial(_with_tensors, acts.losses, of, tensors)
        return of(outputs, targets)

    def placed(self, rates: Tensor | None, draws: Sequence[Tensor]) -> Placed:
        """Return what happens where, from one member's rates and one seed's noise."""
        found: Placed = {}
        for i, (one, noise) in enumerate(zip(self.at, draws, strict=True)):
            assert rates is not None
            function = partial(_applied, one.acts.apply, rates[i], noise)
            found.setdefault((one.site.kind, one.number), []).append(function)
        return found

    def _on_batch(self) -> Iterator[tuple[OnBatch, list[Tensor]]]:
        rest = iter(self.of_batch)
        for name, count in self.batch:
            acts = KNOBS[name].acts
            assert isinstance(acts, OnBatch)
            yield acts, [next(rest) for _ in range(count)]


NOTHING = Extra()


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
        for one in hooks:
            one.remove()
