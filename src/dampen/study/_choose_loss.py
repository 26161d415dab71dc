"""Which loss a regression trains by: the one under which rows that networks have not seen are most likely."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dampen import metrics
from dampen.engine import Population
from dampen.errors import InputError
from dampen.search import Space
from dampen.study import _documents
from dampen.study._phases import split
from dampen.study._preparation import Preparation
from dampen.study._runner import mean_costs
from dampen.study._storage import Folder

AUTO = "auto"
CANDIDATES = ("squared_error", "gaussian_nll")  # one noise for all rows, or each row's own; the usual one first
N_SETTINGS, N_SEEDS = 8, 3  # that each is tried with


@dataclass(frozen=True)
class LossChoice:
    """A loss, and what it was chosen by.

    Args:
        nll: of each loss, the lowest mean over the settings that were tried, in nats a row in the target's own unit.
    """

    nll: dict[str, float]

    @property
    def loss(self) -> str | None:
        """The name of the loss; None for the usual one."""
        best = min(CANDIDATES, key=lambda name: self.nll[name])
        return None if best == CANDIDATES[0] else best

    @property
    def note(self) -> str:
        """The choice in words."""
        chosen = self.loss or CANDIDATES[0]
        other = next(name for name in CANDIDATES if name != chosen)
        return (
            f"the loss is {chosen}: of validation rows the negative log likelihood is {self.nll[chosen]:.4g} nats a "
            f"row, under {other} {self.nll[other]:.4g}, each with the best of the settings that were tried first"
        )


def choose_loss(
    ready: Callable[[str], Preparation], space: Callable[[Preparation], Space], seeds: int | None, folder: Folder | None
) -> LossChoice:
    """Try the losses with the same settings, seeds and rows, on the selection rows alone; what a folder holds, holds.

    Under `squared_error` the noise is fitted on rows that are not predicted with it.

    Args:
        ready: what a study begins with, given a loss.
        space: where its settings are drawn from.
        seeds: of each setting at most; None: as the data needs, up to 3.
        folder: of the study, which keeps the choice; None keeps nothing.

    Raises:
        InputError: classes, a network that can't have two outputs, or nothing but diverged trainings.
    """
    held = _documents.loss_choice(folder)
    if held is not None:
        return LossChoice(held["nll"])
    nll = {}
    for name in CANDIDATES:
        of = ready(name)
        n = min(seeds or of.sizes.seeds, N_SEEDS)
        settings = space(of).draw(N_SETTINGS, "sobol", of.seed)
        plan = of.plan(brackets=(), seeds=of.seeds(n), confirmed=1, confirm_seeds=of.seeds(n))
        rows = split(plan, plan.seeds, again=False)
        population = Population(of.model, settings, list(plan.seeds))
        epochs = min(of.lengths.usual, of.lengths.planned)
        population.fit(rows.sets, of.training, epochs=epochs, evaluate_every=None)
        metric = metrics.METRICS["regression", "nll"]
        costs = mean_costs(population, rows.selection, metric).mean(0)
        nll[name] = metric.in_unit(float(np.min(costs)), of.target_scale[1])
    if not all(map(math.isfinite, nll.values())):
        raise InputError("every setting diverged under one of the losses: lower the learning rate (lr), or name a loss")
    choice = LossChoice(nll)
    if folder is not None:
        folder.write_json("loss.json", {"nll": nll})
    return choice
