"""Columns that look like identifiers which repeat: rows of one patient, customer or machine belong together."""

import re
from typing import cast

import numpy as np
from jaxtyping import Float64, Int

from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._values import as_numbers, as_text, date_format, plain

_WHO = (
    *("patient", "subject", "participant", "person", "individual", "respondent", "proband", "donor", "animal"),
    *("customer", "client", "user", "player", "employee", "student", "pupil", "household", "account", "device"),
)
_NUMBER = "id|ids|uuid|guid|no|nr|num|number|code|key|hash"
_NAMED = re.compile(
    rf"(^|[_\W])({'|'.join(_WHO)})([_\W]*({_NUMBER}))?$|(^|[_\W])(id|uuid|guid)$|^(id)([_\W].*)?$", re.IGNORECASE
)
_CAMEL = re.compile(r"[a-z](ID|Id)$")
_LEAST_NAMED = 10  # values of a column whose name marks an identifier; fewer are as well a number of categories
_LEAST_VALUES = 20  # values of any other column
_REPEATS = 0.05  # share of the rows that must share their value with an earlier one
_LEAST_REPEATS = 20  # rows, likewise, from which the target's spread within a value can be estimated
_MOST_ROWS = 50  # rows a value has on average, above which a column is a category
_WITHIN = 0.05  # share of the target's variance that may lie within values
_IN_ORDER = 1.0  # von Neumann's ratio of values in order: 2 for identifiers, near 0 for a number that matters


def repeating(
    table: Table,
    train_rows: Int[np.ndarray, " n"],
    targets: Float64[np.ndarray, "n C"],
    groups: Int[np.ndarray, " N"] | None = None,
) -> tuple[tuple[str, str], ...]:
    """Return name and count of the columns that look like identifiers which repeat.

    A column of whole numbers or text does so by its name; or where the target, of about as many rows a value as one
    person has, hardly differs within a value though it does between them, and does not follow the values' order.

    Args:
        table: all rows.
        train_rows: those whose targets may be seen.
        targets: theirs; of classes one column each, 0 or 1.
        groups: a number for each row of the table; a column whose values each lie in one group needs no more grouping.
    """
    identifiers = []
    for name in map(str, table.columns):
        values = _discrete(table[name])
        if values is None:
            continue
        codes, numbers = values
        known = codes >= 0
        n, k = int(known.sum()), int(codes.max(initial=-1)) + 1
        if k < _LEAST_NAMED or n - k < max(_REPEATS * n, 2):
            continue
        if groups is not None and len(np.unique(np.stack([codes, groups])[:, known], axis=1).T) == k:
            continue
        named = _NAMED.search(name.strip()) or _CAMEL.search(name.strip())
        if named or _predicts_the_target(codes[train_rows], numbers, targets):
            identifiers.append((name, f"{k} values in {n} rows"))
    return tuple(identifiers)


def _discrete(values: Series) -> tuple[Int[np.ndarray, " N"], Float64[np.ndarray, " k"] | None] | None:
    """Return each row's value by its place among the values, -1 where it is missing, and their numbers if they are.

    None for what is no identifier: fractions, dates, truth values, lists.
    """
    import pandas as pd

    dtype = values.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return None
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        known = np.isfinite(numbers)
        if (numbers[known] != np.floor(numbers[known])).any():
            return None
        codes, levels = pd.factorize(np.where(known, numbers, np.nan), sort=True)
        return codes.astype(np.int64), np.asarray(levels, dtype=np.float64)
    if not isinstance(dtype, pd.CategoricalDtype) and pd.api.types.infer_dtype(values, skipna=True) != "string":
        return None
    codes, levels = pd.factorize(plain(as_text(values)), sort=True)
    texts = cast(Series, pd.Series(levels, dtype=object))
    numbers = as_numbers(texts)
    if np.isnan(numbers).any():
        return None if date_format(texts) else (codes.astype(np.int64), None)
    if (numbers != np.floor(numbers)).any():
        return None
    order = numbers.argsort()
    places = np.append(order.argsort(), -1)  # the last one for -1, a missing value
    return places[codes].astype(np.int64), numbers[order]


def _predicts_the_target(
    codes: Int[np.ndarray, " n"], numbers: Float64[np.ndarray, " levels"] | None, targets: Float64[np.ndarray, "n C"]
) -> bool:
    targets = targets[codes >= 0]
    codes = np.unique(codes[codes >= 0], return_inverse=True)[1]
    n, k = len(codes), int(codes.max(initial=-1)) + 1
    if k < _LEAST_VALUES or n - k < _LEAST_REPEATS or n / k > _MOST_ROWS:
        return False
    counts = np.bincount(codes, minlength=k)
    means = np.stack([np.bincount(codes, t, k) for t in targets.T], 1) / counts[:, None]
    within = np.square(targets - means[codes]).sum() / (n - k)
    if within > _WITHIN * np.square(targets - targets.mean(0)).sum() / (n - 1):
        return False
    if numbers is None:
        return True
    steps, spread = np.square(np.diff(means, axis=0)).sum(), np.square(means - means.mean(0)).sum()
    return bool(steps > _IN_ORDER * spread)
