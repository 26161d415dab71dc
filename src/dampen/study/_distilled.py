"""One network in place of an ensemble: trained on the ensemble's predictions, a pass a row instead of one of each.

Hinton, Vinyals and Dean (2015), "Distilling the knowledge in a neural network", section 2, equations 1 and 2 with
temperature 1 and no weight on the hard targets: the cross-entropy against the ensemble's mean probabilities. Of a
regression the targets are its mean predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen import metrics
from dampen._language import shown
from dampen.data import Data, Rows, training_and_validation_rows
from dampen.engine import Model, Population, Sets, Table
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.metrics import Metric, mean_probabilities
from dampen.search import Training
from dampen.statistics import over_folds, over_members
from dampen.study._phases import given_round
from dampen.study._protocol import Plan

_FOLDS, _DRAW = 5, 3  # parts of which nobody trains on one in the comparison; added to the seed of their draw
_FEW = 1000  # rows below which each part is left out in turn: a fifth of them would be too few to compare on
_LEVEL = 0.95
_ROWS_AT_ONCE = 1 << 14
_LOSSES = (None, "cross_entropy", "squared_error")  # of which the mean of networks is a target
_OF_CLASSES = ("label_smoothing",)  # knobs that change targets which are classes: an ensemble's are soft already


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """A network that was trained on an ensemble's predictions, and how it compares on rows that none has seen.

    For the comparison a fifth of the rows is left out, of fewer than 1000 rows each fifth in turn, or the folds that
    were given: an ensemble, networks that are distilled from it, one for each seed, and networks of the recommended
    setting are trained on the rest. The network itself is trained on all rows with the predictions of the ensemble that
    was.

    Args:
        network: in evaluation mode; predicts as `Study.model` does.
        setting: its knobs: the recommended ones without those that smooth labels.
        metric: what the values are.
        values: of `distilled`, `ensemble` and `single`, a single network of the recommended setting.
        against: the distilled network's value minus that of `ensemble` and of `single`, with the ends of its 95 %
            interval: over folds where there are several, else over seeds and rows.
        n_networks: of the ensemble.
        n_rows: that were left out.
    """

    network: nn.Module
    setting: Setting
    metric: str
    values: dict[str, float]
    against: dict[str, tuple[float, float, float]]
    n_networks: int
    n_rows: int

    def sentences(self) -> list[str]:
        """Return the comparison in English words; printing it shows the reader's."""
        values = self.values
        lines = [
            f"On {self.n_rows} rows that no network has seen the distilled one has {self.metric} "
            f"{values['distilled']:.4g}, the ensemble of {self.n_networks} {values['ensemble']:.4g}, a single one "
            f"{values['single']:.4g}."
        ]
        for name, (difference, low, high) in self.against.items():
            ends = f"{difference:+.3g} (95 % interval {low:+.3g} to {high:+.3g})"
            lines.append(
                f"Distilled minus the ensemble: {ends}."
                if name == "ensemble"
                else f"Distilled minus a single network: {ends}."
            )
        return lines

    def __str__(self) -> str:
        return "\n".join(map(shown, self.sentences()))


def distil(
    plan: Plan,
    model: Model,
    recommended: Training,
    chosen: Sequence[tuple[Training, int]],
    networks: Sequence[nn.Module],
    seeds: Sequence[int],
) -> Distilled:
    """Distil an ensemble.

    Args:
        plan: of the study.
        model: what makes its network.
        recommended: the training of the distilled network.
        chosen: trainings of the ensemble's networks, with how many of each.
        networks: these, trained on training and validation rows.
        seeds: of the networks of a training; the first is that of the distilled network.

    Raises:
        InputError: the loss has no mean of networks as its target, a network diverged, or rows can't be held out.
    """
    if plan.training.loss not in _LOSSES:
        raise InputError(
            f"distilled is for the usual losses: of networks that are trained by {plan.training.loss} no mean is a "
            "target; use ensemble"
        )
    if len(networks) < 2:
        raise InputError("distilled needs an ensemble of 2 networks or more: a single one is study.model()")
    kept = {name: value for name, value in recommended.setting.items() if name not in _OF_CLASSES}
    student = replace(recommended, setting=Setting(**kept))
    data = replace(plan.data, test_rows=plan.data.test_rows[:0], given_folds=None)
    data = training_and_validation_rows(data)
    school = _School(plan, model, recommended, student, chosen, seeds)
    values, against, n_rows = _compared(school, replace(data, given_folds=plan.data.given_folds))
    taught = _taught(data, mean_probabilities(_outputs(networks, data.train.features), data.task))
    population = school.trained(student, taught, seeds[:1])
    return Distilled(
        network=population.member(student.setting, seeds[0]).float(),
        setting=student.setting,
        metric=_metric(plan).name,
        values=values,
        against=against,
        n_networks=len(networks),
        n_rows=n_rows,
    )


def soft_cross_entropy(outputs: Float[Tensor, "N C"], targets: Float[Tensor, "N C"]) -> Float[Tensor, " N"]:
    """Return the cross-entropy of each row's softmax against probabilities, or against multiples of them.

    Example:
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.25, 0.75]]))
        tensor([0.6931])
    """
    return -(targets * outputs.log_softmax(-1)).sum(-1)


