"""The study's ensemble of several settings: chosen on rows that the confirmation's networks have not seen."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen import metrics
from dampen.engine import VARIANCE_HEADS, Population
from dampen.errors import InputError
from dampen.search import Training, select_ensemble
from dampen.study import _tempering
from dampen.study._confirmation import Confirmed
from dampen.study._runner import ENSEMBLE, Runner, Trained

FEW = 1000  # rows below which a selection among all candidates would follow the luck of the rows


def selected(runner: Runner, confirmed: Confirmed, n: int) -> list[tuple[Training, int]]:
    """Return trainings with how many networks of each make up an ensemble of n; test rows have no part in it.

    Candidates are the trainings that could have been recommended: the search's best and the references of the same
    network. Each seed's networks predict the rows that they have not seen.

    Raises:
        InputError: n is more than there are networks.
    """
    plan, evaluation, candidates = runner.plan, confirmed.evaluation, _candidates(confirmed)
    rows = evaluation.rows.evaluation
    parts = rows if isinstance(rows, list) else [rows] * len(plan.confirm_seeds)
    targets = torch.cat([part.targets for part in parts])
    weights = [torch.ones(len(p)) if p.weights_among_all is None else p.weights_among_all for p in parts]
    weight = torch.cat(weights).double()
    weight /= weight.mean()
    classes, of_variance = plan.data.task == "classification", plan.training.loss in VARIANCE_HEADS
    tempers = plan.metric.name == metrics.CALIBRATED  # so do the networks that are handed out, each setting by itself
    usable = (plan.metric.of_rows_alone or of_variance) and not plan.metric.samples
    metric = plan.metric if usable else metrics.find(None, plan.data.task)

    def predictions(training: Training) -> Tensor:
        population = confirmed.trained.population(training)
        m = population.settings.index(training.setting)
        of_seeds = [of_seed[m].double() for of_seed in population.outputs(rows)]
        outputs = torch.cat(of_seeds)
        if tempers:
            outputs = outputs / _tempering.temperature_of(of_seeds, parts, n > 1)
        if of_variance:
            return _moments(outputs)
        return outputs.softmax(-1) if classes else outputs

    def cost(mean: Tensor) -> Tensor:
        if of_variance:
            mean = _mean_and_log_variance(mean)
        others = () if metric.of_rows_alone else (weight,)
        costs = metric.cost(mean.log().clamp_min(-700) if classes else mean, targets, *others)
        return (costs.double() * weight).mean(-1)

    most = most_networks(runner, confirmed)
    if n > most:
        raise InputError(
            f"an ensemble has at most {most} networks, {len(plan.confirm_seeds)} seeds of {len(candidates)} confirmed "
            f"settings; got {n}: ask for fewer, or confirm more (confirmed, n_confirm_seeds)"
        )
    counts = select_ensemble(
        torch.stack([predictions(training) for training in candidates]),
        cost,
        n,
        most=len(plan.confirm_seeds),
        bagged=len(plan.data.train_rows) < FEW,
        seed=plan.seed,
    )
    return [(training, count) for training, count in zip(candidates, counts, strict=True) if count]


def most_networks(runner: Runner, confirmed: Confirmed) -> int:
    """Return how many networks `selected` can choose: one for each seed of each candidate."""
    return len(runner.plan.confirm_seeds) * len(_candidates(confirmed))


def _candidates(confirmed: Confirmed) -> list[Training]:
    recommended = confirmed.recommended
    competing = [*confirmed.finalists, *(t for t in confirmed.references.values() if isinstance(t, Training))]
    others = [
        training
        for training in dict.fromkeys(competing)
        if training != recommended
        and training.stopped_at is None
        and math.isfinite(confirmed.evaluation.mean(training))
    ]
    return [recommended, *others]


def _moments(outputs: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Return the first two moments of means and log variances: those of a mixture are the mean of its parts'."""
    mean, log_variance = outputs.unbind(-1)
    return torch.stack([mean, mean.square() + log_variance.exp()], -1)


def _mean_and_log_variance(moments: Float[Tensor, "... N 2"]) -> Float[Tensor, "... N 2"]:
    mean, second = moments.unbind(-1)
    least = torch.finfo(moments.dtype).tiny
    return torch.stack([mean, (second - mean.square()).clamp_min(least).log()], -1)


def networks_of(
    runner: Runner,
    chosen: list[tuple[Training, int]],
    trained: Trained,
    confirmed: Confirmed,
) -> list[nn.Module]:
    """Return networks of trainings, each with a seed of its own, trained on training and validation rows.

    Args:
        runner: trains those that are not yet.
        chosen: trainings, with how many networks of each.
        trained: has those that have been, for the test rows or for a folder.
        confirmed: what temperatures are fitted on, where the study's metric leaves them open.
    """
    networks: list[nn.Module] = []
    populations = {training: trained.population(training) for training, _ in chosen if training in trained}
    populations |= _trained(runner, [each for each in chosen if each[0] not in trained])
    for training, count in chosen:
        of = populations[training]
        members = [of.member(training.setting, seed) for seed in of.seeds[:count]]
        if runner.plan.metric.name == metrics.CALIBRATED:
            temperature = _temperature(confirmed, training, sum(count for _, count in chosen) > 1)
            members = [_tempering.tempered(network, temperature) for network in members]
        networks += members
    return networks


def _trained(runner: Runner, chosen: list[tuple[Training, int]]) -> dict[Training, Population]:
    """Return the population of each training: those of one length together, with as many seeds as one of them has."""
    lengths: dict[int, dict[Training, int]] = {}
    for training, count in chosen:
        lengths.setdefault(training.epochs, {})[training] = count
    populations: dict[Training, Population] = {}
    for epochs, counts in lengths.items():
        settings = [training.setting for training in counts]
        name = f"{ENSEMBLE}-{epochs}"
        population = runner.train(ENSEMBLE, name, settings, epochs, None, n_seeds=max(counts.values()))
        populations |= dict.fromkeys(counts, population)
    return populations


def _temperature(confirmed: Confirmed, training: Training, averaged: bool) -> float:
    population, rows = confirmed.trained.population(training), confirmed.evaluation.rows.evaluation
    m = population.settings.index(training.setting)
    of_seeds = [of_seed[m].double() for of_seed in population.outputs(rows)]
    return _tempering.temperature_of(of_seeds, rows if isinstance(rows, list) else [rows] * len(of_seeds), averaged)
