"""The second study: a network with dropout, epoch by epoch, beside the same network without.

Srivastava et al. (2014), "Dropout", JMLR 15; Zhang, Lipton, Li and Smola, "Dive into Deep Learning", section 5.6.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dampen.data import Data, with_unit_targets
from dampen.engine import Epoch, Event, History, Population
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.models import mlp
from dampen.statistics import Interval, paired_difference

DROPOUT, NO_DROPOUT = 0, 1  # the two settings' places in the history


@dataclass(frozen=True)
class Comparison:
    """What dropout did.

    Args:
        data: what was trained on; a regression target has mean 0 and standard deviation 1 over the training rows.
        rates: dropout rate of each hidden layer.
        history: learning curves; setting 0 has dropout, setting 1 has none.
        fitted: `loss` and, for classes, `accuracy` on the training rows at the end, in evaluation mode, `[S, 2]`.
        seconds: spent on training and evaluating.
    """

    data: Data
    rates: tuple[float, ...]
    history: History
    fitted: dict[str, Float64[np.ndarray, "S M"]]
    seconds: float

    def gap(self, metric: str) -> Float64[np.ndarray, "S M"]:
        """Return by how much test is worse than training at the end, both in evaluation mode.

        Args:
            metric: `loss` (test minus training) or `accuracy` (training minus test).
        """
        difference = self.history.final(f"test_{metric}") - self.fitted[metric]
        return -difference if metric == "accuracy" else difference

    def effect(self, metric: str) -> Interval:
        """Return the test metric with dropout minus without, paired by seed, with a 95 % interval."""
        final = self.history.final(f"test_{metric}")
        return paired_difference(final[:, DROPOUT], final[:, NO_DROPOUT])


def compare(
    data: Data,
    rates: Sequence[float],
    hidden: Sequence[int],
    seeds: Sequence[int],
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    device: str = "cpu",
    callback: Callable[[Event], object] | None = None,
) -> Comparison:
    """Train a multilayer perceptron with Adam, with and without dropout, from the same initial weights.

    A regression target is standardised by its training rows: its losses are shares of the variance that predicting
    the mean would leave.

    Args:
        data: training and test rows.
        rates: dropout rate of each hidden layer.
        hidden: widths of the hidden layers.
        seeds: each has its own initial weights, batches and dropout masks.
        epochs: passes over the training rows.
        batch_size: rows a step.
        lr: learning rate.
        device: where to train.
        callback: as in `Population.fit`.

    Raises:
        InputError: not as many rates as hidden layers, one that is no probability, or every network diverged.
    """
    data, population = untrained(data, rates, hidden, seeds)
    started = time.perf_counter()
    history = train(population, data, epochs=epochs, batch_size=batch_size, lr=lr, device=device, callback=callback)
    fitted = population.evaluate(data.train)
    if not np.isfinite(fitted["loss"]).any():
        raise InputError("every network diverged: try a smaller --lr")
    return Comparison(data, tuple(rates), history, fitted, time.perf_counter() - started)


def untrained(
    data: Data, rates: Sequence[float], hidden: Sequence[int], seeds: Sequence[int]
) -> tuple[Data, Population]:
    """Return the data with a standardised target, and the networks with and without dropout before their training.

    Args:
        data: as for `compare`.
        rates: as for `compare`.
        hidden: as for `compare`.
        seeds: as for `compare`.

    Raises:
        InputError: as for `compare`.
    """
    if not hidden:
        raise InputError("the dropout study needs at least one hidden layer: dropout acts on hidden units")
    network = mlp(*hidden, dropout=tuple(rates))
    settings = [Setting(dropout=network.dropout), Setting(dropout=tuple(0.0 for _ in hidden))]
    if settings[DROPOUT] == settings[NO_DROPOUT]:
        raise InputError("every dropout rate is 0: there is nothing to compare, give at least one rate above 0")
    data, _, _ = with_unit_targets(data)
    return data, Population(lambda: network(data.n_inputs, data.outputs), settings, seeds)


def train(
    population: Population,
    data: Data,
    *,
    epochs: int = 10,
    until: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    device: str = "cpu",
    callback: Callable[[Event], object] | None = None,
) -> History:
    """Train what `untrained` returned, from where it is, as `compare` does; `until` as for `Population.fit`."""
    return population.fit(
        data,
        epochs=epochs,
        until=until,
        batch_size=batch_size,
        even_batches=False,  # as the script that is repeated cuts them
        optimizer="adam",
        lr=lr,
        device=device,
        callback=callback,
    )


def epoch_line(epoch: Epoch) -> str:
    """Return the line of an epoch: means over the seeds of the network with dropout; accuracy only for classes."""

    def figures(split: str) -> str:
        means = {"loss": epoch.metrics.get(f"{split}_loss"), "acc": epoch.metrics.get(f"{split}_accuracy")}
        return ", ".join(
            f"{name}={values[:, DROPOUT].mean():.4f}" for name, values in means.items() if values is not None
        )

    return f"Epoch {epoch.epoch}/{epoch.epochs} — Train: {figures('train')} | Test: {figures('test')}"
