"""What users give the estimators, checked: parameters, rows in any form, weights."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from sklearn.utils import assert_all_finite, compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from dampen._tensors import as_native
from dampen.data import all_typed
from dampen.errors import InputError

_OPTIONAL = ("n_settings", "n_seeds", "epochs", "batch_size", "n_ensemble")
COUNTS = (*_OPTIONAL, "n_confirm_seeds")


def whole(name: str, value: Any) -> int | None:
    """Return a parameter that counts; None where it may be left to the data, and is.

    Raises:
        InputError: it is no whole number, or below 1.
    """
    if value is None and name in _OPTIONAL:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        choice = ", or None for a default that depends on the rows" if name in _OPTIONAL else ""
        raise InputError(f"{name} must be a whole number, 1 or larger{choice}, got {value!r}")
    return int(value)


def row_numbers(given: Any, n: int) -> Int64[np.ndarray, " k"]:
    """Return the rows of a side of a fold, of which scikit-learn's estimators take numbers or a mask.

    Raises:
        InputError: they are neither, or not among the rows.
    """
    numbers = np.asarray(given)
    if numbers.dtype == bool and numbers.shape == (n,):
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise InputError(f"cv must give lists of row numbers (train, test), got {numbers.dtype} {list(numbers.shape)}")
    numbers = numbers.astype(np.int64)
    if len(numbers) and (numbers.min() < -n or numbers.max() >= n):
        raise InputError(f"cv must give row numbers below {n}, got {numbers.min()} to {numbers.max()}")
    return numbers


def widths_of(hidden: Any) -> tuple[int, ...]:
    message = f"hidden must be widths of layers, whole numbers such as (64, 32), got {hidden!r}"
    try:
        widths = [] if isinstance(hidden, str) else list(hidden)
    except TypeError:
        raise InputError(message) from None
    whole = all(isinstance(w, numbers.Integral) and not isinstance(w, bool) and int(w) >= 1 for w in widths)
    if not whole or isinstance(hidden, str):
        raise InputError(message)
    return tuple(map(int, widths))


def check_class_weight(given: Any) -> None:
    """Refuse the weight of a class that would leave the class out, or is none.

    Raises:
        InputError: it is not a finite number above 0.
    """
    for name, weight in given.items() if isinstance(given, Mapping) else ():
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 < float(weight) < float("inf"):
            raise InputError(
                f"class_weight: the weight of class {name!r} must be a finite number above 0, got {weight!r}; to leave "
                "a class out, leave its rows out"
            )


def by_class(class_weight: Any, y: Shaped[np.ndarray, " N"], weights: Float64[np.ndarray, " N"]) -> Any:
    """Return what `class_weight` multiplies the weight of each row by.

    `balanced` gives all classes the same sum of weights, as scikit-learn's linear models do, so that a row of weight 2
    is the row given twice.
    """
    if not (isinstance(class_weight, str) and class_weight == "balanced"):
        return compute_sample_weight(class_weight, y)
    classes, codes = np.unique(y, return_inverse=True)
    sums = np.bincount(codes, weights, minlength=len(classes))
    per_row = weights.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1.0))
    return per_row[codes]


def weights_of(sample_weight: Any, X: Any) -> Float64[np.ndarray, " N"]:
    weights = _check_sample_weight(unmasked(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
    assert_all_finite(weights, input_name="sample_weight")  # which a single number for all rows need not be
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def check_known(y: Any) -> None:
    """Refuse labels that are missing, among which scikit-learn looks for NaN alone."""
    import pandas as pd

    if pd.isna(y).any():
        raise ValueError("Input y contains NaN.")


def is_mixed(X: Any) -> bool:
    """Return whether rows are a frame with columns that are no numbers, or truth values."""
    import pandas as pd

    if not (hasattr(X, "iloc") or hasattr(X, "to_pandas")) or getattr(X, "ndim", 2) != 2:
        return False
    kinds = pd.api.types
    dtypes = (X.to_pandas() if hasattr(X, "to_pandas") else X).dtypes
    return not all(kinds.is_numeric_dtype(dtype) and not kinds.is_bool_dtype(dtype) for dtype in dtypes)


def unmasked(values: Any) -> Any:
    """Return a masked array with its masked values as missing, which scikit-learn would read as if they were there."""
    return as_native(values) if isinstance(values, np.ma.MaskedArray) else values


def as_pandas(X: Any) -> Any:
    if hasattr(X, "to_pandas"):
        return all_typed(X.to_pandas())
    if not hasattr(X, "iloc"):
        kind = type(X).__name__
        raise ValueError(f"the estimator was fitted on a frame with columns that are no numbers: give one, not {kind}")
    return all_typed(X.set_axis([str(name) for name in X.columns], axis=1))
