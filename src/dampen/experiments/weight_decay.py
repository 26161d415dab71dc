"""The first study: weight decay on linear regression with far more inputs than rows.

Zhang, Lipton, Li and Smola, "Dive into Deep Learning", section 3.7: 20 rows of 200 inputs can be fitted perfectly
in infinitely many ways; decay picks the one with small weights, and forgets the random weights that it began with.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from dampen.data import Data
from dampen.engine import Event, History, Population
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.experiments import _linear_theory
from dampen.models import linear


@dataclass(frozen=True)
class Problem:
    """Linear regression `y = true_weight * sum(x) + true_bias + noise * e` with x and e from N(0, 1).

    Args:
        inputs: input features.
        rows: training rows; as many again are drawn for validation.
        test_rows: test rows.
        true_weight: weight of every input.
        true_bias: the intercept.
        noise: standard deviation of the noise on y.
        batch_size: rows a step.
        lr: learning rate of SGD.
        epochs: passes over the training rows.

    Raises:
        InputError: a count below 1, a learning rate of 0 or less, or a number that is not finite.
    """

    inputs: int = 200
    rows: int = 20
    test_rows: int = 100
    true_weight: float = 0.01
    true_bias: float = 0.05
    noise: float = 0.01
    batch_size: int = 5
    lr: float = 0.003
    epochs: int = 100

    def __post_init__(self) -> None:
        for name in ("inputs", "rows", "test_rows", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or larger, got {getattr(self, name)}")
        for name in ("true_weight", "true_bias", "noise", "lr"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name} must be a finite number, got {getattr(self, name)}")
        if self.noise < 0:
            raise InputError(f"noise must be 0 or larger, got {self.noise}")
        if self.lr <= 0:
            raise InputError(f"lr must be larger than 0, got {self.lr}")

    @property
    def steps(self) -> int:
        """Steps of SGD in the whole training."""
        return self.epochs * math.ceil(self.rows / self.batch_size)

    def draw(self, seed: int) -> Data:
        """Draw training, validation and test rows; the same seed gives the same rows."""
        generator = torch.Generator().manual_seed(seed)
        # Test rows first and validation rows last: changing the number of training rows leaves the test set alone.
        counts = (self.test_rows, self.rows, self.rows)
        features = torch.randn(sum(counts), self.inputs, generator=generator)
        noise = self.noise * torch.randn(sum(counts), generator=generator)
        targets = self.true_weight * features.sum(1) + self.true_bias + noise
        test, train, validation = torch.arange(sum(counts)).split(counts)
        return Data(
            name="linear regression",
            features=features,
            targets=targets,
            task="regression",
            train_rows=train,
            validation_rows=validation,
            test_rows=test,
            source=f"drawn from seed {seed}",
        )


@dataclass(frozen=True)
class Comparison:
    """What a few weight decays did.

    Args:
        problem: what was trained.
        weight_decays: the M strengths.
        history: learning curves; losses are `(output - target)^2 / 2` per row, without the penalty.
        l2_norm: norm of the weights (without the bias) at the end.
        seconds: spent on training.
    """

    problem: Problem
    weight_decays: tuple[float, ...]
    history: History
    l2_norm: Float64[np.ndarray, "S M"]
    seconds: float


@dataclass(frozen=True)
class Path:
    """Results of many weight decays, measured and in closed form; means over seeds.

    Args:
        problem: what was trained.
        seeds: how many seeds each line is the mean of.
        weight_decays: the M strengths, rising.
        test_loss: of SGD.
        validation_loss: of SGD.
        l2_norm: of SGD's weights.
        closed_form_test_loss: of gradient descent after the same number of steps from the same initial weights.
        closed_form_l2_norm: of its weights.
        ridge_test_loss: of the minimiser of the same penalised loss, where gradient descent ends.
        ridge_l2_norm: of its weights.
        seconds: spent on training.
    """

    problem: Problem
    seeds: int
    weight_decays: Float64[np.ndarray, " M"]
    test_loss: Float64[np.ndarray, " M"]
    validation_loss: Float64[np.ndarray, " M"]
    l2_norm: Float64[np.ndarray, " M"]
    closed_form_test_loss: Float64[np.ndarray, " M"]
    closed_form_l2_norm: Float64[np.ndarray, " M"]
    ridge_test_loss: Float64[np.ndarray, " M"]
    ridge_l2_norm: Float64[np.ndarray, " M"]
    seconds: float

    @property
    def best(self) -> float:
        """The weight decay with the lowest test loss: known only because the test rows were looked at."""
        return _lowest(self.weight_decays, self.test_loss)

    @property
    def chosen_by_validation(self) -> float:
        """The weight decay with the lowest validation loss: the one that may be chosen."""
        return _lowest(self.weight_decays, self.validation_loss)


def compare(
    problem: Problem,
    weight_decays: Sequence[float],
    seeds: Sequence[int],
    *,
    evaluate_every: int = 5,
    device: str = "cpu",
    callback: Callable[[Event], object] | None = None,
) -> Comparison:
    """Train the problem with each weight decay and seed, all in one population.

    Args:
        problem: rows, inputs and training.
        weight_decays: strengths lambda of the penalty `lambda / 2 * ||w||^2`.
        seeds: each draws its own rows, initial weights and batches, which all strengths share.
        evaluate_every: epochs between two points of the curves.
        device: where to train.
        callback: as in `Population.fit`.

    Raises:
        InputError: every network diverged before its first evaluation.
    """
    population, sets = _population(problem, weight_decays, seeds)
    started = time.perf_counter()
    history = _fit(population, sets, problem, evaluate_every, device, callback)
    seconds = time.perf_counter() - started
    strengths = tuple(s["weight_decay"] for s in population.settings)
    return Comparison(problem, strengths, history, history.final("weight_norm"), seconds)


def path(
    problem: Problem,
    weight_decays: Sequence[float],
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    callback: Callable[[Event], object] | None = None,
) -> Path:
    """Train many weight decays at once and compare them with gradient descent's and ridge regression's closed forms.

    Args:
        problem: rows, inputs and training.
        weight_decays: strengths lambda, larger than 0.
        seeds: each draws its own rows, initial weights and batches, which all strengths share.
        device: where to train.
        callback: as in `Population.fit`.

    Raises:
        InputError: no strength larger than 0, or every network diverged.
    """
    strengths = np.unique(np.asarray(weight_decays, dtype=float))
    if not (len(strengths) and strengths[0] > 0):
        raise InputError("a path needs weight decays larger than 0: its axis is logarithmic")
    population, sets = _population(problem, strengths.tolist(), seeds)
    initial = population.state()
    started = time.perf_counter()
    history = _fit(population, sets, problem, None, device, callback)
    seconds = time.perf_counter() - started
    theory = [
        _linear_theory.losses_and_norms(
            data, weight[0, 0], bias[0, 0], problem.lr, problem.steps, torch.from_numpy(strengths)
        )
        for data, weight, bias in zip(sets, initial["1.weight"].cpu(), initial["1.bias"].cpu(), strict=True)
    ]
    means = {name: np.mean([t[name].numpy() for t in theory], axis=0) for name in theory[0]}
    return Path(
        problem,
        len(seeds),
        strengths,
        history.final("test_loss").mean(0),
        history.final("validation_loss").mean(0),
        history.final("weight_norm").mean(0),
        seconds=seconds,
        **means,
    )


def _population(
    problem: Problem, weight_decays: Sequence[float], seeds: Sequence[int]
) -> tuple[Population, list[Data]]:
    settings = [Setting(weight_decay=strength) for strength in weight_decays]
    population = Population(lambda: linear()(problem.inputs, 1), settings, seeds)
    return population, [problem.draw(seed) for seed in population.seeds]


def _fit(
    population: Population,
    sets: list[Data],
    problem: Problem,
    evaluate_every: int | None,
    device: str,
    callback: Callable[[Event], object] | None,
) -> History:
    history = population.fit(
        sets,
        epochs=problem.epochs,
        batch_size=problem.batch_size,
        even_batches=False,  # as the script that is repeated cuts them
        optimizer="sgd",
        lr=problem.lr,
        loss="half_squared_error",
        device=device,
        evaluate_every=evaluate_every,
        callback=callback,
    )
    losses = [values for name, values in history.metrics.items() if name.endswith("loss")]
    if not any(np.isfinite(values).any() for values in losses):  # nothing that a picture could show
        raise InputError("every network diverged: try a smaller --lr")
    return history


def _lowest(weight_decays: np.ndarray, losses: np.ndarray) -> float:
    return float(weight_decays[np.nanargmin(losses)]) if np.isfinite(losses).any() else math.nan
