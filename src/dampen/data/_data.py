"""`Data`: one data set, split into rows for training, validation and test."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dampen.data import _check, _normalise, _split
from dampen.data._normalise import Normalisation
from dampen.errors import InputError

Task = Literal["classification", "regression"]
Scaling = Literal["pixels", "standardise"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are ready for a network.

    - `features`: normalised, float32.
    - `targets`: int64 class numbers, or float32 values in the target's own unit.
    """

    features: Float[Tensor, "N ..."]
    targets: Shaped[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.targets)


def _no_rows() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Data:
    """A data set and how its rows are split; `load` and `from_arrays` make one.

    Nothing in it changes: `with_validation` and `subset` return a new `Data` that shares the memory.

    - `features`: raw, all rows; images uint8 `[N, C, H, W]`, tables float32 `[N, D]`.
    - `targets`: int64 class numbers from 0, or float32 values in the target's own unit.
    - `classes`: the classes' names in the order of their numbers; None for regression.
    - `train_rows`, `validation_rows`, `test_rows`: row numbers; the last two may be empty.
    - `scaling`: `"pixels"` maps 0..`pixel_max` to -1..1, `"standardise"` gives each column mean 0 and
      standard deviation 1 over the training rows, None leaves the features as they are.
    - `source`: where the data was read from.

    Raises `InputError` for values that are NaN or infinite, features and targets of different length,
    labels outside 0..C-1, overlapping or missing rows, and an empty training set.

    >>> from dampen.data import load
    >>> data = load("iris").with_validation(0.25)
    >>> data
    Data('iris': classification, 84 training, 28 validation and 38 test rows, inputs 4, outputs 3)
    >>> data.train.features.shape
    torch.Size([84, 4])
    """

    name: str
    task: Task
    features: Shaped[Tensor, "N ..."]
    targets: Shaped[Tensor, " _"]  # not tied to N here: a user who gets it wrong is told by _check
    train_rows: Int[Tensor, " train"]
    validation_rows: Int[Tensor, " validation"] = field(default_factory=_no_rows)
    test_rows: Int[Tensor, " test"] = field(default_factory=_no_rows)
    classes: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    pixel_max: float = 255.0
    source: str = "memory"

    def __post_init__(self) -> None:
        _check.features(self.features, self.feature_names)
        _check.targets(self.targets, self.task, self.classes, n_rows=len(self.features))
        _check.rows(
            {
                "train_rows": self.train_rows,
                "validation_rows": self.validation_rows,
                "test_rows": self.test_rows,
            },
            n_rows=len(self.features),
        )
        _check.scaling(self.scaling, self.pixel_max)

    def __repr__(self) -> str:
        return (
            f"Data('{self.name}': {self.task}, {len(self.train_rows)} training, "
            f"{len(self.validation_rows)} validation and {len(self.test_rows)} test rows, "
            f"inputs {'x'.join(map(str, self.inputs))}, outputs {self.outputs})"
        )

    @property
    def inputs(self) -> tuple[int, ...]:
        """Shape of one row, for example `(1, 28, 28)`."""
        return tuple(self.features.shape[1:])

    @property
    def n_inputs(self) -> int:
        """Number of values in one row."""
        return math.prod(self.inputs)

    @property
    def outputs(self) -> int:
        """Number of classes; 1 for regression."""
        return len(self.classes) if self.classes is not None else 1

    @cached_property
    def normalisation(self) -> Normalisation:
        """How raw features become inputs; fitted on the training rows alone."""
        if self.scaling == "pixels":
            return _normalise.pixels(self.pixel_max)
        if self.scaling == "standardise":
            return _normalise.standardise(self.features[self.train_rows])
        return _normalise.identity()

    @cached_property
    def train(self) -> Rows:
        """The rows to fit."""
        return self._rows(self.train_rows)

    @cached_property
    def validation(self) -> Rows:
        """The rows to choose by; none until `with_validation`."""
        return self._rows(self.validation_rows)

    @cached_property
    def test(self) -> Rows:
        """The rows to open once, at the end."""
        return self._rows(self.test_rows)

    def _rows(self, rows: Int[Tensor, " n"]) -> Rows:
        return Rows(self.normalisation.apply(self.features[rows]), self.targets[rows])

    def with_validation(self, fraction: float = 0.2, seed: int = 0) -> "Data":
        """Move a fraction of the training rows to validation, each class in its share.

        Raises `InputError` when validation rows exist already or a class has too few rows.
        """
        if len(self.validation_rows):
            raise InputError(
                f"'{self.name}' has {len(self.validation_rows)} validation rows already; "
                "start from the data without them"
            )
        n_drawn = _split.count(fraction, len(self.train_rows), "the validation fraction")
        purpose = f"validation rows of '{self.name}'"
        rest, drawn = _split.draw(
            self.train_rows, self.targets, n_drawn, seed=seed, classes=self.classes, purpose=purpose
        )
        return replace(self, train_rows=rest, validation_rows=drawn)

    def folds(self, n: int = 5, repeats: int = 1, seed: int = 0) -> list["Data"]:
        """Split the training rows n ways, each class in its share: each part is the validation rows of one `Data`.

        Args:
            n: number of parts, 2 or more.
            repeats: how often to split anew; `n * repeats` data sets come back.
            seed: of the splitting.

        Raises `InputError` when validation rows exist already, or a class has fewer rows than there are parts.
        """
        if len(self.validation_rows):
            raise InputError(
                f"'{self.name}' has {len(self.validation_rows)} validation rows already: folds make their own"
            )
        parts = _split.folds(self.train_rows, self.targets, n, repeats, seed=seed, classes=self.classes, name=self.name)
        return [replace(self, train_rows=rest, validation_rows=held) for rest, held in parts]

    def subset(self, n: int, seed: int = 0) -> "Data":
        """Keep only `n` training rows, each class in its share; validation and test stay as they are.

        Raises `InputError` when there are fewer than `n` training rows or a class has too few.
        """
        n_train = len(self.train_rows)
        if not 1 <= n <= n_train:
            raise InputError(f"a subset of '{self.name}' has 1 to {n_train} training rows, got {n}")
        if n == n_train:
            return self
        purpose = f"a subset of '{self.name}'"
        _, drawn = _split.draw(self.train_rows, self.targets, n, seed=seed, classes=self.classes, purpose=purpose)
        return replace(self, train_rows=drawn)
