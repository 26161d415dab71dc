"""What an estimator takes where nothing is chosen, by its rows: `docs/estimators.md` has it measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dampen.data import Data
from dampen.engine import Model
from dampen.models import tabular
from dampen.search import Fixed, LogUniform
from dampen.study import usual_batch_size, usual_length, usual_network, usual_space

LEAST_ROWS = 50  # below which ten rows would have to rank settings: noise
ENOUGH = 1000  # rows from which on networks are wider and trainings longer
_BATCH_SIZE, _HIDDEN = 256, (256, 128)
_EPOCHS, _STEPS = (10, 80), 2500  # that the longest trainings have at least and at most; which many rows fill sooner
_MOST_EMBEDDED = 32  # numbers beyond which waves cost more than the rest of the network
_RATES = LogUniform(1e-3, 3e-2)  # steps are few and large where a batch has 256 rows
_SMOOTHING = 0.1  # Holzmüller, Grinsztajn and Steinwart (2024), table A.1
_OFTEN = 10  # times as long, at most, as trainings on rows that are given once
_RARE = 0.05  # of the rows: the weight that so many don't exceed is that of a row given once
_NETWORKS = 8  # that predict classes together, of several settings


@dataclass(frozen=True)
class Defaults:
    """Values of what an estimator was not given.

    Args:
        network: what makes it.
        batch_size: rows a step.
        epochs: length of the longest training.
        space: where settings are drawn from; None for that of `dampen.tune`.
        metric: what ranks settings; None for that of `dampen.tune`.
        n_settings: how many are tried.
        n_seeds: of each.
        n_ensemble: how many networks of several settings predict; None for those of the recommended one.
    """

    network: Model
    batch_size: int
    epochs: int
    space: Mapping[str, Any] | None = None
    metric: str | None = None
    n_settings: int = 16
    n_seeds: int = 2
    n_ensemble: int | None = None


def usual(
    data: Data, hidden: Sequence[int] | None, model: Model | None, batch_size: int | None, cocktail: bool = False
) -> Defaults:
    """Return the defaults for rows.

    Of fewer than 1000 rows numbers have trainings twice as long as those of `dampen.tune`, at up to three times the
    rate: what has little noise takes long to fit. From 1000 rows on dampen's own network embeds its numbers in waves
    and trains longer, in larger batches, at higher learning rates. Classes then have smoothed labels, with which long
    trainings do not end in certainty, and are compared by how well they are told apart: how sure probabilities should
    be is fitted afterwards. Networks of several settings predict together.

    Args:
        data: the rows.
        hidden: widths of the network, if they are given.
        model: what makes another network, if it is given.
        batch_size: rows a step, if they are given.
        cocktail: whether every regulariser is searched, so that trainings are short and labels a choice of the search.
    """
    n = len(data.train_rows)
    space: dict[str, Any] = {**usual_space(data, dropping=1), "lr": _RATES}
    classes = data.task == "classification"
    if n < ENOUGH or model is not None or cocktail:
        size = batch_size or usual_batch_size(n)
        settings = 16 if n < ENOUGH else 32
        network = usual_network(data, hidden) if model is None else model
        if not classes and model is None and not cocktail and n >= LEAST_ROWS:
            return Defaults(network, size, 2 * usual_length(data, size), space)
        # ensembles on folds are never made less sure, which long trainings would ask for
        metric = "nll" if classes and cocktail else None
        return Defaults(network, size, usual_length(data, size), metric=metric, n_settings=settings)
    if classes:
        space["label_smoothing"] = Fixed(_SMOOTHING)
    size = batch_size or _BATCH_SIZE
    return Defaults(
        network=tabular(*(_HIDDEN if hidden is None else hidden), periodic=numbers(data)),
        batch_size=size,
        epochs=min(max(_STEPS * size // n, _EPOCHS[0]), _EPOCHS[1]),
        space=space,
        metric="calibrated-nll" if classes else None,
        n_seeds=1,
        n_ensemble=_NETWORKS if classes else None,
    )


def longer(epochs: int, weights: Float64[np.ndarray, " N"]) -> int:
    """Return the length of a training on few different rows: up to ten times as long where these were given often.

    A cell of a contingency table has a share of each class to learn, and not one example. What a row given once weighs
    is a low quantile and not the least weight: one row that hardly counts tells nothing about the others.

    Args:
        epochs: where each row was given once.
        weights: how often rows were given, in whatever unit.
    """
    often = float(weights.mean() / np.quantile(weights, _RARE))
    return round(epochs * min(_OFTEN, max(1.0, often)))


def numbers(data: Data) -> tuple[int, ...]:
    """Return the places of the inputs to embed in waves: those of more than two values, if there are not too many."""
    features = data.train.features
    found = tuple(i for i in range(features.shape[1]) if len(features[:, i].unique()) > 2)
    return found if len(found) <= _MOST_EMBEDDED else ()
