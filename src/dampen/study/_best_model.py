"""What a study hands out: one trained network with all that its training followed from, and the files made of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.data import Data
from dampen.engine import Population, TrainConfig
from dampen.engine.knobs import Setting
from dampen.study._description import Description


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The network of a study with the recommended setting, and what it takes to train it again.

    Args:
        network: trained on training and validation rows, in evaluation mode, in the precision of its training.
        initial: the same network before its first step.
        repeatable: whether the initial weights follow from the seed alone, so that `initial` is sure to be that.
        model: what made it, by name.
        description: of the data that it was trained on.
        data: the rows that it was trained on as training rows, and the test rows; a regression target has mean 0 and
            deviation 1. None where they are gone.
        lacking: why they are.
        examples: inputs of some rows, whichever there are.
        target_scale: mean and deviation of a regression target before that.
        setting: the recommended one.
        seed: of this network.
        epochs: length of its training.
        training: how it was trained, except for the length.
    """

    network: nn.Module
    initial: nn.Module
    repeatable: bool
    model: str
    description: Description
    data: Data | None
    lacking: str | None
    examples: Float[Tensor, "N ..."]
    target_scale: tuple[float, float]
    setting: Setting
    seed: int
    epochs: int
    training: TrainConfig


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        folder: where.
        files: their names.
        refused: why there is no `train.py`; None where there is one.
        document: the contents of `model.json`.
    """

    folder: Path
    files: tuple[str, ...]
    refused: str | None
    document: dict[str, Any]


def winner_of(
    population: Population,
    model: str,
    data: Data,
    target_scale: tuple[float, float],
    setting: Setting,
    epochs: int,
    training: TrainConfig,
) -> Winner:
    """Return a setting's network of the population's first seed; the other arguments as for `Winner`."""
    examples = (data.test if len(data.test_rows) else data.train).features
    winner = winner_without_rows(
        population, model, Description.of(data), "", examples, target_scale, setting, epochs, training
    )
    return replace(winner, data=data, lacking=None)


def winner_without_rows(
    population: Population,
    model: str,
    description: Description,
    lacking: str,
    examples: Float[Tensor, "N ..."],
    target_scale: tuple[float, float],
    setting: Setting,
    epochs: int,
    training: TrainConfig,
) -> Winner:
    """Return it where the rows are gone; arguments as for `Winner`."""
    seed = population.seeds[0]
    initial, again = (population.initial_model(seed).state_dict() for _ in range(2))
    repeatable = all(torch.equal(t, again[name]) for name, t in initial.items())
    network, untrained = population.member(setting, seed), population.initial_model(seed)
    return Winner(
        network=network,
        initial=untrained,
        repeatable=repeatable,
        model=model,
        description=description,
        data=None,
        lacking=lacking,
        examples=examples,
        target_scale=target_scale,
        setting=setting,
        seed=seed,
        epochs=epochs,
        training=training,
    )
