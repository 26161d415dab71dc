"""Defaults that depend on the data: network, length, batch size, schedule, ranges.

For tables as `docs/estimators.md` has it measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dampen.data import Data
from dampen.models import MLP, mlp, tabular
from dampen.search import LogUniform, PerLayer, Uniform

SMALL = 5000  # training rows below which folds evaluate: a held-out part would be too few rows to compare settings
_FEW = 1000  # rows of a table below which networks are smaller and trainings shorter
_STEPS = 600, 1000  # of a usual training on a table with few rows and with more
_EPOCHS = 10, 200  # that such a training has at least and at most


@dataclass(frozen=True)
class Lengths:
    """How long a study's trainings are, in epochs; each is so many times the one before as halving drops settings.

    Args:
        first: the shortest, of all settings.
        usual: the length without a study, against which the gain of another length is measured.
        planned: the longest that is sure to be tried.
        longest: where trainings end even if still longer ones would be better.
    """

    first: int
    usual: int
    planned: int
    longest: int


def is_table(data: Data) -> bool:
    """Return whether rows are numbers that are no pixels."""
    return data.scaling != "pixels" and len(data.inputs) == 1


def usual_batch_size(n: int) -> int:
    """Return the rows of a step, of n training rows."""
    return 32 if n < SMALL else 128


def usual_epochs(n: int) -> int:
    """Return the length of a training on n rows."""
    return 30 if n < SMALL else 10


def usual_length(data: Data, batch_size: int) -> int:
    """Return the epochs of a usual training: for tables so many steps, so that few rows are seen more often."""
    n = len(data.train_rows)
    if not is_table(data):
        return usual_epochs(n)
    return min(max(math.ceil(_STEPS[n >= _FEW] / math.ceil(n / batch_size)), _EPOCHS[0]), _EPOCHS[1])


def usual_lengths(data: Data, batch_size: int, epochs: int | None = None) -> Lengths:
    """Return the lengths of a study's trainings.

    Args:
        data: what it is for.
        batch_size: rows a step.
        epochs: the longest, as given; None follows from the data: four times the usual length, and on while longer
            trainings are better, at most 32 times as long (images of 5000 rows or more: 8 times).
    """
    usual = usual_length(data, batch_size)
    if epochs is not None:
        return Lengths(1, min(usual, epochs), epochs, epochs)
    long = len(data.train_rows) >= SMALL and not is_table(data)
    return Lengths(math.ceil(usual / (2 if long else 4)), usual, 4 * usual, (8 if long else 32) * usual)


@dataclass(frozen=True)
class Sizes:
    """How much a study tries.

    Args:
        settings: in the search.
        seeds: of each.
        confirm_seeds: of each training that the verdict rests on.
    """

    settings: int
    seeds: int
    confirm_seeds: int


def usual_sizes(n: int) -> Sizes:
    """Return a study's sizes for n training rows: what few rows leave open, more settings and seeds settle cheaply."""
    if n < _FEW:
        return Sizes(64, 5, 10)
    return Sizes(32, 3, 5) if n < SMALL else Sizes(24, 1, 3)


def usual_network(data: Data, hidden: Sequence[int] | None = None) -> MLP:
    """Return a builder of a network for the data.

    Args:
        data: what it is for.
        hidden: widths; by default 256 and 128, for tables of few rows 64 and 32.
    """
    if not is_table(data):
        return mlp(*(256, 128) if hidden is None else hidden)
    few = len(data.train_rows) < _FEW
    return tabular(*((64, 32) if few else (256, 128)) if hidden is None else hidden)


def usual_schedule() -> str:
    """Return the learning rate's schedule: it ends at 0, so that a training of any length is a finished one."""
    return "cosine"


def usual_space(data: Data, dropping: int, per_layer: bool = False) -> dict[str, Any]:
    """Return what is searched for a network that drops units in so many places."""
    table = is_table(data)
    space: dict[str, Any] = {
        "weight_decay": LogUniform(1e-3, 10.0, zero=0.1) if table else LogUniform(1e-5, 1.0, zero=0.1),
        "lr": LogUniform(1e-4 if len(data.train_rows) < SMALL else 3e-4, 1e-2 if table else 3e-3),
    }
    if dropping:
        rate = Uniform(0.0, 0.7)
        space["dropout"] = PerLayer(rate, dropping) if per_layer and dropping > 1 else rate
    return space


def n_confirmed(asked: int | None, cocktail: bool, budgeted: bool) -> int:
    """Return how many of the best settings train again: within a budget a cocktail's time goes into length."""
    if asked is not None:
        return asked
    return 1 if cocktail and budgeted else 3
