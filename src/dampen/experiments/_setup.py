"""What all questions stand on: selection rows and evaluation rows, one network, one way to train it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float

from dampen import metrics
from dampen._checks import function
from dampen.data import Data, held_out, with_unit_targets
from dampen.engine import Event, History, Population, TrainConfig, TrainOptions, check_codes, configured
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.models import MLP, mlp
from dampen.statistics import Estimate, over_seeds_and_rows
from dampen.study import costs_of_rows, usual_batch_size, usual_epochs

FRESH = 1_000_000  # added to the seeds of a selection to give those of its evaluation


@dataclass(frozen=True)
class Ground:
    """Data, network and training of a question.

    Args:
        data: training rows; its validation rows choose. The test rows are not looked at.
        evaluation: validation rows that no choice sees.
        network: a perceptron with dropout of rate 0 after each hidden layer.
        metric: what is measured: nll for classes, the squared error (in target variances) for numbers.
        seeds: the S seeds.
        training: how members train.
        callback: as `Population.fit`'s.
        workers: of a cluster, which train; None: this machine does.
        deviation: standard deviation of a regression target over the training rows, by which it was divided.
    """

    data: Data
    evaluation: Data
    network: MLP
    metric: metrics.Metric
    seeds: tuple[int, ...]
    training: TrainConfig
    callback: Callable[[Event], object] | None = None
    workers: Any = None
    deviation: float = 1.0

    @property
    def layers(self) -> int:
        """How many hidden layers there are."""
        return len(self.network.hidden)

    @property
    def epochs(self) -> int:
        """Length of training."""
        assert self.training.epochs is not None
        return self.training.epochs

    def population(self, settings: Sequence[Setting], fresh: bool = False) -> Population:
        """Return untrained members; `fresh` ones have other seeds than those that choose."""
        return Population(self.network, list(settings), [seed + FRESH * fresh for seed in self.seeds])

    def fit(self, population: Population, sets: Data | Sequence[Data] | None = None, **options: Any) -> History:
        """Train members, to the end unless `options` change that; `sets` has other data, or some for each seed."""
        data: Any = self.data if sets is None else sets
        if self.workers is None:
            return population.fit(data, self.training, callback=self.callback, **options)
        until = options.pop("until", None)
        config = replace(self.training, **options)
        self.workers.fit(population, self.network, data, config, until=until or config.epochs, callback=self.callback)
        return population.history

    def trained(self, settings: Sequence[Setting], fresh: bool = False) -> "Trained":
        """Train settings for the full length and measure them."""
        population = self.population(settings, fresh)
        history = self.fit(population)
        return Trained(self, population, history, self.judged(population))

    def judged(self, population: Population) -> Float[np.ndarray, "S M N"]:
        """Return the cost of each evaluation row for each member."""
        return np.stack(
            [costs.double().numpy() for costs in costs_of_rows(population, self.evaluation.validation, self.metric)]
        )


@dataclass(frozen=True)
class Trained:
    """Members that are trained, and their costs on the evaluation rows.

    Args:
        ground: what they stand on.
        population: the members.
        history: their learning curves; `validation_` is of the selection rows.
        costs: of each evaluation row.
    """

    ground: Ground
    population: Population
    history: History
    costs: Float[np.ndarray, "S M N"]

    def best(self, among: Sequence[Setting] | None = None) -> Setting:
        """Return the setting with the smallest mean loss on the selection rows.

        Raises:
            InputError: all of them diverged.
        """
        settings = list(self.population.settings)
        means = self.history.final("validation_loss").mean(0)
        places = [settings.index(s) for s in (settings if among is None else among)]
        finite = [m for m in places if np.isfinite(means[m])]
        if not finite:
            raise InputError("every network diverged: try a smaller --lr")
        return settings[min(finite, key=lambda m: means[m])]

    def weighted(self, weights: Mapping[Setting, float]) -> Estimate:
        """Estimate a weighted sum of settings' mean costs, over seeds and evaluation rows.

        Raises:
            InputError: one of them diverged.
        """
        settings = list(self.population.settings)
        total = sum(w * self.costs[:, settings.index(setting)] for setting, w in weights.items())
        return over_seeds_and_rows(undiverged(np.asarray(total)))

    def difference(self, one: Setting, other: Setting) -> Estimate:
        """Estimate the cost of `one` minus that of `other`."""
        return self.weighted({one: 1.0, other: -1.0})


def undiverged(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return what was measured of networks that are compared.

    Raises:
        InputError: one of them diverged: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise InputError("a network diverged, so there is nothing to compare: try a smaller --lr")
    return values


def ground(
    data: Data,
    hidden: Sequence[int] = (256, 128),
    *,
    config: TrainConfig | None = None,
    seeds: Sequence[int] = range(5),
    rows: int | None = None,
    callback: Callable[[Event], object] | None = None,
    workers: Any = None,
    **options: Unpack[TrainOptions],
) -> Ground:
    """Return the data, network and training of questions.

    Args:
        data: its training rows are used; its test rows are not looked at.
        hidden: widths of the hidden layers.
        config: how members train; by default for 30 epochs of batches of 32 below 5000 training rows, 10 of 128 above.
        seeds: at least two.
        rows: train on so many of the training rows only.
        callback: as `Population.fit`'s.
        workers: of a cluster, as `dampen.Cluster("local").connected()` gives them; None: this machine trains.
        options: fields of `TrainConfig`, such as `epochs=20, lr=0.01`; they replace those of `config`.

    Raises:
        InputError: no hidden layer, a single seed, rows that the data has not, codes of categories, or a callback that
            can't be called.
    """
    function("callback", callback)
    if not hidden:
        raise InputError("the questions are about hidden layers: give at least one, such as --hidden 256,128")
    if len(seeds) < 2:
        raise InputError("an interval needs at least 2 seeds")
    network = mlp(*hidden)
    if data.codes:
        check_codes(network(data.n_inputs, data.outputs), data.train.features, data.codes)
    data, _, deviation = with_unit_targets(replace(data, test_rows=data.test_rows[:0]))
    choosing, evaluation = held_out(data, 0)
    train = choosing.train_rows
    if rows is not None:
        if not 1 <= rows <= len(train):
            raise InputError(f"--rows must be from 1 to the {len(train)} training rows, got {rows}")
        drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        train = train[drawn[:rows].sort().values]
    return Ground(
        replace(choosing, train_rows=train),
        replace(evaluation, train_rows=train),
        network,
        metrics.find(None, data.task),
        tuple(seeds),
        configured(config, options, epochs=usual_epochs(len(train)), batch_size=usual_batch_size(len(train))),
        callback,
        workers,
        deviation,
    )
