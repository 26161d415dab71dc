"""A table as every way in brings it: typed columns with distinct names, and what is odd about it."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dampen.data.tables._pandas_types import Table
from dampen.data.tables._values import as_numbers, as_text, plain, typed
from dampen.errors import InputError

_UNIT = re.compile(r"[\[(].*[\])]|[^\d\s]{1,12}|%|.{0,3}/.{1,6}|[^\d]{1,6}\d?")


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as it was read.

    Args:
        table: its rows, columns called by distinct strings.
        notes: what was odd about it and what was done, a sentence each.
        decimal_comma: whether text such as `3,14` is a number.
        decimal_points: names of columns that have decimal points beside columns with decimal commas.
        again: of each column whose name an earlier one has: that name, and what it is called here.
        aside: what follows the file's name in a message: which part of it was read.
        uncomputed: columns of formulas that have no values.
    """

    table: Table
    notes: tuple[str, ...] = ()
    decimal_comma: bool = False
    decimal_points: tuple[str, ...] = ()
    again: tuple[tuple[str, str], ...] = ()
    aside: str = ""
    uncomputed: tuple[str, ...] = ()


def joined_name(levels: tuple[Any, ...]) -> str:
    """Return the name of a column that pandas calls by several levels."""
    return "_".join(map(str, levels))


def tidy(source: "Frame | Table", name: str) -> Frame:
    """Return a frame with a plain index, at least one row and one column, and distinct strings as column names.

    Text that holds numbers alone becomes numbers, as from a file. A first row of units is left out.

    Raises:
        InputError: there are no rows or no columns.
    """
    import pandas as pd

    frame = source if isinstance(source, Frame) else Frame(source)
    table, notes = frame.table, list(frame.notes)
    if any(level is not None for level in table.index.names):
        table = table.reset_index(allow_duplicates=True)
    if isinstance(table.columns, pd.MultiIndex):
        table = table.set_axis([joined_name(column) for column in table.columns], axis=1)
    names, used, twice = [], set(), list(frame.again)
    for column in map(str, table.columns):
        again, n = column, 1
        while again in used:
            again, n = f"{column}.{n}", n + 1
        if again != column:
            twice.append((column, again))
        used.add(again)
        names.append(again)
    if not names or not len(table):
        what = "columns" if not names else "rows"
        raise InputError(f"{name} has no {what}; give a table with column names, an input, a target, and rows")
    table = table.set_axis(names, axis=1).set_axis(pd.RangeIndex(len(table)), axis=0)
    notes += [f"two columns are called '{name}': the later one is '{called}' here" for name, called in twice]
    units = _units(table)
    if units:
        listed = ", ".join(f"'{unit[:20]}'" for unit in units[:3]) + ", ..." * (len(units) > 3)
        notes.append(f"the first row holds units, no values ({listed}): left out")
        table = table.iloc[1:].set_axis(pd.RangeIndex(len(table) - 1), axis=0)
    return replace(frame, table=all_typed(table, frame.decimal_comma), notes=tuple(notes), again=tuple(twice))


def all_typed(table: Table, decimal_comma: bool = False) -> Table:
    """Return a table whose columns of text that holds numbers alone are numbers."""
    import pandas as pd

    columns = [typed(table.iloc[:, j], decimal_comma) for j in range(table.shape[1])]
    if all(new.dtype == old for new, old in zip(columns, table.dtypes, strict=True)):
        changed = [j for j, new in enumerate(columns) if new.dtype == object or pd.api.types.is_string_dtype(new.dtype)]
        if not changed:
            return table
    return pd.concat(columns, axis=1).set_axis(table.columns, axis=1)


def _units(table: Table) -> list[str]:
    """Return what the first row holds if that is units: words above numbers in every column of numbers."""
    import pandas as pd

    if len(table) < 3:
        return []
    units, n_numbers = [], 0
    for j in range(table.shape[1]):
        values = table.iloc[:, j]
        if not (values.dtype == object or pd.api.types.is_string_dtype(values.dtype)):
            if values.isna().iloc[0]:
                continue  # a column without a unit
            return []
        text = as_text(values.iloc[:1000])
        first, rest = text.iloc[0], text.iloc[1:].dropna()
        if pd.isna(first):
            continue
        if not _UNIT.fullmatch(first) or rest.isin([first]).any() or not np.isnan(as_numbers(text.iloc[:1])[0]):
            return []
        units.append(first)
        known = plain(rest).dropna()
        n_numbers += bool(len(known)) and not np.isnan(as_numbers(known)).any()
    bracketed = all(unit[0] in "[(" for unit in units)
    sure = n_numbers > 1 or (n_numbers == 1 and (bracketed or (len(units) == 1 and table.shape[1] > 1)))
    return units if sure else []
