"""Learning curves of whole grids of settings, and what each of their networks is worth on rows that nobody has seen.

Every setting trains with every seed for every length that a study's search may give it, each time anew and with its
own schedule, as `dampen.tune` does: each seed has its own fold, whose validation rows a search may look at. The other
rows, or a large fresh sample where the data is generated, tell what is true. `python -m benchmarks.regret` simulates
ways to search on what is recorded here.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets

import dampen
from dampen.data import Data, equally_long, with_unit_targets
from dampen.engine import Model
from dampen.search import Space
from dampen.study import usual_batch_size, usual_length, usual_space
from dampen.study._defaults import usual_sizes

LENGTHS = 5  # each twice as long as the one before, the third the usual one: what a study is sure to try
FOLDS = 5
FRESH = 20_000  # rows of a fresh sample
Made = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Table:
    """A grid of trainings on one data set.

    Args:
        settings: the M settings, as numbers between 0 and 1 along each dimension of the space.
        epochs: of each length, ascending.
        curves: for each length, the validation loss after each epoch of each member, `[E, S, M]`, seed by seed on its
            own fold; infinite once it has diverged.
        truth: loss of the finished networks on unseen rows, the mean over seeds, `[L, M]`.
        first: epochs of a default study's shortest trainings.
        seeds: of each setting in its search.
    """

    settings: np.ndarray
    epochs: np.ndarray
    curves: tuple[np.ndarray, ...]
    truth: np.ndarray
    first: int
    seeds: int

    @classmethod
    def load(cls, file: Path) -> "Table":
        """Return what `record` wrote."""
        with np.load(file) as held:
            curves = tuple(np.nan_to_num(held[f"curves{i}"].astype(float), nan=np.inf) for i in range(LENGTHS))
            losses = np.nan_to_num(held["losses"].astype(float), nan=np.inf)
            first, seeds = held["usual_sizes"].tolist()
            return cls(held["settings"], held["epochs"], curves, losses.mean(1), first, seeds)


def is_recorded(file: Path) -> bool:
    """Return whether a file holds all that `Table.load` takes; those of earlier versions lack some of it."""
    if not file.exists():
        return False
    with np.load(file) as held:
        return "usual_sizes" in held


def classes(n: int) -> Made:
    """Return rows of two classes with noisy labels: 6 of 20 inputs matter."""
    x, y = datasets.make_classification(
        n, 20, n_informative=6, n_redundant=4, n_clusters_per_class=3, flip_y=0.1, class_sep=0.8, random_state=0
    )
    return np.asarray(x), np.asarray(y)


def numbers(n: int) -> Made:
    """Return rows of Friedman's (1991) first function, five of whose ten inputs matter, with noise."""
    x, y = datasets.make_friedman1(n, 10, noise=2.0, random_state=0)
    return x, y


def _generated(make: Callable[[int], Made], n: int) -> Callable[[], tuple[Data, int]]:
    def read() -> tuple[Data, int]:
        x, y = make(n + FRESH)
        return dampen.load(x, target=y, task="classification" if y.dtype.kind in "iu" else "regression", seed=0), n

    return read


def fashion_mnist() -> tuple[Data, int]:
    """Return Fashion-MNIST, four pixels averaged to one."""
    data = dampen.load("fashion-mnist")
    drawn = torch.randperm(len(data.features), generator=torch.Generator().manual_seed(0))[: FRESH + 4000]
    small = torch.nn.functional.avg_pool2d(data.features[drawn].float(), 2).round().to(torch.uint8)
    every = torch.arange(len(drawn))
    return replace(data, features=small, targets=data.targets[drawn], train_rows=every, test_rows=every[:0]), 1500


def all_pixels() -> tuple[Data, int]:
    """Return 6,000 rows of Fashion-MNIST as they are."""
    return dampen.load("fashion-mnist"), 6000


def all_rows() -> tuple[Data, int]:
    """Return the training rows of Fashion-MNIST as they are."""
    return dampen.load("fashion-mnist"), 60_000


SETS: dict[str, Callable[[], tuple[Data, int]]] = {
    # rules are chosen on these,
    "classes": _generated(classes, 400),
    "digits": lambda: (dampen.load("digits"), 500),
    "diabetes": lambda: (dampen.load("diabetes"), 220),
    # and reported on these
    "numbers": _generated(numbers, 400),
    "fashion-mnist": fashion_mnist,
    "breast-cancer": lambda: (dampen.load("breast-cancer"), 280),
    # and these besides, where they are asked for
    "fashion-mnist-6000": all_pixels,
    "fashion-mnist-60000": all_rows,
}
CHOSEN_ON, KEPT_OUT, LARGE = tuple(SETS)[:3], tuple(SETS)[3:6], tuple(SETS)[6:]
SMALL, MISSION = dampen.mlp(64, dropout=0.5), dampen.mlp(256, 128, dropout=(0.3, 0.5))
IMAGES: dict[str, tuple[int, Model]] = {  # usual epochs, fewer of the larger one, and the network
    "digits": (30, SMALL),
    "fashion-mnist": (12, SMALL),
    "fashion-mnist-6000": (10, MISSION),
    "fashion-mnist-60000": (10, MISSION),
}


