"""The knobs that some of a chunk's settings turn, and what they bring to one training step.

A knob that none of them turns is not here: it costs nothing, and is no part of the recorded graph.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dampen.engine import _losses
from dampen.engine._rng import StepDraws
from dampen.engine.execution._step_effects import NOTHING, ActiveSite, StepEffects
from dampen.engine.knobs import (
    KNOBS,
    Averages,
    Knob,
    OnActivation,
    OnBatch,
    OnGradient,
    OnUpdate,
    OnWeights,
    Scales,
    Setting,
    Site,
    Variants,
    turned,
)
from dampen.errors import InputError


class ActiveKnobs:
    """The knobs that at least one of some settings turns, by where they enter.

    Args:
        settings: the M settings.
    """

    def __init__(self, settings: Sequence[Setting]):
        self.settings = tuple(settings)
        on = [KNOBS[name] for name in turned(self.settings)]
        self.gradient = [(k, k.acts) for k in on if isinstance(k.acts, OnGradient)]
        self.weights = [(k, k.acts) for k in on if isinstance(k.acts, OnWeights)]
        self.updates = [(k, k.acts) for k in on if isinstance(k.acts, OnUpdate)]
        self.batch = [(k, k.acts) for k in on if isinstance(k.acts, OnBatch)]
        self.activation = [
            *((k, "", k.acts) for k in on if isinstance(k.acts, OnActivation)),
            *((k, *way) for k in on if isinstance(k.acts, Variants) for way in k.acts.of(self.values(k)).items()),
        ]
        self.averages = [(k, k.acts) for k in on if isinstance(k.acts, Averages)]
        self._scales = [(k, k.acts) for k in on if isinstance(k.acts, Scales)]
        self._rates: dict[tuple[Site, ...], tuple[tuple[ActiveSite, ...], Tensor]] = {}

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
        return [(value, s.get(beside.name, beside.neutral)) for value, s in zip(own, self.settings, strict=True)]

    def numbers(self, knob: Knob) -> Float[Tensor, " M"]:
        """Return each setting's number, float64."""
        return torch.tensor(self.values(knob), dtype=torch.float64)

    def scales(self, step: int, steps: int) -> dict[str, Float[Tensor, " M"]]:
        """Return the share of a knob's value that each setting has at a step, for the knobs that a schedule moves."""
        scales: dict[str, Tensor] = {}
        for knob, acts in self._scales:
            shares = [acts.factor(s[knob.name], step, steps) if knob.on(s) else 1.0 for s in self.settings]
            share = torch.tensor(shares, dtype=torch.float64)
            scales |= {name: share * scales[name] if name in scales else share for name in acts.of}
        return scales

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
            weighted = isinstance(loss, _losses.Weighted)
            if acts.losses is not None and weighted and not acts.row_by_row:  # whose weight, of the rows it mixes?
                raise InputError(
                    f"{knob.name} changes losses, which rows with weights don't allow: leave one of them out"
                )
            plain = loss.loss if isinstance(loss, _losses.Weighted) else loss
            if acts.loss is not None and plain is not _losses.LOSSES[acts.loss]:
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
    ) -> "StepEffects":
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
            rates = rates * torch.stack([scales.get(site.knob, ones) for site in at], 1)
        draws = [
            site.acts.draw(StepDraws(seeds, step, f"{site.knob}/{site.number}", targets.device), site.site)
            for site in at
        ]
        counts = tuple((knob.name, len(tensors)) for (knob, _), tensors in zip(self.batch, of_batch, strict=True))
        return StepEffects(
            counts, at, [t for tensors in of_batch for t in tensors], rates.to(targets.device) if at else None, draws
        )

    def _sites(self, sites: tuple[Site, ...]) -> "tuple[tuple[ActiveSite, ...], Tensor]":
        """Return where activation knobs act, and each setting's rate there, `[M, places]`."""
        if sites not in self._rates:
            active: list[ActiveSite] = []
            rates: list[list[float]] = []
            for knob, way, acts in self.activation:
                alike = [site for site in sites if site.kind == acts.kind]
                each = [
                    acts.rates(value, alike) if knob.on(s) else [0.0] * len(alike)
                    for value, s in zip(self.values(knob), self.settings, strict=True)
                ]
                for number, (site, column) in enumerate(zip(alike, zip(*each, strict=True), strict=True)):
                    if any(column):
                        active.append(ActiveSite(knob.name, way, acts, site, number))
                        rates.append(list(column))
            table = torch.tensor(rates, dtype=torch.float64).view(len(active), len(self.settings)).T.contiguous()
            self._rates[sites] = tuple(active), table
        return self._rates[sites]

    def where(self, sites: Sequence[Site]) -> dict[str, list[str]]:
        """Return the modules in which each activation knob acts."""
        places: dict[str, list[str]] = {}
        for site in self._sites(tuple(sites))[0]:
            places.setdefault(site.knob, []).append(site.site.module)
        return places
