"""Numbers of rows to come, read as the training rows wrote them: decimal commas, and points that may part thousands.

`1.500,5` and `1.000.000` are sure. `2.500` beside decimal commas is two thousand five hundred or two and a half: the
other values decide, else it is left open.
"""

import re
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float64

from dampen.data.tables._columns import Columns
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import as_numbers, as_text, plain

_SURE = r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})"  # points part thousands
_MAYBE = r"[+-]?[1-9]\d{0,2}\.\d{3}"
_POINT = r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?"
_COMMA = r"[+-]?(?:\d*,(?!\d{3}$)\d+|0?,\d{3}|0,\d+)(?:[eE][+-]?\d+)?"  # surely decimal: no `1,234`


@dataclass(frozen=True)
class Writing:
    """How a table writes its numbers.

    Args:
        decimal_comma: whether with decimal commas.
        thousands: whether points part thousands in it.
        decimal_points: names of columns whose points are decimal all the same.
    """

    decimal_comma: bool
    thousands: bool = False
    decimal_points: tuple[str, ...] = ()

    def numbers(self, values: Series, decimal_comma: bool = False) -> Float64[np.ndarray, " N"]:
        """Return a column's numbers, NaN where there is none or where it is ambiguous.

        Args:
            values: the column.
            decimal_comma: whether it has decimal commas even if the table has none.
        """
        import pandas as pd

        if not _is_text(values):
            return as_numbers(values)
        text = plain(as_text(values))
        maybe = _matches(text, _MAYBE)
        if not (decimal_comma or self.decimal_comma):
            numbers = as_numbers(text)
            return np.where(maybe & _matches(text, _COMMA).any(), np.nan, numbers)
        sure = _matches(text, _SURE)
        own_points = bool((_matches(text, _POINT) & ~maybe).any())
        points = own_points or str(values.name) in self.decimal_points
        part = bool(sure.any()) or (self.thousands and not points)
        grouped = sure | maybe if part and not own_points else sure
        text = text.mask(maybe & ~grouped & (part or not points), None)
        text = text.mask(grouped, text.str.replace(".", "", regex=False)).str.replace(",", ".", regex=False)
        return cast(Series, pd.to_numeric(text, errors="coerce")).to_numpy(np.float64, na_value=np.nan)


def writing(columns: Columns, table: Table, decimal_comma: bool) -> Writing:
    """Return how a table writes its numbers.

    Args:
        columns: what the training rows are.
        table: other rows.
        decimal_comma: whether these were found to have decimal commas.
    """
    commas = decimal_comma or columns.decimal_comma
    texts = [table[c.name] for c in columns.used if c.kind == "number" and c.name in table.columns] if commas else []
    thousands = any(_matches(as_text(values), _SURE).any() for values in texts if _is_text(values))
    return Writing(commas, thousands, columns.decimal_points)


def read_numbers(columns: Columns, table: Table, writing: Writing) -> Table:
    """Return rows to come with numbers in every column of numbers, missing where there is none."""
    texts = [c for c in columns.used if c.kind == "number" and c.name in table.columns and _is_text(table[c.name])]
    columns_read = table.copy(deep=False)
    for column in texts:
        columns_read[column.name] = writing.numbers(table[column.name], column.decimal_comma)
    return columns_read


def may_be_thousands(text: Series) -> np.ndarray:
    """Return which texts may be thousands or fractions, such as `2.500`."""
    return _matches(text, _MAYBE)


def _matches(text: Series, pattern: str) -> np.ndarray:
    return text.map(lambda cell: isinstance(cell, str) and re.fullmatch(pattern, cell) is not None).to_numpy(bool)


def _is_text(values: Series) -> bool:
    import pandas as pd

    kinds = pd.api.types
    return not (kinds.is_numeric_dtype(values.dtype) or kinds.is_timedelta64_dtype(values.dtype))
