"""Rows as an estimator takes them: equal ones merged, in an order of their own, ready for a study."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64, Int64

from dampen.data import (
    Columns,
    Data,
    decide,
    encode_new,
    numbers_only,
    repeating,
    repeats,
    spelling_notes,
)
from dampen.errors import InputError

_LEAST_OF_CLASS = 5  # rows of a class below which classes can't have their share in each of five folds

Folds = list[tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]]

_MISSING = re.compile(r"\d+ missing")  # what needs no warning: a missing value is an input of its own


@dataclass(frozen=True, eq=False)
class Merged:
    """Rows of which no two are equal.

    Args:
        table: what they hold: an array of numbers, or a frame.
        targets: theirs.
        weights: theirs; how often a row was there, times its weight.
        places: of the rows as they were given: which of these each became; -1 for one of weight 0.
    """

    table: Any
    targets: np.ndarray
    weights: Float64[np.ndarray, " N"]
    places: Int64[np.ndarray, " given"]


def merged(table: Any, targets: np.ndarray, weights: Float64[np.ndarray, " N"]) -> Merged:
    """Merge equal rows with equal targets into one with their weights' sum, and bring rows into an order of their own.

    So a row of weight 2 is the same as the row given twice, one of weight 0 as one left out, and the order in which
    rows are given changes nothing; and no row evaluates a network that was trained on its copy.

    Args:
        table: an array or a frame.
        targets: one for each row.
        weights: likewise, 0 or larger.
    """
    import pandas as pd
    from pandas.util import hash_pandas_object

    kept = np.flatnonzero(weights > 0)
    frame = table.iloc[kept] if hasattr(table, "iloc") else pd.DataFrame(np.asarray(table[kept], np.float64) + 0.0)
    keys = pd.DataFrame({j: _key(frame.iloc[:, j]) for j in range(frame.shape[1])})
    # 64 bits: among a million rows two different ones meet with probability 3e-8
    hashes = cast(Any, hash_pandas_object)(keys, index=False).to_numpy()
    # targets by their rank: in another unit they give the same order
    ranks = np.unique(targets[kept], return_inverse=True)[1]
    order = np.lexsort((ranks, hashes))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(hashes[order]) != 0) | (np.diff(ranks[order]) != 0)
    numbers = np.cumsum(new) - 1
    sums = np.bincount(numbers, weights=weights[kept][order])
    places = np.full(len(targets), -1)
    places[kept[order]] = numbers
    first = order[new]
    rows = kept[first]
    return Merged(table.iloc[rows] if hasattr(table, "iloc") else table[rows], targets[rows], sums, places)


def with_folds(data: Data, rows: Merged, folds: Folds) -> Data:
    """Return data with folds of the rows as they were given.

    A row of which a fold holds out one copy and trains on another is held out. Warns of such rows.

    Args:
        data: of merged rows.
        rows: these.
        folds: pairs of row numbers, of rows as they were given.

    Raises:
        InputError: as `Data.with_folds`.
    """
    pairs, both = [], set[int]()
    for fold in folds:
        rest, held = (np.unique(rows.places[numbers]) for numbers in fold)
        both |= set(np.intersect1d(rest, held)) - {-1}
        pairs.append((np.setdiff1d(rest, [*held, -1]), np.setdiff1d(held, [-1])))
    try:
        found = data.with_folds(pairs)
    except InputError as e:
        raise InputError(f"cv: {e}") from None
    own = [f"{len(both)} rows do not train in a fold that holds out a copy of them"] if both else []
    for note in [*own, *found.notes[len(data.notes) :]]:
        warnings.warn(f"cv: {note}", UserWarning, stacklevel=4)
    return found


def columns_of(table: Any, names: Sequence[Any] | None) -> Columns:
    """Return what a table's columns are, a frame's as `dampen.load` reads them; all numbers of an array are used.

    Warns of columns that are not used and of odd values.

    Args:
        table: merged rows: a frame, or an array.
        names: of an array's columns where it was a frame of numbers.
    """
    import pandas as pd

    if not hasattr(table, "iloc"):
        if names is None:
            return numbers_only(np.asarray(table, np.float64))
        table = pd.DataFrame(np.asarray(table, np.float64), columns=list(names))
    columns = decide(table)
    for name, why in columns.dropped:
        reason = f"it {why}" if why.startswith("looks") else why
        warnings.warn(f"column '{name}' is not used: {reason}", UserWarning, stacklevel=4)
    for column in columns.used:
        if column.said and not _MISSING.fullmatch(column.said):
            warnings.warn(f"column '{column.name}': {column.said}", UserWarning, stacklevel=4)
    for note in spelling_notes(columns):
        warnings.warn(note, UserWarning, stacklevel=4)
    return columns


def repeating_notes(rows: Merged, classes: tuple[str, ...] | None, names: Sequence[Any] | None = None) -> list[str]:
    """Return a sentence for each column that looks like an identifier of what several rows belong to."""
    import pandas as pd

    table = rows.table
    if not hasattr(table, "iloc"):
        columns = [f"x{j}" for j in range(table.shape[1])] if names is None else list(names)
        table = pd.DataFrame(table, columns=columns)
    targets = rows.targets.astype(np.float64)[:, None]
    if classes is not None:
        targets = (targets == np.arange(len(classes))).astype(np.float64)
    return [
        f"{repeats(name, count)}: if rows of one belong together, score with GroupKFold, or use dampen.tune on data "
        f"with group='{name}'; fit has them on both sides of its splits"
        for name, count in repeating(table, np.arange(len(table)), targets)
    ]


def _key(column: Any) -> np.ndarray:
    import pandas as pd

    return column.to_numpy() if pd.api.types.is_numeric_dtype(column.dtype) else column.astype(str).to_numpy(object)


def encoded_new(
    columns: Columns, table: Any, names: Sequence[Any] | None = None
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Return the values of rows to come as `encoded` does, and what is odd about them."""
    values, _, notes = encode_new(columns, _frame(columns, table, names), "X")
    return torch.from_numpy(values), tuple(notes)


def encoded(columns: Columns, table: Any, names: Sequence[Any] | None = None) -> torch.Tensor:
    """Return a table's values as `Data` takes them; an array's columns are those with these names, or all."""
    return torch.from_numpy(columns.encode(_frame(columns, table, names), "X"))


def _frame(columns: Columns, table: Any, names: Sequence[Any] | None) -> Any:
    import pandas as pd

    if hasattr(table, "iloc"):
        return table
    return pd.DataFrame(table, columns=[column.name for column in columns.used] if names is None else list(names))


def as_data(
    rows: Merged, columns: Columns, classes: tuple[str, ...] | None, names: Sequence[Any] | None = None
) -> Data:
    """Return rows for a study, all of them for training."""
    weights = None
    if not np.allclose(rows.weights, rows.weights[0], rtol=1e-12, atol=0.0):
        weights = torch.from_numpy((rows.weights / rows.weights.mean()).astype(np.float32))
    targets = torch.from_numpy(rows.targets.astype(np.float32 if classes is None else np.int64))
    counts = np.bincount(rows.targets) if classes is not None else np.array([len(rows.targets)])
    return Data(
        name="X",
        task="regression" if classes is None else "classification",
        features=encoded(columns, rows.table, names),
        targets=targets,
        train_rows=torch.arange(len(targets)),
        classes=classes,
        columns=columns,
        weights=weights,
        stratified=bool(counts.min() >= _LEAST_OF_CLASS),
    )
