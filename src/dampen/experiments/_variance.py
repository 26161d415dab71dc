"""Variance of each hidden layer's activations over training, with and without dropout."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dampen.engine import forked
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.experiments._answer import Answer, Line, Panel, by_sign
from dampen.experiments._setup import Ground, undiverged
from dampen.statistics import Estimate, over_rows

RATE = 0.5
ROWS = 2000  # of the evaluation rows that activations are taken of, at most


def answer(ground: Ground) -> Answer:
    """Measure activations after each epoch, in evaluation mode and with dropout active.

    Raises:
        InputError: a network diverged, or all units of a layer are dead.
    """
    settings = [Setting(dropout=0.0), Setting(dropout=RATE)]
    population = ground.population(settings)
    rows = ground.evaluation.validation.features[:ROWS]
    variances = []  # epoch, seed, setting, mode, layer
    for epoch in range(1, ground.epochs + 1):
        ground.fit(population, until=epoch)
        variances.append(
            [[_variances(population.member(s, seed), rows, seed, epoch) for s in settings] for seed in population.seeds]
        )
    undiverged(population.history.final("validation_loss"))
    values = undiverged(np.array(variances))
    dead = np.flatnonzero((values[-1, :, :, 0] == 0).any((0, 1)))
    if len(dead):
        raise InputError(
            f"hidden layer {dead[0] + 1} has the same activations for every row, so variances have no ratio: try a "
            "smaller --lr or wider layers with --hidden"
        )
    epochs = list(range(1, ground.epochs + 1))
    layers = range(ground.layers)
    ratios = {
        f"hidden layer {i + 1}": over_rows(np.log(values[-1, :, 1, 0, i]) - np.log(values[-1, :, 0, 0, i]))
        for i in layers
    }
    sentences = [_sentence(name, ratio) for name, ratio in ratios.items()]
    noise = values[-1, :, 1, 1].mean(0) / values[-1, :, 1, 0].mean(0)
    sentences.append(
        "With its noise on, dropout multiplies the variance of the next layer's input by "
        + ", ".join(f"{factor:.3g}" for factor in noise)
        + " (one factor for each hidden layer)."
    )
    panels = tuple(
        Panel(
            f"hidden layer {i + 1}",
            "epochs",
            "variance over rows, mean over units",
            [
                Line("no dropout", epochs, values[:, :, 0, 0, i], False, 0),
                Line(f"dropout {RATE:g}, evaluation", epochs, values[:, :, 1, 0, i], False, 1),
                Line(f"dropout {RATE:g}, noise on", epochs, values[:, :, 1, 1, i], True, 1),
            ],
        )
        for i in layers
    )
    verdict = by_sign(ratios, "{} variance with dropout: ", "smaller", "larger") or "no significant difference"
    main = {f"log variance ratio, {name}": ratio for name, ratio in ratios.items()}
    return Answer("variance", ground.data.name, verdict, tuple(sentences), main, panels)


def _sentence(name: str, ratio: Estimate) -> str:
    low, high = np.exp(ratio.interval())
    word = "smaller" if ratio.mean < 0 else "larger"
    text = f"{name.capitalize()}: with dropout the variance is {np.exp(ratio.mean):.3g} times that without"
    return f"{text} (95 % interval {low:.3g} to {high:.3g} over seeds): " + (
        f"{word}." if ratio.excludes_zero else "the difference is not significant."
    )


def _variances(network: nn.Module, rows: Tensor, seed: int, epoch: int) -> list[list[float]]:
    """Return the mean over units of the variance over rows, after each dropout: evaluated, then with the noise on."""
    variances = []
    for noisy in (False, True):
        network.train(noisy)
        with torch.no_grad(), forked(), _after_dropout(network) as taken:
            torch.manual_seed(seed * 1_000_003 + epoch)
            network(rows)
        variances.append([h.double().var(0).mean().item() for h in taken])
    return variances


@contextmanager
def _after_dropout(network: nn.Module) -> Iterator[list[Tensor]]:
    taken: list[Tensor] = []

    def take(_module: nn.Module, _given: object, output: Tensor) -> None:
        taken.append(output)

    hooks = [m.register_forward_hook(take) for m in network.modules() if isinstance(m, nn.Dropout)]
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()
