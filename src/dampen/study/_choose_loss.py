"""Which loss a regression trains by: the one under which rows that networks have not seen are most likely."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dampen import metrics
from dampen.engine import Population
from dampen.errors import InputError
from dampen.search import Space
from dampen.statistics import mean_by_size
from dampen.study import _documents
from dampen.study._checks import is_of, refuse_loss
from dampen.study._phases import split
from dampen.study._preparation import Preparation
from dampen.study._protocol import Plan
from dampen.study._runner import costs_of_rows
from dampen.study._storage import Folder

AUTO = "auto"
CANDIDATES = ("squared_error", "gaussian_nll")  # one noise for all rows, or each row's own; the usual one first
N_SETTINGS, N_SEEDS = 8, 3  # that each is tried with
_ERRORS = 2.0  # standard errors that a gain has to exceed
_NLL = metrics.METRICS["regression", "nll"]


@dataclass(frozen=True)
class LossChoice:
    """A loss, and what it was chosen by.

    Args:
        loss: its name.
        nll: of each loss, the lowest mean over the settings that were tried, in nats a row in the target's own unit.
    """

    loss: str
    nll: dict[str, float]

    @property
    def option(self) -> str | None:
        """The loss as `TrainConfig` has it: None is the usual one."""
        return None if self.loss == CANDIDATES[0] else self.loss

    @property
    def note(self) -> str:
        """The choice in words."""
        other = next(name for name in CANDIDATES if name != self.loss)
        mine, theirs = self.nll[self.loss], self.nll[other]
        lower = "lower" if mine < theirs else "not significantly higher"
        return (
            f"the loss is {self.loss}: the negative log likelihood of validation rows is {lower}, {mine:.4g} nats a "
            f"row for {theirs:.4g} under {other}, each with the best of the settings that were tried first"
        )


def choose_loss(
    ready: Callable[[str], Preparation], space: Callable[[Preparation], Space], seeds: int | None, folder: Folder | None
) -> LossChoice:
    """Try the losses with the same settings, seeds and rows, on the selection rows alone.

    A choice that the folder keeps holds, where it was made for the same plan.
    Under `squared_error` the noise is fitted on rows that are not predicted with it. It is taken unless the likelihood
    under the other loss is larger by more than two standard errors of the paired difference over rows.

    Args:
        ready: what a study begins with, given a loss.
        space: where its settings are drawn from.
        seeds: of each setting at most; None: as the data needs, up to 3.
        folder: of the study, which keeps the choice with the plan it was made for; None keeps nothing.

    Raises:
        InputError: a network that can't have two outputs, nothing but diverged trainings, or a folder with a study of
            another plan.
    """
    begun = [ready(name) for name in CANDIDATES]
    plans = [_plan(one, space, seeds) for one in begun]
    if folder is not None:
        held = _documents.loss_choice(folder)
        if held is not None and is_of(folder, held, plans[0]):
            return LossChoice(held["loss"], held["nll"])
        refuse_loss(folder, AUTO, plans[0])
    tried = [_costs_of_best(one, plan) for one, plan in zip(begun, plans, strict=True)]
    if not all(costs.isfinite().all() for costs, _ in tried):
        raise InputError("every setting diverged under one of the losses: lower the learning rate (lr), or name a loss")
    (usual, unit), (other, _) = tried
    gain = usual - other
    better = gain.mean() > _ERRORS * gain.std() / math.sqrt(len(gain))
    nll = {name: _NLL.in_unit(float(costs.mean()), unit) for name, (costs, _) in zip(CANDIDATES, tried, strict=True)}
    choice = LossChoice(CANDIDATES[int(better)], nll)
    if folder is not None:
        folder.write_json("loss.json", {"plan": plans[0].document(), "loss": choice.loss, "nll": nll})
    return choice


def _plan(ready: Preparation, space: Callable[[Preparation], Space], seeds: int | None) -> Plan:
    """Return all that the trainings of a loss follow from."""
    of = ready.seeds(min(seeds or ready.sizes.seeds, N_SEEDS))
    return ready.plan(space=space(ready), brackets=(), seeds=of, confirmed=1, confirm_seeds=of)


def _costs_of_best(ready: Preparation, plan: Plan) -> tuple[Float[Tensor, " N"], float]:
    """Return the cost of each row under the best of some settings, and the deviation of the target."""
    assert plan.space is not None
    rows = split(plan, plan.seeds, again=False)
    population = Population(ready.model, plan.space.draw(N_SETTINGS, "sobol", ready.seed), list(plan.seeds))
    population.fit(rows.sets, ready.training, epochs=ready.lengths.usual, evaluate_every=None)
    costs = [of_seed.double() for of_seed in costs_of_rows(population, rows.selection, _NLL)]
    parts = rows.selection if isinstance(rows.selection, list) else [rows.selection] * len(costs)
    means = mean_by_size(np.stack([of_seed.mean(1).numpy() for of_seed in costs]), [part.size for part in parts])
    best = int(np.nan_to_num(means, nan=math.inf, posinf=math.inf).argmin())
    of_best = [of_seed[best] for of_seed in costs]
    if not isinstance(rows.selection, list):  # which all seeds share
        return torch.stack(of_best).mean(0), ready.target_scale[1]
    counting = torch.cat([torch.full_like(c, part.size / len(c)) for c, part in zip(of_best, parts, strict=True)])
    return torch.cat(of_best) * counting / counting.mean(), ready.target_scale[1]
