"""Rows to come that lie far outside what the training rows span: there a network extrapolates."""

from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Bool, Float32, Float64

from dampen.data.tables._columns import Column, Columns
from dampen.data.tables._pandas_types import Table
from dampen.data.tables._values import as_numbers

_FAR = 0.5  # of what the training rows span: new rows of the same kind are often a little beyond it
_MOST_NOTES = 5  # columns with a note of their own
_DAY = 86_400.0  # seconds


def beyond(columns: Columns, numbers: Table, encoded: Float32[np.ndarray, "N columns"]) -> list[str]:
    """Return a sentence for each column with values far outside the training rows.

    Far is by more than half of what they span, or below 0 where no training row is. Dates count where time has a trend.

    Args:
        columns: what the training rows are.
        numbers: the rows, columns of numbers as numbers.
        encoded: their values as `Columns.encode` returns them.
    """
    notes, others, rows = [], [], np.zeros(len(encoded), dtype=bool)
    for j, column in enumerate(columns.used):
        if column.low is None or column.high is None or column.low == column.high:
            continue  # not known; or all alike, and no network has learnt from it
        if column.kind == "number":
            values = as_numbers(numbers[column.name])
        elif column.kind == "date" and "trend" in column.parts:
            values = encoded[:, j].astype(np.float64) + column.offset
        else:
            continue
        far = _is_far(values, column.low, column.high, column.kind == "number")
        if not far.any():
            continue
        if len(notes) < _MOST_NOTES:
            low, high = _shown(column, column.low), _shown(column, column.high)
            notes.append(
                f"column '{column.name}' is beyond the training rows in {_rows(far)} ({_some(column, values[far])}; "
                f"they span {low} to {high}): the network extrapolates there"
            )
        else:
            others.append(column.name)
            rows |= far
    if others:
        named = ", ".join(f"'{name}'" for name in others[:3]) + ", ..." * (len(others) > 3)
        more = f"{len(others)} more column{'s are' if len(others) > 1 else ' is'}"
        notes.append(f"{more} beyond the training rows in {_rows(rows)} ({named}): the network extrapolates there")
    return notes


def _is_far(values: Float64[np.ndarray, " N"], low: float, high: float, signed: bool) -> Bool[np.ndarray, " N"]:
    margin = _FAR * (high - low)
    # infinite and missing values have other notes; of a NaN every comparison is false
    far = np.isfinite(values) & ((values < low - margin) | (values > high + margin))
    return far | (np.isfinite(values) & (values < 0)) if signed and low >= 0 else far


def _some(column: Column, values: Float64[np.ndarray, " n"], most: int = 3) -> str:
    distinct = np.unique(values)
    # the farthest first
    middle = ((column.low or 0.0) + (column.high or 0.0)) / 2
    distinct = distinct[np.argsort(-np.abs(distinct - middle), kind="stable")]
    return ", ".join(_shown(column, value) for value in distinct[:most]) + ", ..." * (len(distinct) > most)


def _shown(column: Column, value: float) -> str:
    if column.kind == "date":
        try:
            return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(value * _DAY))).date())
        except OverflowError:
            return f"day {value:g} after 1970"
    return f"{value:.0f}" if value == np.floor(value) and abs(value) < 1e15 else f"{value:.6g}"


def _rows(mask: Bool[np.ndarray, " N"]) -> str:
    n = int(mask.sum())
    return f"{n} row{'s' * (n != 1)}"
