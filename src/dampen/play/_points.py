"""Points of two inputs, or of one and a number to predict: the shapes that a lesson draws."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.datasets import make_blobs, make_circles, make_moons
from torch import Tensor

from dampen.play._lesson import Lesson
from dampen.play._surface import SIDE, SIDE_OF_MANY, grid


@dataclass(frozen=True, eq=False)
class Points:
    """Training and test rows.

    Args:
        inputs: the training rows, `[N, D]`, with mean 0 and deviation 1.
        targets: their class numbers, or numbers `[N, 1]`.
        test_inputs: the test rows.
        test_targets: theirs.
        n_classes: how many there are; 0 where a number is predicted.
        low: of each input that is shown, where the picture begins.
        high: of each input that is shown, where it ends.
        grid: the rows at which the picture is found: `grid` of `_surface` for two inputs that are shown, or a line.
        shown: numbers of the inputs that are shown, one or two.
    """

    inputs: Float[Tensor, "N D"]
    targets: Shaped[Tensor, "N ..."]
    test_inputs: Float[Tensor, "T D"]
    test_targets: Shaped[Tensor, "T ..."]
    n_classes: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    grid: Float[Tensor, "G D"]
    shown: tuple[int, ...]


_FEW = 8  # seeds: the pictures of more cost a frame's time
_LINE = 121  # points along the picture of a curve
_MARGIN = 0.1  # of the picture's width, beyond the outermost points


def draw(lesson: Lesson) -> Points:
    """Draw a lesson's points: the same for the same lesson."""
    rng = np.random.RandomState(lesson.seed)
    x, y = _SHAPES[lesson.points](lesson.n_points, lesson.noise, rng)
    order = rng.permutation(len(x))
    n_train = min(max(2, round(lesson.train_share * len(x))), len(x) - 2)
    train, test = order[:n_train], order[n_train:]
    x = (x - x[train].mean(0)) / x[train].std(0).clip(1e-6)
    span = _MARGIN * (x.max(0) - x.min(0))
    low, high = tuple((x.min(0) - span).tolist()), tuple((x.max(0) + span).tolist())
    classes = lesson.task == "classification"
    side = SIDE if lesson.n_seeds <= _FEW else SIDE_OF_MANY
    inputs = torch.from_numpy(x).float()
    targets = torch.from_numpy(y).long() if classes else torch.from_numpy(y).float().unsqueeze(1)
    return Points(
        inputs[train],
        targets[train],
        inputs[test],
        targets[test],
        int(y.max()) + 1 if classes else 0,
        low,
        high,
        grid(low, high, side) if len(low) == 2 else torch.linspace(low[0], high[0], _LINE).unsqueeze(1),
        tuple(range(len(low))),
    )


Drawn = tuple[Any, Any]
"""Inputs `[N, D]` and class numbers or numbers `[N]`, as arrays."""


def _moons(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    return make_moons(n, noise=noise, random_state=rng)


def _circles(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    return make_circles(n, noise=noise / 2, factor=0.5, random_state=rng)


def _blobs(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    x, y, *_ = make_blobs(n, centers=[[-1.0, -0.6], [1.0, -0.6], [0.0, 1.1]], cluster_std=0.2 + noise, random_state=rng)
    return x, y


def _spiral(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    """Return two arms of one and a half turns."""
    arm = np.arange(n) % 2
    turn = np.sqrt(rng.uniform(0.05, 1.0, n)) * 3 * np.pi
    angle = turn + np.pi * arm
    x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], 1) / (3 * np.pi)
    return x + noise / 4 * rng.standard_normal((n, 2)), arm


def _xor(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    x = rng.uniform(-1, 1, (n, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    y[:2] = 0, 1  # both classes, however few points
    return x + noise * rng.standard_normal((n, 2)), y


def _curve(n: int, noise: float, rng: np.random.RandomState) -> Drawn:
    x = rng.uniform(-1, 1, (n, 1))
    return x, np.sin(3 * np.pi * x[:, 0]) * (1 - 0.4 * x[:, 0]) + noise * rng.standard_normal(n)


_SHAPES = {"moons": _moons, "circles": _circles, "spiral": _spiral, "xor": _xor, "blobs": _blobs, "curve": _curve}
