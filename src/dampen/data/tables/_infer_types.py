"""The type of each column of a table.

Decided once, on the rows that are not test rows and without the target: all folds and seeds share one network, so they
share its inputs. What is estimated (medians, mean targets) is `_vectorise`'s and comes from each split's training rows.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from dampen.data.tables import _codes, _dates, _formatted_numbers, _free_text
from dampen.data.tables._columns import Column, Columns, Part
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import (
    are_codes,
    as_days,
    as_levels,
    as_numbers,
    as_text,
    as_whole,
    grouped,
    holds_containers,
    plain,
    settled,
)
from dampen.errors import InputError

MANY = 40  # levels above which a category becomes its mean target, as in skrub's TableVectorizer
RARE = 5  # rows below which a level has no input of its own
_NUMBERS = 0.9  # share of a text column's values that must be numbers for it to be one
_DISTINCT = 0.9  # levels for each row above which a category is an identifier, or text
_LEAST_IDS = 20  # rows below which distinct whole numbers prove nothing
_COPIES = 0.05  # share of the rows that may repeat an identifier by mistake; of more it is told that it repeats
_INDEX = re.compile(r"(unnamed: 0(\.\d+)?|index|level_0|__index_level_0__|rownames|row\.names)(\.\d+)?", re.IGNORECASE)
IDENTIFIER = "an identifier: a whole number of its own for every row"
_ALSO_A_FIGURE = re.compile(r"(^|[_\W])(index|key|no|nr)$", re.ASCII)  # `price_index`
_ID = re.compile(r"(^|[_\W])(id|uuid|guid|index|key|no|nr)$|^(id|unnamed: 0)|[a-z]ID$|Id$", re.ASCII)


def decide(
    table: Table,
    *,
    decimal_comma: bool = False,
    time: str | None = None,
    category: Collection[str] = (),
    text: Collection[str] = (),
    codes: Sequence[str] = (),
    every: Table | None = None,
) -> Columns:
    """Return the type of each column.

    Codes come first, in the order in which they are asked for, then the other columns in the table's.

    Args:
        table: the rows that are not test rows, columns that are inputs only.
        decimal_comma: whether text such as `3,14` is a number.
        time: a column that puts the rows in order: it has no trend, which the rows that follow would only exceed.
        category: columns that are categories whatever they hold.
        text: columns of free text.
        codes: columns whose categories are codes.
        every: the same columns with the test rows too: all dates decide which of day and month comes first.

    Raises:
        InputError: none is of use, or one whose codes are asked for holds no categories.
    """
    used, dropped = [_code(str(name), table[name]) for name in codes], []
    for name in (name for name in table.columns if name not in codes):
        whole = table[name] if every is None else every[name]
        if name in category:
            column = _category(str(name), as_text(table[name]), asked=True)
        elif name in text:
            column = _text(str(name), table[name], _free_text.most_terms(len(table), len(text)))
        else:
            column = _decided(str(name), table[name], decimal_comma, name == time, whole)
        if isinstance(column, Column):
            used.append(column)
        else:
            dropped.append((str(name), column))
    if not used:
        reasons = "; ".join(f"'{name}': {why}" for name, why in dropped[:3])
        raise InputError(f"no column is of use as an input ({reasons or 'there is none beside the target'})")
    return Columns(tuple(used), tuple(dropped))


def numbers_only(values: Float64[np.ndarray, "N n"], names: Sequence[str] | None = None) -> Columns:
    """Return columns for an array of numbers: all are inputs, whatever they hold."""
    used = []
    for j in range(values.shape[1]):
        v = values[:, j]
        known = np.isfinite(v)
        offset, unit = _offset_and_unit(v[known])
        name = names[j] if names is not None else f"x{j}"
        low, high = _span(v[known])
        infinite = int(np.isinf(v).sum())
        note = f"{infinite} infinite, treated as missing" if infinite else ""
        missing = not known.all()
        used.append(Column(name, "number", offset=offset, unit=unit, missing=missing, low=low, high=high, said=note))
    return Columns(tuple(used))


def as_categories(columns: Columns) -> Columns:
    """Return the same columns of a table with those that are codes as categories: an input each, or a mean target."""

    def plain_kind(column: Column) -> Column:
        n = len(column.levels)
        kind = "two" if n == 2 else "category" if n <= MANY else "many"
        return replace(column, kind=kind, own=0 if kind == "many" else n)

    return replace(columns, used=tuple(plain_kind(c) if c.kind == "code" else c for c in columns.used))


def _counted(known: Float64[np.ndarray, " n"]) -> bool:
    return bool(
        (known == np.floor(known)).all()
        and (np.diff(known) >= 1).all()
        and 0 <= known[0] < _LEAST_IDS
        and known[-1] - known[0] < 2 * len(known)
    )


def _decided(name: str, values: Series, decimal_comma: bool, orders: bool, every: Series) -> "Column | str":
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(name, as_text(values))
    if pd.api.types.is_bool_dtype(dtype):
        return _category(name, as_text(values))
    if pd.api.types.is_complex_dtype(dtype):
        return "complex numbers"
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        if not orders and _INDEX.fullmatch(name.strip()) and _counts(as_numbers(values)):
            return "the rows' own numbers"
        if not pd.api.types.is_timedelta64_dtype(dtype) and _dates.is_compact(values):
            return _date(name, values, "%Y%m%d", orders, every)
        return "it puts the rows in order" if orders else _number(name, as_numbers(values), values, False, "")
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return _date(name, values, None, orders, every)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in ("date", "datetime", "datetime64"):
        return _date(name, values, None, orders, every)
    if inferred in ("complex", "bytes") or holds_containers(values):
        return "complex numbers" if inferred == "complex" else "holds lists, mappings or bytes, not single values"
    text = as_text(values)
    known = plain(text).dropna()
    if are_codes(text):
        return _category(name, text, codes=True)
    thousand = grouped(text) if decimal_comma else None
    if thousand is not None:
        return _formatted_numbers.advice(thousand)
    decimal_comma = decimal_comma and bool(known.str.contains(",", regex=False).any())
    numbers = as_numbers(text, decimal_comma)
    wrong = np.isnan(numbers) & plain(text).notna().to_numpy()
    if len(known) and wrong.sum() <= (1 - _NUMBERS) * len(known):
        everywhere = plain(as_text(every)).dropna()
        odd = everywhere[np.isnan(as_numbers(everywhere, decimal_comma))]
        note = f"{_some(odd, 'number')}, treated as missing" if len(odd) else ""
        return "it puts the rows in order" if orders else _number(name, numbers, values, decimal_comma, note)
    format = _dates.date_format(plain(as_text(every)).dropna())
    if format is not None:
        return _date(name, text, format.format, orders, every, format.note)
    return "it puts the rows in order" if orders else _category(name, text, decimal_comma)


def _some(wrong: Series, what: str) -> str:
    """Return how many values are no numbers, or no dates, and the first of them."""
    return f"{len(wrong)} not a {what} ('{str(wrong.iloc[0])[:20]}'{', ...' if len(wrong) > 1 else ''})"


def _counts(numbers: Float64[np.ndarray, " N"]) -> bool:
    """Return whether numbers may count rows: whole ones from 0 on."""
    known = numbers[np.isfinite(numbers)]
    return bool(len(known)) and bool((known >= 0).all() and (known == np.floor(known)).all())


def _number(name: str, numbers: Float64[np.ndarray, " N"], values: Series, comma: bool, note: str) -> "Column | str":
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        note = "; ".join(filter(None, [note, f"{infinite} infinite, treated as missing"]))
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
    known = numbers[~np.isnan(numbers)]
    n_missing = len(numbers) - len(known)
    if not len(known):
        return "every value is missing"
    if not n_missing:
        if known.min() == known.max():
            whole = as_whole(values)
            if whole is not None and len(np.unique(whole)) > 1:
                return f"whole numbers near {known[0]:g}, which differ by less than float64 can hold"
            return f"constant, {known[0]:g} in every row"
        if _is_identifier(name, known):
            n = len(np.unique(known))
            return IDENTIFIER if n == len(known) else f"an identifier: {n} different whole numbers in {len(known)} rows"
    if n_missing and not infinite and not note:
        note = f"{n_missing} missing"
    offset, unit = _offset_and_unit(known)
    low, high = _span(known)
    return Column(
        *(name, "number"),
        offset=offset,
        unit=unit,
        missing=n_missing > 0,
        decimal_comma=comma,
        said=note,
        low=low,
        high=high,
    )


def _is_identifier(name: str, known: Float64[np.ndarray, " n"]) -> bool:
    if len(known) < _LEAST_IDS or (known != np.floor(known)).any():
        return False
    if _counted(known):  # test rows have left gaps
        return True
    names, different = (name.strip(), name.strip().lower()), len(np.unique(known))
    if any(map(_ALSO_A_FIGURE.search, names)):
        return different == len(known)
    return any(map(_ID.search, names)) and different > (1 - _COPIES) * len(known)


def _span(known: Float64[np.ndarray, " n"]) -> tuple[float | None, float | None]:
    return (float(known.min()), float(known.max())) if len(known) else (None, None)


def _offset_and_unit(known: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return what makes numbers small enough for float32: their middle and half their range, else 0 and 1."""
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    half = high / 2 - low / 2
    if half == 0:
        return low, 1.0
    if max(abs(low), abs(high)) < 2**20 and half > 1e-6:  # exact enough as they are
        return 0.0, 1.0
    return low + half, half


