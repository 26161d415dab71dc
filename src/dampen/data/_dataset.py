"""`Data`: one data set, split into rows for training, validation and test."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dampen._html import lines, table
from dampen.data import _checks, _duplicates, _given_folds, _normalisation, _splits
from dampen.data._duplicates import Copies
from dampen.data._normalisation import Normalisation
from dampen.data.tables import _infer_types, _vectoriser
from dampen.data.tables._codes import CodedColumn
from dampen.data.tables._columns import Columns
from dampen.data.tables._vectoriser import Vectoriser
from dampen.errors import InputError

Task = Literal["classification", "regression"]
Scaling = Literal["pixels", "standardise"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are ready for a network.

    - `features`: normalised, float32; int64 where whole numbers are to be embedded.
    - `targets`: int64 class numbers, or float32 values in the target's own unit.
    - `weights`: how much each row counts, with mean 1; None where all count alike.
    - `groups`: rows with the same number belong together; None where each stands for itself.
    - `times`: the rank of each row's time; None without times.
    - `numbers`: which rows of their data they are; None where that is not known.
    - `mean_weight`: by which weights were divided, beside the mean of all rows of the data.
    """

    features: Shaped[Tensor, "N ..."]
    targets: Shaped[Tensor, " N"]
    weights: Float[Tensor, " N"] | None = None
    groups: Int[Tensor, " N"] | None = None
    times: Int[Tensor, " N"] | None = None
    numbers: Int[Tensor, " N"] | None = None
    mean_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def size(self) -> float:
        """How much these rows count beside others of the data: as many as they are, times their mean weight."""
        return len(self) * self.mean_weight

    @property
    def weights_among_all(self) -> Float[Tensor, " N"] | None:
        """Weights that can be compared with those of other rows of the data; their mean need not be 1."""
        return None if self.weights is None else self.weights.double() * self.mean_weight


