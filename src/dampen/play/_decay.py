"""The first study, watched: weight decay on 20 rows of 200 inputs, beside what theory says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dampen.data import Data
from dampen.engine import Population, Setting, Stepper
from dampen.errors import InputError
from dampen.experiments import _linear_theory
from dampen.experiments.weight_decay import Problem
from dampen.models import linear
from dampen.play._paired import Difference
from dampen.play._training import Band, _rounded, _with_band
from dampen.statistics import paired_difference

PROBLEM = Problem()
STRENGTHS = tuple(i / 4 for i in range(41))
"""Notches of the slider: weight decays from 0 to 10."""
N_SEEDS = 10
_EPOCHS_PER_SECOND = 25.0
_STEPS_PER_EPOCH = math.ceil(PROBLEM.rows / PROBLEM.batch_size)


@dataclass(frozen=True)
class Decay:
    """What the page is set to.

    Args:
        weight_decay: strength lambda of the penalty `lambda / 2 * ||w||^2`.

    Raises:
        InputError: it is outside 0 to 10.
    """

    weight_decay: float = 3.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight_decay) and 0 <= self.weight_decay <= STRENGTHS[-1]):
            raise InputError(f"weight_decay must be a number from 0 to {STRENGTHS[-1]:g}, got {self.weight_decay!r}")

    def query(self) -> dict[str, str]:
        """Return what an address has to name."""
        return {} if self == Decay() else {"weight_decay": f"{self.weight_decay:g}"}


def from_query(query: Mapping[str, str]) -> tuple[Decay, list[str]]:
    """Read the page's setting from an address; return it, and a line where the address could not be used."""
    text = query.get("weight_decay")
    if text is None:
        return Decay(), []
    try:
        return Decay(float(text)), []
    except ValueError as e:
        said = e if isinstance(e, InputError) else f"weight_decay must be a number, got {text[:40]!r}"
        return Decay(), [f"{said}: {Decay().weight_decay:g} is used"]


@dataclass(frozen=True)
class Curves:
    """A quantity along weight decay, mean over seeds: after as many steps of gradient descent, and in the limit."""

    descent: list[float]
    ridge: list[float]


@dataclass(frozen=True)
class DecaySnapshot:
    """Where the two trainings are; pairs are without weight decay, and with it.

    Args:
        epoch: epochs trained.
        done: whether that is the end.
        weight_decay: the strength.
        epochs: of the curves' points.
        train: training loss, half the mean squared error.
        test: test loss.
        norm: of the weights, mean over seeds.
        theory_epochs: of the points of theory's curve.
        theory_norm: norm of the weights by the closed form of gradient descent.
        ridge_norm: norm of the weights of ridge regression.
        ridge_test: its test loss.
        along: weight decays of `test_along` and `norm_along`.
        test_along: test loss by both closed forms.
        norm_along: norm by both closed forms.
        difference: of the test losses, without minus with.
    """

    epoch: int
    done: bool
    weight_decay: float
    epochs: list[int]
    train: tuple[Band, Band]
    test: tuple[Band, Band]
    norm: tuple[list[float], list[float]]
    theory_epochs: list[int]
    theory_norm: list[float]
    ridge_norm: float
    ridge_test: float
    along: list[float]
    test_along: Curves
    norm_along: Curves
    difference: Difference


