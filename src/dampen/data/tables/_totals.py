"""A last row that sums up the others: spreadsheets have one below the data."""

import re

import numpy as np

from dampen.data.tables._pandas_types import Table
from dampen.data.tables._values import as_numbers, as_text, plain

_WORDS = re.compile(
    r"((grand|sub)[ -]?)?totals?|sums?|averages?|means?|summe|gesamt(summe)?|insgesamt|mittelwert|durchschnitt"
    r"|total g[eé]n[eé]ral|somme|moyenne|suma|totale|media|итого|всего|среднее|[合总小]计|平均值?|[Σ∑]",
    re.IGNORECASE,
)
_LEAST_ROWS = 3
_ROUNDED = 1e-3  # of a sum or mean


def total_row(table: Table) -> str | None:
    """Return the note on the last row, None where it looks like any other.

    It looks like a total where a cell of text is called so, and every other cell is empty, or one is the sum or the
    mean of the cells above.
    """
    import pandas as pd

    if len(table) < _LEAST_ROWS:
        return None
    last, label = table.iloc[-1:], None
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name].dtype):
            continue
        cell = as_text(last[name]).iloc[0]
        if isinstance(cell, str) and _WORDS.fullmatch(cell.rstrip(" :")):
            label = (str(name), cell)
            break
    if label is None:
        return None
    others = [name for name in table.columns if str(name) != label[0]]
    filled = [name for name in others if plain(as_text(last[name])).notna().iloc[0]]
    if filled and not any(_sums_up(as_numbers(table[name])) for name in filled):
        return None
    return f"the last row looks like a total ('{label[1][:30]}' in column '{label[0]}'): if it is one, remove it"


def _sums_up(numbers: np.ndarray) -> bool:
    above, last = numbers[:-1][np.isfinite(numbers[:-1])], numbers[-1]
    if len(above) < _LEAST_ROWS - 1 or not np.isfinite(last):
        return False
    with np.errstate(over="ignore"):
        return bool(np.isclose(last, [above.sum(), above.mean()], rtol=_ROUNDED, atol=0.0).any())