def _date(name: str, values: Series, format: str | None, orders: bool, every: Series, note: str = "") -> "Column | str":
    days = as_days(values, format)
    known = days[~np.isnan(days)]
    if not len(known):
        return "every value is missing"
    n_missing = len(days) - len(known)
    everywhere = plain(as_text(every)).dropna() if format is not None else every.iloc[:0]
    wrong = everywhere[np.isnan(as_days(everywhere, format))] if len(everywhere) else everywhere
    if len(wrong):
        note = "; ".join(filter(None, [note, f"{_some(wrong, 'date')}, treated as missing"]))
    elif n_missing:
        note = "; ".join(filter(None, [note, f"{n_missing} missing"]))
    span = known.max() - known.min()
    if span == 0 and not n_missing:
        return "constant, the same time in every row"
    whole = np.floor(known)
    parts: list[Part] = [] if orders else ["trend"]
    if span > 60 and format != "%Y年":  # a year alone is at no time of the year
        parts.append("year")
    if (format is None or "d" in format or format == "ISO8601") and len(np.unique(whole[:100_000] % 7)) > 1:
        parts.append("week")
    if (known != whole).any():
        parts.append("day")
    if not parts:
        return "it puts the rows in order"
    offset = float(np.floor(np.median(known)))
    low, high = _span(known)
    return Column(
        *(name, "date"),
        offset=offset,
        missing=n_missing > 0,
        parts=tuple(parts),
        format=format,
        said=note,
        low=low,
        high=high,
    )


