"""A column's values as text, numbers or days, however the file or the frame holds them."""

import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float64

from dampen.data.tables import _dates
from dampen.data.tables._pandas_types import Series

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "NaT", "-NaN", "-nan"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)  # texts that are never a value
WORDS = (
    "NA",
    "N/A",
    "n/a",
    "NULL",
    "null",
    "None",
)  # a missing value, or a class like any other: no disorder, no alley
SYMBOLS = ("?", "-", "--")  # likewise: `+` and `-` are two classes
HOLDS_NUMBERS = "holds numbers"
_NUMBERS = 0.9  # share of a column's texts that must be numbers for it to hold no text
_EXACT = 2**53  # up to which float64 has every whole number
_DAY = 86_400.0  # seconds
_CODE = re.compile(r"0\d+$")
_FEW_CODES = 0.01  # share of the values that must start with 0 for digits to be codes, where not all are as long
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+$")  # 1.299 may be a thousand where commas are decimal


def as_text(values: Series) -> Series:
    """Return values as stripped text, missing where they are missing; words that may mean that stay, see `settled`."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    missing = values.isna()
    text = values.astype(object).map(_word).str.strip()
    return text.mask(missing | text.isin(MISSING), None)


def settled(text: Series, least: int) -> Series:
    """Return texts of categories, missing where a word that may mean so does.

    `None`, `NA`, `null` and the like are values where as many rows hold them as any class needs, and the others are no
    numbers; `?` and `-` only where there would be a single value without them.

    Args:
        text: of a column.
        least: rows.
    """
    odd = text.isin((*WORDS, *SYMBOLS))
    if not odd.any():
        return text
    others = text[text.notna() & ~odd]
    counts = text[odd].value_counts()
    kept = [word for word in WORDS if counts.get(word, 0) >= least]
    if not len(others) or not np.isnan(as_numbers(others)).any():
        kept = []
    if others.nunique() + len(kept) < 2 and len(others) and np.isnan(as_numbers(others)).any():
        kept += [symbol for symbol in SYMBOLS if counts.get(symbol, 0) >= least]
    return text.mask(odd & ~text.isin(kept), None)


def as_levels(text: Series) -> Series:
    """Return texts with `True` and `False` however these are written, where a column holds nothing else."""
    lower = text.str.lower()
    known = lower.dropna()
    return text.str.capitalize() if len(known) and known.isin(("true", "false")).all() else text


def as_known(text: Series, levels: Sequence[str]) -> Series:
    """Return texts, where all of them are numbers those that are no level as the one level that is the same number.

    Rows that hold nothing but numbers are read as numbers: of `1.50` and `007` then only `1.5` and `7` are left.
    """
    import pandas as pd

    new = (text.notna() & ~text.isin(levels)).to_numpy()
    if not new.any() or np.isnan(as_numbers(text.dropna())).any():
        return text
    numbers = as_numbers(pd.Series(levels, dtype=object))
    known, times = np.unique(numbers[np.abs(numbers) < _EXACT], return_counts=True)
    alone = np.isin(numbers, known[times == 1])
    same = {number: level for number, level, one in zip(numbers, levels, alone, strict=True) if one}
    words = text.to_numpy(object, copy=True)
    words[new] = [same.get(number, word) for number, word in zip(as_numbers(text[new]), words[new], strict=True)]
    return pd.Series(words, index=text.index, dtype=object)


def plain(text: Series) -> Series:
    """Return texts, missing where they hold a word that may mean so: of numbers and dates it always does."""
    return text.mask(text.isin((*WORDS, *SYMBOLS)), None)


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))  # 1.0 is what a missing value elsewhere makes of the whole number 1
    return value if isinstance(value, str) else str(value)


def as_numbers(values: Series, decimal_comma: bool = False) -> Float64[np.ndarray, " N"]:
    """Return values as float64, NaN where they are missing or no numbers.

    Args:
        values: numbers or texts.
        decimal_comma: whether `3,14` is a number; `1.299` is none then, since it may be a thousand.
    """
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return (values / pd.Timedelta(seconds=1)).to_numpy(np.float64, na_value=np.nan)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    text = as_text(values)
    if decimal_comma:
        text = text.mask(_is_grouped(text), None)
        text = text.where(text.isna(), text.str.replace(",", ".", regex=False))
    return cast(Series, pd.to_numeric(text, errors="coerce")).to_numpy(np.float64, na_value=np.nan)


def as_whole(values: Series) -> np.ndarray | None:
    """Return whole numbers beyond those that float64 represents exactly; None where there are none."""
    import pandas as pd

    if not (pd.api.types.is_integer_dtype(values.dtype) or values.dtype == object) or values.isna().any():
        return None
    whole = values.to_numpy()
    if whole.dtype == object and not all(isinstance(value, int | np.integer) for value in whole):
        return None
    return whole if len(whole) and max(abs(int(whole.max())), abs(int(whole.min()))) > _EXACT else None


def _is_grouped(text: Series) -> Series:
    return text.str.match(_GROUPED).fillna(False).astype(bool)


def grouped(text: Series) -> str | None:
    """Return a text such as `1.299` that may be a thousand, None where a point in the column is surely decimal."""
    known = plain(text).dropna()
    may_be = _is_grouped(known)
    if not may_be.any() or known[~may_be].str.fullmatch(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?").any():
        return None
    return str(known[may_be].iloc[0])


def are_codes(text: Series) -> bool:
    """Return whether digits with a leading zero show that whole numbers are codes: postal codes, `01`, `007`."""
    known = plain(text).dropna()
    codes = known.str.match(_CODE).astype(bool)
    if not codes.any() or not known.str.fullmatch(r"\d+").all():
        return False
    return bool(codes.mean() >= _FEW_CODES) or known.str.len().nunique() == 1


def typed(values: Series, decimal_comma: bool = False) -> Series:
    """Return text that holds numbers alone as numbers and `TRUE` as `True`, so that files and frames are read alike.

    Codes stay text, as does what holds anything else, and `1.299` in a file of decimal commas. Periods become the text
    that a file of them holds.
    """
    import pandas as pd

    if isinstance(values.dtype, np.dtype) and not values.dtype.isnative:  # pandas can't take rows of such a column
        return values.astype(values.dtype.newbyteorder("="))
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.astype(str).astype(object).mask(values.isna(), None)
    if isinstance(values.dtype, pd.CategoricalDtype) or not (
        values.dtype == object or pd.api.types.is_string_dtype(values.dtype)
    ):
        return values
    values = values.infer_objects()
    if values.dtype != object and not pd.api.types.is_string_dtype(values.dtype):
        return values
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in (
        "string",
        "mixed",
        "mixed-integer",
        "mixed-integer-float",
        "decimal",
        "boolean",
        "integer",
        "floating",
    ):
        return values
    if kind == "mixed" and any(not isinstance(v, str | int | float | bool | None) for v in values.iloc[:1000]):
        return values
    text = as_text(values)
    known = plain(text).dropna()
    if not len(known):
        return values
    first = str(known.iloc[0])
    if first.lower() in ("true", "false"):
        lower = known.str.lower()
        if lower.isin(("true", "false")).all():
            return values.where(~text.isin(known), text.str.capitalize()) if kind == "string" else values
        return values
    numbers = cast(Series, pd.to_numeric(plain(text), errors="coerce"))
    if numbers.notna().sum() < len(known) or are_codes(text) or (decimal_comma and grouped(text) is not None):
        return values
    return numbers


def holds_containers(values: Series) -> bool:
    """Return whether cells hold several values, or bytes."""
    return any(isinstance(value, list | tuple | dict | set | np.ndarray | bytes) for value in values.iloc[:1000])


def not_text(values: Series) -> str | None:
    """Return what a column holds that is no text, as the end of a sentence; None where it may be text.

    Text counts as numbers where nine tenths of it are, and as dates where it is in one format.
    """
    import pandas as pd

    kinds, dtype = pd.api.types, values.dtype
    if not values.notna().any():
        return None
    if kinds.is_numeric_dtype(dtype) or kinds.is_timedelta64_dtype(dtype):
        return HOLDS_NUMBERS
    if kinds.is_datetime64_any_dtype(dtype):
        return "holds dates"
    if holds_containers(values):
        return "holds lists, mappings or bytes"
    known = plain(as_text(values)).dropna()
    if len(known) and np.isfinite(as_numbers(known)).mean() >= _NUMBERS:
        return HOLDS_NUMBERS
    return "holds dates" if len(known) and date_format(known) is not None else None


def as_days(values: Series, format: str | None) -> Float64[np.ndarray, " N"]:
    """Return times as days since 1970, NaN where they are missing or no times."""
    import pandas as pd

    if _are_times(values):
        times = pd.to_datetime(values, errors="coerce", utc=True)
    else:  # pandas would guess a format anew for each cell, and take numbers for nanoseconds
        text = plain(as_text(values))
        times = _dates.times(text, format or date_format(text) or "ISO8601")
    microseconds = times.dt.tz_localize(None).to_numpy("datetime64[us]")  # nanoseconds would end in the year 2262
    return np.where(np.isnat(microseconds), np.nan, microseconds.astype(np.int64) / (1e6 * _DAY))


def _are_times(values: Series) -> bool:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return True
    return values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) in (
        "date",
        "datetime",
        "datetime64",
    )


def date_format(known: Series) -> str | None:
    """Return the format in which nearly all of some texts are dates, None where there is none."""
    format = _dates.date_format(plain(known).dropna())
    return None if format is None else format.format