def _no_rows() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Data:
    """A data set and how its rows are split; `load` and `from_arrays` make one.

    Nothing in it changes: `with_validation` and `subset` return a new `Data` that shares the memory.

    - `features`: raw, all rows; images uint8 `[N, C, H, W]`, tables float32 `[N, D]`, numbers to embed int64.
    - `targets`: int64 class numbers from 0, or float32 values in the target's own unit.
    - `classes`: the classes' names in the order of their numbers; None for regression.
    - `train_rows`, `validation_rows`, `test_rows`: row numbers; the last two may be empty.
    - `scaling`: `"pixels"` maps 0..`pixel_max` to -1..1, `"standardise"` gives each column mean 0 and
      standard deviation 1 over the training rows, None leaves the features as they are.
    - `columns`: of a table that was read from a file or a frame: what each column of `features` is. The features are
      then numbers that keep every value, missing ones NaN; `normalisation` makes inputs of them.
    - `weights`: how much each row counts; None where all count alike.
    - `groups`: rows with the same number stay together in every split; `together` adds those of equal rows.
    - `stratified`: whether each class keeps its share in every split; False where classes have too few rows for that.
    - `times`: the rank of each row's time: later rows evaluate, those of one time stay together; None without times.
    - `numbered`: the number of each row in its file, from 0, where rows without a target were left out, rows put in the
      order of time, or test rows are of another file; None where it is the row's own number.
    - `given_folds`: row numbers that train and that are held out, for each fold of `with_folds`; None: a study draws
      its own.
    - `target_name`: the target's column.
    - `reading`: the arguments of `load`, for reading the same again; None for what was in memory.
    - `notes`: what was done to the rows on the way, a sentence each.
    - `source`: where the data was read from.

    Raises `InputError` for values that are NaN or infinite, features and targets of different length,
    labels outside 0..C-1, overlapping or missing rows, and an empty training set.

    >>> from dampen.data import load
    >>> data = load("iris").with_validation(0.25)
    >>> data
    Data('iris': classification, 83 training, 29 validation and 38 test rows, inputs 4, outputs 3)
    >>> data.train.features.shape
    torch.Size([83, 4])
    """

    name: str
    task: Task
    features: Shaped[Tensor, "N ..."]
    targets: Shaped[Tensor, " _"]  # not tied to N here: _check has the message
    train_rows: Int[Tensor, " train"]
    validation_rows: Int[Tensor, " validation"] = field(default_factory=_no_rows)
    test_rows: Int[Tensor, " test"] = field(default_factory=_no_rows)
    classes: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    pixel_max: float = 255.0
    columns: Columns | None = None
    weights: Float[Tensor, " _"] | None = None
    groups: Int[Tensor, " _"] | None = None
    stratified: bool = True
    times: Int[Tensor, " _"] | None = None
    numbered: Int[Tensor, " _"] | None = None
    given_folds: _given_folds.Pairs | None = None
    target_name: str | None = None
    reading: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    source: str = "memory"

    def __post_init__(self) -> None:
        _checks.features(self.features, self.feature_names, missing=self.columns is not None)
        _checks.targets(self.targets, self.task, self.classes, n_rows=len(self.features))
        _checks.rows(
            {
                "train_rows": self.train_rows,
                "validation_rows": self.validation_rows,
                "test_rows": self.test_rows,
            },
            n_rows=len(self.features),
        )
        _checks.scaling(self.scaling, self.pixel_max)
        _checks.weights(self.weights, self.train_rows, n_rows=len(self.features))
        _checks.groups(self.groups, n_rows=len(self.features))
        _checks.groups(self.times, n_rows=len(self.features), what="times")
        _checks.groups(self.numbered, n_rows=len(self.features), what="numbered")
        if self.given_folds is not None:
            self._without_validation("folds hold out rows of their own")
            _given_folds.check(self.given_folds, self.train_rows, self.name)

    def __repr__(self) -> str:
        of = "" if self.target_name is None else f" of '{self.target_name}'"
        return (
            f"Data('{self.name}': {self.task}{of}, {len(self.train_rows)} training, "
            f"{len(self.validation_rows)} validation and {len(self.test_rows)} test rows, "
            f"inputs {'x'.join(map(str, self.inputs))}, outputs {self.outputs})"
        )

    def _repr_html_(self) -> str:
        about = [*self.notes] if self.columns is None else [*self.notes, "What its columns become:"]
        columns = () if self.columns is None else self.columns.document(self.outputs)
        by_name = {name: [column[name] for column in columns] for name in ("name", "read_as", "becomes", "note")}
        return lines(repr(self), about) + (table(by_name) if columns else "")

    @property
    def inputs(self) -> tuple[int, ...]:
        """Shape of one row of the network's input, for example `(1, 28, 28)`."""
        if self.columns is not None:
            return (_vectoriser.width(self.columns, self.outputs),)
        return tuple(self.features.shape[1:])

    @property
    def codes(self) -> tuple[CodedColumn, ...]:
        """The columns of a table whose categories are codes among the inputs, for a network that embeds them.

        Each has its `name`, its `place` among the inputs and `num_embeddings`, how many codes there are: what an
        `nn.Embedding` takes. They are the first inputs, in the order in which `load(..., codes=[...])` names them.

        >>> import pandas as pd
        >>> from dampen.data import load
        >>> rows = pd.DataFrame({"size": range(60), "shop": ["a", "b", "c"] * 20, "sales": range(60, 120)})
        >>> load(rows, target="sales", codes=["shop"]).codes
        (CodedColumn(name='shop', place=0, num_embeddings=4),)
        """
        return () if self.columns is None else self.columns.codes(self.outputs)

    def without_codes(self) -> "Data":
        """Return the data with codes as categories: an input for each, or their mean target where they are many.

        What takes inputs for numbers is trained on it: the simple models of a study, `dampen.tabular`.
        """
        if not self.codes or self.columns is None:
            return self
        of_codes = [code.note for code in self.codes]
        notes = tuple(note for note in self.notes if note not in of_codes)
        return replace(self, columns=_infer_types.as_categories(self.columns), reading=None, notes=notes)

    def in_file(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the numbers that rows have in their file, from 0."""
        return rows if self.numbered is None else self.numbered[rows]

    @property
    def ordered(self) -> bool:
        """Whether rows are in the order of time, which splits keep."""
        return self.times is not None

    @property
    def n_inputs(self) -> int:
        """Number of values in one row."""
        return math.prod(self.inputs)

    @property
    def outputs(self) -> int:
        """Number of classes; 1 for regression."""
        return len(self.classes) if self.classes is not None else 1

    @cached_property
    def normalisation(self) -> Normalisation | Vectoriser:
        """How raw features become inputs; fitted on the training rows alone."""
        if self.columns is not None:
            return self._vectorised[0]
        if self.scaling == "pixels":
            return _normalisation.pixels(self.pixel_max)
        if self.scaling == "standardise":
            return _normalisation.standardise(self.features[self.train_rows])
        return _normalisation.identity(self.features.dtype == torch.int64)

    @cached_property
    def _vectorised(self) -> tuple[Vectoriser, Tensor]:
        assert self.columns is not None
        rows = self.train_rows
        return _vectoriser.fit(self.columns, self.features[rows], self.targets[rows], self.outputs)

    @cached_property
    def train(self) -> Rows:
        """The rows to fit."""
        if self.columns is None:
            return self._rows(self.train_rows)
        return self._with_roles(self._vectorised[1], self.train_rows)

    @cached_property
    def validation(self) -> Rows:
        """The rows to choose by; none until `with_validation`."""
        return self._rows(self.validation_rows)

    @cached_property
    def test(self) -> Rows:
        """The rows to open once, at the end."""
        return self._rows(self.test_rows)

    def _rows(self, rows: Int[Tensor, " n"]) -> Rows:
        return self._with_roles(self.normalisation.apply(self.features[rows]), rows)

    def _with_roles(self, inputs: Shaped[Tensor, "n ..."], rows: Int[Tensor, " n"]) -> Rows:
        weights, mean = None, 1.0
        if self.weights is not None and len(rows):
            weights = self.weights[rows].double()
            if not weights.any():
                raise InputError(f"all {len(rows)} evaluation rows have weight 0; give some of them a weight")
            mean = float(weights.mean() / self.weights.double().mean())
            weights = weights / weights.mean()
        groups, times = (None if of_all is None else of_all[rows] for of_all in (self.groups, self.times))
        return Rows(inputs, self.targets[rows], weights, groups, times, rows, mean)

    def whole(self) -> "Data | None":
        """Return the data of an array of whole numbers with these as inputs, to embed; None for other data."""
        used = () if self.columns is None else self.columns.used
        plain = all(
            column.kind == "number" and column.name == f"x{j}" and (column.offset, column.unit) == (0.0, 1.0)
            for j, column in enumerate(used)
        )
        if not used or not plain or not (self.features == self.features.floor()).all():  # NaN equals nothing
            return None
        reading = None if self.reading is None else {**self.reading, "normalise": False}
        features = self.features.to(torch.int64)
        return replace(self, features=features, columns=None, feature_names=None, scaling=None, reading=reading)

    @property
    def _shared(self) -> tuple[str, ...] | None:
        return self.classes if self.stratified else None

    @cached_property
    def copies(self) -> Copies:
        """Which rows have equal features."""
        return _duplicates.find(self.features)

    def together(self) -> "Data":
        """Return the data with `groups` in which copies of a row are together; itself where there is nothing to add.

        `load`, `from_arrays`, `with_validation` and `folds` do it by themselves; rows in the order of time keep that.
        """
        groups = self.groups if self.ordered else _duplicates.joined(self.groups, self.copies.together)
        return self if groups is self.groups else replace(self, groups=groups)

    def with_validation(self, fraction: float = 0.2, seed: int = 0) -> "Data":
        """Move a fraction of the training rows to validation, each class in its share, copies of a row on one side.

        Raises `InputError` when validation rows exist already or a class has too few rows.
        """
        if len(self.validation_rows):
            raise InputError(
                f"'{self.name}' has {len(self.validation_rows)} validation rows already; "
                "start from the data without them"
            )
        if self.given_folds is not None:
            raise InputError(f"'{self.name}' has {len(self.given_folds)} folds already, which hold out their own rows")
        n_drawn = _splits.count(fraction, len(self.train_rows), "the validation fraction")
        purpose = f"validation rows of '{self.name}'"
        data = self.together()
        rest, drawn = _splits.draw(
            *(self.train_rows, self.targets, n_drawn),
            seed=seed,
            classes=self._shared,
            purpose=purpose,
            groups=data.groups,
            alike=self.copies.are(data.groups),
            times=self.times,
        )
        return replace(data, train_rows=rest, validation_rows=drawn)

    def folds(self, n: int = 5, repeats: int = 1, seed: int = 0) -> list["Data"]:
        """Split the training rows n ways, each class in its share: each part is the validation rows of one `Data`.

        Copies of a row are in one part. Folds of `with_folds` come back as they were given, `repeats` times.

        Args:
            n: number of parts, 2 or more.
            repeats: how often to split anew; `n * repeats` data sets come back.
            seed: of the splitting.

        Raises `InputError` when validation rows exist already, or a class has fewer rows than there are parts.
        """
        if self.given_folds is not None:
            return [
                replace(self, train_rows=rest, validation_rows=held, given_folds=None)
                for rest, held in self.given_folds * repeats
            ]
        self._without_validation("folds draw their own")
        if self.ordered:
            raise InputError(f"the rows of '{self.name}' are in the order of time: folds would let later ones train")
        data = self.together()
        parts = _splits.folds(
            *(self.train_rows, self.targets, n, repeats),
            seed=seed,
            classes=self._shared,
            name=self.name,
            groups=data.groups,
            alike=self.copies.are(data.groups),
        )
        return [replace(data, train_rows=rest, validation_rows=held) for rest, held in parts]

    def with_folds(self, folds: Any) -> "Data":
        """Give the folds by which a study evaluates, in place of those that it would draw.

        Rows whose copy, or whose group, a fold holds out do not train there; a note has how many rows that are. Test
        rows stay as they are.

        Args:
            folds: pairs `(train, test)` of row numbers, all among `train_rows`; a splitter of scikit-learn, which
                splits the training rows in their order, with `groups`; or an int: so many, for classes stratified ones.

        Raises:
            InputError: fewer than 2 or more than 100 folds, rows on both sides, or training parts of different sizes,
                as expanding windows in time have them: what is best depends on how many rows train.

        Example:
            >>> from sklearn.model_selection import KFold
            >>> from dampen.data import load
            >>> len(load("iris").with_folds(KFold(3)).folds())
            3
        """
        self._without_validation("folds hold out rows of their own")
        pairs = _given_folds.of_splitter(
            folds, self.features, self.targets, self.train_rows, self.groups, self.classes is not None
        )
        _given_folds.check(pairs, self.train_rows, self.name)
        pairs, n = _given_folds.apart(pairs, self.together().groups)
        note = f"{n} rows do not train in a fold that holds out a copy of them, or a row of their group"
        notes = (*self.notes, note) if n else self.notes
        try:
            _given_folds.check(pairs, self.train_rows, self.name)
        except InputError as e:
            raise InputError(f"with copies and groups of rows kept on one side: {e}") from None
        return replace(self, given_folds=pairs, notes=notes, reading=None)

    def _without_validation(self, why: str) -> None:
        if len(self.validation_rows):
            raise InputError(f"'{self.name}' has {len(self.validation_rows)} validation rows already: {why}")

    def subset(self, n: int, seed: int = 0) -> "Data":
        """Keep only `n` training rows, each class in its share; validation and test stay as they are.

        Raises `InputError` when there are fewer than `n` training rows or a class has too few.
        """
        n_train = len(self.train_rows)
        if self.given_folds is not None:
            raise InputError(f"'{self.name}' has folds: take the subset first, then give it folds")
        if not 1 <= n <= n_train:
            raise InputError(f"a subset of '{self.name}' has 1 to {n_train} training rows, got {n}")
        if n == n_train:
            return self
        purpose = f"a subset of '{self.name}'"
        _, drawn = _splits.draw(self.train_rows, self.targets, n, seed=seed, classes=self._shared, purpose=purpose)
        return replace(self, train_rows=drawn)