def split(name: str, rows: int | None) -> Data:
    """Return a data set with few training rows; all others are test rows."""
    data, n = SETS[name]()
    every = torch.cat([data.train_rows, data.test_rows])
    whole = replace(data, train_rows=every, test_rows=every[:0])
    few = whole.subset(min(n, rows or n), seed=0)
    rest = every[~torch.isin(every, few.train_rows)]
    return with_unit_targets(replace(few, test_rows=rest[:FRESH]))[0]


def network(name: str) -> Model:
    """Return what makes the network of a data set."""
    return IMAGES[name][1] if name in IMAGES else dampen.tabular(64, 32)


def record(name: str, file: Path, settings: int, seeds: int, rows: int | None = None) -> None:
    """Train a grid on a data set, and write its curves.

    Args:
        name: of the data set.
        file: to write, `.npz`.
        settings: how many are drawn from the default space.
        seeds: of each.
        rows: training rows, where fewer than usual.
    """
    started = time.perf_counter()
    data = split(name, rows)
    tests, data = data.test_rows, replace(data, test_rows=data.test_rows[:0])
    batch_size = usual_batch_size(len(data.train_rows))
    usual = IMAGES[name][0] if name in IMAGES else usual_length(data, batch_size)
    lengths = [max(1, round(usual * 2.0**i)) for i in range(-2, LENGTHS - 2)]
    folds = equally_long(data.folds(FOLDS, -(-seeds // FOLDS), seed=0)[:seeds], 0)
    unseen = [replace(fold, test_rows=tests).test for fold in folds]
    space = Space(usual_space(data, dropping=1))
    drawn = space.draw(settings, "sobol", 0)
    held: dict[str, np.ndarray] = {"epochs": np.array(lengths), "settings": _shares(drawn, space)}
    first = math.ceil(usual / (2 if name in LARGE else 4))
    held["usual_sizes"] = np.array([first, usual_sizes(len(data.train_rows)).seeds])
    losses = []
    for i, epochs in enumerate(lengths):
        population = dampen.Population(network(name), drawn, range(seeds))
        population.fit(folds, epochs=epochs, batch_size=batch_size, schedule="cosine", evaluate_every=1)
        held[f"curves{i}"] = population.history.metrics["validation_loss"].astype(np.float32)
        outputs, targets = population.outputs(unseen), unseen[0].targets
        losses.append([_mean_losses(of_seed.double(), targets, data.task) for of_seed in outputs])
    held["losses"] = np.array(losses)
    np.savez_compressed(file, **held)  # pyright: ignore[reportArgumentType]  (none is called allow_pickle)
    print(f"{name}: {len(tests)} unseen rows, {lengths} epochs, {time.perf_counter() - started:.0f} s", flush=True)


def _mean_losses(outputs: torch.Tensor, targets: torch.Tensor, task: str) -> list[float]:
    """Return each setting's mean loss, of outputs `[M, N, C]`."""
    if task == "regression":
        return (outputs[..., 0] - targets).square().mean(1).tolist()
    return (-outputs.log_softmax(-1)[:, torch.arange(len(targets)), targets]).mean(1).tolist()


def _shares(settings: list[dampen.Setting], space: Space) -> np.ndarray:
    """Return settings as numbers between 0 and 1; a decay of 0 lies a little below the range."""

    def share(name: str, value: float) -> float:
        dimension = space.dimensions[name]
        if isinstance(dimension, dampen.LogUniform):
            return -0.1 if value == 0 else float(np.log(value / dimension.low) / np.log(dimension.high / dimension.low))
        assert isinstance(dimension, dampen.Uniform)
        return (value - dimension.low) / (dimension.high - dimension.low)

    return np.array([[share(name, setting[name]) for name in space.dimensions] for setting in settings])


def folder() -> Path:
    """Return where curves are kept: `DAMPEN_CURVES`, or a folder of the user's cache."""
    place = Path(os.environ.get("DAMPEN_CURVES", Path.home() / ".cache" / "dampen" / "curves"))
    place.mkdir(parents=True, exist_ok=True)
    return place
