"""Targets, groups, weights and times that are given beside a table: joined to it as columns."""

from typing import Any

import numpy as np

from dampen._tensors import as_native
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import as_text, typed
from dampen.errors import InputError


def is_values(given: Any) -> bool:
    """Return whether a role is given as values, one for each row, not as a column's name."""
    return given is not None and not isinstance(given, str)


def as_series(values: Any, role: str) -> tuple[Series, tuple[str, ...]]:
    """Return values as a series, and notes on them.

    Args:
        values: a series, an array, a tensor, a list, of pandas, polars, NumPy or torch; for a target also a single
            column, or columns of 0 and 1 of which one is 1 in each row.
        role: what they are for.

    Raises:
        InputError: they have another shape.
    """
    import pandas as pd

    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    if isinstance(values, list | tuple):
        values = _array(values, role)
    if isinstance(values, pd.Series):
        return values, ()
    if isinstance(values, pd.Index):
        return values.to_series(index=pd.RangeIndex(len(values))), ()
    if not isinstance(values, pd.DataFrame):
        if not hasattr(values, "__array__"):
            raise InputError(f"{role} must be a column's name, or one value for each row, got {type(values).__name__}")
        array = np.asarray(as_native(np.asanyarray(values)))
        if array.ndim == 1:
            return pd.Series(array), ()
        if array.ndim != 2:
            raise InputError(f"{role} must be one value for each row, got shape {list(array.shape)}")
        values = pd.DataFrame(array)
    if values.shape[1] == 1:
        return values.iloc[:, 0] if isinstance(values.columns[0], str) else values.iloc[:, 0].rename(None), ()
    numbers = values.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if role != "target" or not np.isin(numbers, (0.0, 1.0)).all() or not (numbers.sum(1) == 1).all():
        raise InputError(f"{role} must be one value for each row, got shape {list(values.shape)}: give one column")
    names = np.array(list(values.columns), dtype=object)
    note = f"the target's {values.shape[1]} columns of 0 and 1 are treated as classes"
    return pd.Series(names[numbers.argmax(1)], index=values.index).infer_objects(), (note,)


def _array(values: list[Any] | tuple[Any, ...], role: str) -> np.ndarray:
    first = values[0] if len(values) else None
    if isinstance(first, list | tuple | np.ndarray):
        try:
            return np.asarray(values)
        except ValueError:
            raise InputError(f"{role} must be one value for each row; give every row the same shape") from None
    array = np.empty(len(values), dtype=object)
    array[:] = [
        value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value for value in values
    ]
    return array


def join(table: Table, values: Any, role: str, *, own: bool = True) -> tuple[Table, str, tuple[str, ...]]:
    """Return a table with values as a column, that column's name, and notes on it.

    pandas' values whose index has the table's labels, in whatever order, are matched by them, others by their place. A
    column of the table that holds a target's values under its name is that column, and one that holds them under
    another name is no input.

    Args:
        table: the rows.
        values: one for each.
        role: what they are for.
        own: whether the table's columns have names of their own, so that one may be the target.

    Raises:
        InputError: not as many values as rows, or another column of that name.
    """
    import pandas as pd

    series, notes = as_series(values, role)
    if len(series) != len(table):
        raise InputError(f"{role} has {len(series)} values for {len(table)} rows; give one for each row")
    by_index = hasattr(values, "iloc") and not series.index.equals(table.index)
    if by_index and series.index.is_unique and table.index.is_unique and not len(series.index.difference(table.index)):
        series = series.reindex(table.index)
        notes = (*notes, f"the {role}'s values are matched to the rows by their index")
    series = pd.Series(series.array, index=table.index)
    name = str(getattr(values, "name", None) or _only_column(values) or role)
    alike = [c for c in table.columns if own and (str(c) == name or role == "target") and _same(table[c], series)]
    if str(name) in map(str, alike):
        return table, name, notes
    if alike:
        notes = (*notes, f"column '{alike[0]}' equals the target: not used")
        table = table.drop(columns=alike)
    given, n = name, 1
    while name in map(str, table.columns):
        name, n = f"{given}.{n}", n + 1
    return pd.concat([table, series.rename(name)], axis=1), name, notes


def _only_column(values: Any) -> str | None:
    columns = getattr(values, "columns", None)
    return str(next(iter(columns))) if columns is not None and len(columns) == 1 else None


def _same(column: Any, series: Series) -> bool:
    """Return whether two columns hold the same values, as numbers or as text."""
    if getattr(column, "ndim", 1) != 1:
        return False
    for n in (50, len(series)):  # the first rows distinguish most columns
        one, other = (as_text(typed(values.iloc[:n].reset_index(drop=True))) for values in (column, series))
        if not one.fillna("").equals(other.fillna("")):
            return False
    return True