@dataclass(frozen=True)
class _School:
    """Who learns and who teaches; as for `distil`, `student` is the training of the distilled network."""

    plan: Plan
    model: Model
    recommended: Training
    student: Training
    chosen: Sequence[tuple[Training, int]]
    seeds: Sequence[int]

    def trained(self, training: Training, source: Data | Sets, seeds: Sequence[int]) -> Population:
        """Train networks, one for each seed, on rows or on what an ensemble gives for them."""
        population = Population(self.model, [training.setting], list(seeds))
        config = replace(self.plan.training, epochs=training.epochs)
        if isinstance(source, Sets) and self.plan.data.task == "classification":
            config = replace(config, loss=soft_cross_entropy)
        population.fit(source, config, until=training.stopped_at, evaluate_every=None)
        return population

    def outputs_of(self, part: Data) -> dict[str, Float[Tensor, "K N C"]]:
        """Return what networks that are trained on a part's training rows give for its validation rows."""
        trainings = dict.fromkeys([self.recommended, *(training for training, _ in self.chosen)])
        known = {training: self.trained(training, part, self.seeds) for training in trainings}

        def ensemble(rows: Rows) -> Tensor:
            outputs = [of for training, count in self.chosen for of in known[training].outputs(rows)[:count]]
            return mean_probabilities(torch.cat(outputs), part.task)

        students = self.trained(self.student, _taught(part, ensemble(part.train)), self.seeds)
        unseen = part.validation
        return {
            "distilled": torch.cat(students.outputs(unseen)),
            "ensemble": ensemble(unseen)[None],
            "single": torch.cat(known[self.recommended].outputs(unseen)),
        }


def _compared(school: _School, data: Data) -> tuple[dict[str, float], dict[str, tuple[float, float, float]], int]:
    """Return values, differences with their intervals, and the number of rows that they are of."""
    plan = school.plan
    metric, deviation, seed = _metric(plan), plan.target_scale[1], plan.seed + _DRAW
    if data.given_folds is not None:
        parts = given_round(data)
    elif len(data.train_rows) >= _FEW or data.ordered:
        parts = [data.with_validation(1 / _FOLDS, seed=seed)]
    else:
        parts = data.folds(_FOLDS, seed=seed)
    of_parts = [school.outputs_of(part) for part in parts]
    costs = {  # of each part by networks and rows, or groups of rows
        name: [
            metric.costs(of[name], part.validation).double().numpy() for of, part in zip(of_parts, parts, strict=True)
        ]
        for name in ("distilled", "ensemble", "single")
    }
    sizes = np.array([part.validation.size for part in parts])
    means = {name: float(np.average([of.mean() for of in each], weights=sizes)) for name, each in costs.items()}
    against: dict[str, tuple[float, float, float]] = {}
    for name in ("ensemble", "single"):
        excess = [one - other for one, other in zip(costs["distilled"], costs[name], strict=True)]
        if len(parts) > 1:  # they share training rows
            each = np.array([of.mean() for of in excess])
            share = float(np.mean([len(part.validation_rows) / len(part.train_rows) for part in parts]))
            ends = over_folds(each, share, sizes).interval(_LEVEL)
        else:
            ends = over_members(excess[0]).interval(_LEVEL)
        difference, low, high = metric.difference_in_unit(means["distilled"], means[name], ends, deviation)
        against[name] = difference, low, high
    n_rows = sum(len(part.validation_rows) for part in parts)
    return {name: metric.in_unit(mean, deviation) for name, mean in means.items()}, against, n_rows


def _metric(plan: Plan) -> Metric:
    """Return the study's metric if a single pass and a part's rows are enough for it, else the task's usual one."""
    usable = (plan.metric.of_rows_alone or plan.metric.name == metrics.CALIBRATED) and not plan.metric.samples
    return plan.metric if usable else metrics.find(None, plan.data.task)


def _taught(data: Data, outputs: Float[Tensor, "N ..."]) -> Sets:
    """Return training rows whose targets are an ensemble's outputs: logarithms of probabilities, or numbers.

    Raises:
        InputError: they are not finite.
    """
    if outputs.isnan().any():
        raise InputError("distilled: a network of the ensemble diverged, so that it predicts nothing: lower lr")
    rows = data.train
    if data.task == "classification":
        targets = outputs.exp()
        # the loss is linear in its target, so that a row's weight can be a factor of it
        targets = targets if rows.weights is None else targets * rows.weights[:, None]
        return Sets({"train": Table((rows.features,), targets.float())}, "regression", data.outputs)
    targets = outputs.reshape(len(rows)).float()
    if rows.weights is not None:
        targets = torch.stack([targets, rows.weights], -1)
    return Sets({"train": Table((rows.features,), targets)}, "regression", 1, rows.weights is not None)


def _outputs(networks: Sequence[nn.Module], features: Tensor) -> Float[Tensor, "K N C"]:
    def of(network: nn.Module) -> Tensor:
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        parts = features.split(_ROWS_AT_ONCE)
        return torch.cat([network(part.to(dtype) if part.is_floating_point() else part) for part in parts])

    with torch.no_grad():
        return torch.stack([of(network).float() for network in networks])