def _text(name: str, values: Series, most: int) -> "Column | str":
    texts, missing = _free_text.as_texts(values)
    if missing.all():
        return "every value is missing"
    terms = _free_text.terms(texts, most)
    if not terms:
        return f"no word is in {_free_text.LEAST_ROWS} rows or more"
    n_missing = int(missing.sum())
    note = "; ".join(
        filter(
            None, [f"the {most} most frequent terms" * (len(terms) == most), f"{n_missing} missing" * bool(n_missing)]
        )
    )
    return Column(name, "text", terms, len(terms), missing=n_missing > 0, said=note)


def _code(name: str, values: Series) -> Column:
    levels, n_missing = _codes.categories(name, values, RARE)
    return Column(name, "code", levels, said=f"{n_missing} missing" * (n_missing > 0))


def _category(
    name: str, text: Series, decimal_comma: bool = False, *, codes: bool = False, asked: bool = False
) -> "Column | str":
    text = as_levels(settled(text, RARE))
    counts = text.value_counts(dropna=True)
    n_known, n_missing = int(counts.sum()), int(text.isna().sum())
    levels = sorted(map(str, counts.index), key=lambda level: (-int(counts[level]), level))
    note = "; ".join(filter(None, ["codes, no numbers" * codes, f"{n_missing} missing" * (n_missing > 0)]))
    if not levels:
        return "every value is missing"
    if len(levels) == 1 and not n_missing:
        return f"constant, '{levels[0][:30]}' in every row"
    if not asked and not codes and len(levels) > min(MANY, n_known / 2):
        example = _formatted_numbers.dressed(counts, decimal_comma)
        if example is not None:
            return _formatted_numbers.advice(example)
    if not asked and len(levels) > max(_DISTINCT * n_known, 2):
        return f"an identifier or text: {len(levels)} different values in {n_known} rows"
    if len(levels) == 2:
        return Column(name, "two", tuple(sorted(levels)), 2, said=note)
    if len(levels) > MANY:
        return Column(name, "many", tuple(levels), said=note)
    own = sum(int(counts[level]) >= RARE for level in levels)
    own = len(levels) if len(levels) - own == 1 or own == 0 else own  # "others" of one, or of all, add nothing
    return Column(name, "category", tuple(levels), own, said=note)
