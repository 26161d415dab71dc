"""What trainings cost on the evaluation rows, paired: the same seeds, batches, masks and rows for all."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from dampen import metrics
from dampen.data import Data
from dampen.engine import Population
from dampen.metrics import Metric
from dampen.search import Training
from dampen.statistics import Estimate, over_folds, over_seeds_and_rows, variance_by_size
from dampen.study._phases import Split, folds_a_round, n_folds
from dampen.study._protocol import Plan
from dampen.study._runner import costs_of_outputs, outputs_of
from dampen.study._simple_models import SIMPLE

Candidate = Training | str
"""A training, or the name of a simple model."""

Costs = list[Float64[np.ndarray, " _"]]
"""For each seed the cost of each of its evaluation rows: as many for all, or those of its fold."""


@dataclass(frozen=True)
class Evaluation:
    """Costs of everything that was trained, on the same rows.

    Args:
        plan: the study.
        rows: those that are evaluated on: with `of_seeds` folds that share training rows, else crossed with the seeds.
        metric: what is evaluated.
        companion: a second metric, in the reader's own unit: wrong rows, or the target's.
        calibrated: the metric under a temperature of each training's own; None where that is no metric of these rows.
        measured: costs by candidate, for each metric by its name.
    """

    plan: Plan
    rows: Split
    metric: Metric
    companion: Metric
    calibrated: Metric | None
    measured: dict[str, dict[Candidate, Costs]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, plan: Plan, rows: Split) -> "Evaluation":
        """Return an evaluation that has nothing to compare yet."""
        companion = metrics.find("accuracy" if plan.data.task == "classification" else "rmse", plan.data.task)
        return cls(plan, rows, plan.metric, companion, plan.calibrated_metric)

    @property
    def costs(self) -> dict[Candidate, Costs]:
        """Costs of the metric, by candidate."""
        return self.measured[self.metric.name]

    @property
    def _metrics(self) -> tuple[Metric, ...]:
        """All that is measured: of sampled outputs where the first one is, and of plain ones."""
        return (self.metric, *([self.calibrated] if self.calibrated else []), self.companion)

    def add(self, population: Population, trainings: Sequence[Training]) -> None:
        """Evaluate trainings, which are the settings of a population in their order."""
        rows = self.rows.evaluation
        outputs = outputs_of(population, rows, self.metric)
        plain = population.outputs(rows) if self.metric.samples else outputs
        for metric in self._metrics:
            of = plain if metric is self.companion else outputs
            costs = [seed.double().numpy() for seed in costs_of_outputs(population, of, rows, metric)]
            for m, training in enumerate(trainings):
                self.measured[metric.name][training] = [seed[m] for seed in costs]

    def add_simple(self, names: Sequence[str], n_seeds: int) -> None:
        """Fit simple models on each seed's training rows, and evaluate them.

        What they search, a penalty or a number of rounds, is chosen once, on the first seed's: the search has chosen
        the network's settings once, too.
        """
        parts: list[Data] = self.rows.of_seeds or [self.rows.sets]  # type: ignore[list-item]
        evaluation_rows = self.rows.evaluation if isinstance(self.rows.evaluation, list) else [self.rows.evaluation]
        if self.plan.data.codes:  # which no simple model looks up
            parts = [data.without_codes() for data in parts]
            evaluation_rows = [data.validation for data in parts]
        taken = {metric.name: metric for metric in (self.metric, self.companion)}  # the same where accuracy ranks
        for name in names:
            found: dict[str, Costs] = {metric: [] for metric in taken}
            chosen: float | None = None
            for data, rows in zip(parts, evaluation_rows, strict=True):
                model = SIMPLE[name](data.train, data.task, data.outputs, self.plan.seed, chosen)
                outputs, chosen = model(rows), model.chosen
                for metric in taken.values():
                    found[metric.name].append(metric.costs(outputs, rows).double().numpy())
            times = n_seeds if len(parts) == 1 else 1  # no seed changes them
            for metric, costs in found.items():
                self.measured[metric][name] = costs * times

    @property
    def n_rows(self) -> int:
        """How many rows, or groups of rows, are evaluated: with folds those of one repeat, which are all."""
        costs = next(iter(self.costs.values()))
        if self.plan.scheme != "folds":
            return len(costs[0])
        n = n_folds(self.plan.data)
        return round(sum(map(len, costs[:n])) * folds_a_round(self.plan.data) / n)

    def estimate(self, weights: Mapping[Candidate, float], metric: Metric | None = None) -> Estimate:
        """Estimate a weighted sum of costs, of the metric or another one; infinite where one diverged with a seed."""
        of = self.measured[(metric or self.metric).name]
        each = [
            np.sum([w * costs for w, costs in zip(weights.values(), seed, strict=True)], axis=0)
            for seed in zip(*(of[one] for one in weights), strict=True)
        ]
        if not all(np.isfinite(e).all() for e in each):
            return Estimate(math.inf, math.nan, 1.0)
        if self.plan.scheme == "folds":
            sizes = self._of_folds([rows.size for rows in self.rows.evaluation])
            means = self._of_folds([float(e.mean()) for e in each])
            return over_folds(means, self.rows.test_share(), sizes)
        return over_seeds_and_rows(np.stack(each))

    def _of_folds(self, means: Sequence[float]) -> Float64[np.ndarray, " J"]:
        """Return a mean for each split: folds that were given come again with later seeds, which are no new splits."""
        values, given = np.array(means), self.plan.data.given_folds
        if given is None:
            return values
        return np.array([values[i :: len(given)].mean() for i in range(min(len(given), len(values)))])

    def mean(self, candidate: Candidate, metric: Metric | None = None) -> float:
        """Return a mean cost; infinite for one that diverged."""
        return self.estimate({candidate: 1.0}, metric).mean

    def excess(self, other: Candidate, one: Candidate, metric: Metric | None = None) -> Estimate:
        """Estimate how much more `other` costs than `one`: above 0 where `one` is better."""
        return Estimate(0.0, 0.0, math.inf) if other == one else self.estimate({other: 1.0, one: -1.0}, metric)

    def spread(self, candidate: Candidate) -> float:
        """Return the standard deviation over seeds of a mean cost; folds count by their rows."""
        means, rows = np.array([costs.mean() for costs in self.costs[candidate]]), self.rows.evaluation
        sizes = [part.size for part in rows] if isinstance(rows, list) else [1.0] * len(means)
        return math.sqrt(variance_by_size(means, np.array(sizes)))

    def excess_in_unit(
        self, other: Candidate, one: Candidate, level: float, metric: Metric | None = None
    ) -> tuple[float, float, float]:
        """Return an excess and its interval in a metric's unit, above 0 where `one` is better; nan if one diverged."""
        metric = metric or self.metric
        a, b = self.mean(one, metric), self.mean(other, metric)
        if not (math.isfinite(a) and math.isfinite(b)):
            return math.nan, math.nan, math.nan
        ends = self.excess(other, one, metric).interval(level)
        difference = metric.difference_in_unit(b, a, ends, self.plan.target_scale[1])
        if metric.rising:
            return -difference[0], -difference[2], -difference[1]
        return difference[0], difference[1], difference[2]