class DecayTraining:
    """Trains without weight decay and with it, from the same initial weights; see `_live.Training`.

    Args:
        choice: what the page is set to.
    """

    def __init__(self, choice: Decay):
        self._choice = choice
        self._sets = [PROBLEM.draw(seed) for seed in range(N_SEEDS)]
        self.reset()
        self._along = self._theory(torch.tensor(STRENGTHS, dtype=torch.float64), PROBLEM.steps)

    @property
    def speed(self) -> float:
        """Epochs a second at most; 0 at the end."""
        return 0.0 if self._done else _EPOCHS_PER_SECOND

    def advance(self) -> None:
        """Train an epoch, until the last one."""
        if not self._done:
            self._stepper.advance(_STEPS_PER_EPOCH)
            self._record()

    def change(self, choice: Decay) -> None:
        """Begin again with another weight decay."""
        if choice != self._choice:
            self._choice = choice
            self.reset()

    def reset(self) -> None:
        """Begin again."""
        settings = [Setting(), Setting(weight_decay=self._choice.weight_decay)]
        self._population = Population(lambda: linear()(PROBLEM.inputs, 1), settings, range(N_SEEDS))
        self._initial = self._population.state()
        self._stepper = Stepper(
            self._population,
            self._sets,
            batch_size=PROBLEM.batch_size,
            even_batches=False,  # as in the lesson
            optimizer="sgd",
            lr=PROBLEM.lr,
            loss="half_squared_error",
        )
        self._curves: list[np.ndarray] = []  # training loss, test loss, norm: [3, S, 2] each
        strength = torch.tensor([self._choice.weight_decay], dtype=torch.float64)
        self._theory_epochs = list(range(0, PROBLEM.epochs + 1, 10))
        found = [self._theory(strength, epochs * _STEPS_PER_EPOCH) for epochs in self._theory_epochs]
        self._theory_norm = [float(one["closed_form_l2_norm"][0]) for one in found]
        self._ridge = {name: float(found[-1][f"ridge_{name}"][0]) for name in ("l2_norm", "test_loss")}
        self._record()

    @property
    def _done(self) -> bool:
        return self._stepper.epoch >= PROBLEM.epochs

    def _theory(self, strengths: torch.Tensor, steps: int) -> dict[str, np.ndarray]:
        """Return both closed forms, means over seeds."""
        weights, biases = self._initial["1.weight"], self._initial["1.bias"]

        def of_seed(data: Data, seed: int) -> dict[str, torch.Tensor]:
            start = weights[seed, 0, 0], biases[seed, 0].reshape(())
            return _linear_theory.losses_and_norms(data, *start, PROBLEM.lr, steps, strengths)

        found = [of_seed(data, seed) for seed, data in enumerate(self._sets)]
        return {name: np.mean([one[name].numpy() for one in found], axis=0) for name in found[0]}

    def _record(self) -> None:
        losses = [self._population.evaluate([getattr(data, part) for data in self._sets])["loss"] for part in _PARTS]
        self._curves.append(np.stack([*losses, self._stepper.norms()]))

    def snapshot(self) -> DecaySnapshot:
        """Return what there is to see now."""
        curves = np.stack(self._curves)  # [E, 3, S, 2]
        bands = _with_band(curves, 2)  # [E, 3, 2, 3]
        final = curves[-1, 1]
        paired = paired_difference(final[:, 0], final[:, 1])
        along = self._along

        def pair(quantity: int) -> tuple[Band, Band]:
            return _positive(bands[:, quantity, 0]), _positive(bands[:, quantity, 1])

        return DecaySnapshot(
            epoch=self._stepper.epoch,
            done=self._done,
            weight_decay=self._choice.weight_decay,
            epochs=list(range(len(curves))),
            train=pair(0),
            test=pair(1),
            norm=(_rounded(bands[:, 2, 0, 0]), _rounded(bands[:, 2, 1, 0])),
            theory_epochs=self._theory_epochs,
            theory_norm=self._theory_norm,
            ridge_norm=self._ridge["l2_norm"],
            ridge_test=self._ridge["test_loss"],
            along=list(STRENGTHS),
            test_along=Curves(along["closed_form_test_loss"].tolist(), along["ridge_test_loss"].tolist()),
            norm_along=Curves(along["closed_form_l2_norm"].tolist(), along["ridge_l2_norm"].tolist()),
            difference=Difference(paired.mean, paired.low, paired.high),
        )


_PARTS = ("train", "test")


def _positive(values: np.ndarray) -> Band:
    """Return a band for a logarithmic axis: significant digits instead of places, and a lower edge above 0."""
    mean = values[:, 0]
    low = np.maximum(values[:, 1], mean / 3)
    return Band(*([float(f"{v:.4g}") for v in column] for column in (mean, low, values[:, 2])))


def decay_training(choice: Decay) -> DecayTraining:
    """Make the training of the page."""
    return DecayTraining(choice)
