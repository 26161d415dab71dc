"""How much each row counts in what is fitted to rows or measured on them."""

from typing import Any

import numpy as np

from dampen.errors import InputError


def check_weights(weights: Any, n: int) -> None:
    """Require a weight for each of n rows, 0 or larger, and one above it; None is that all count alike."""
    if weights is None:
        return
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,):
        raise InputError(f"weights must be {n} numbers, one for each row, got the shape {list(w.shape)}")
    if not (np.isfinite(w) & (w >= 0)).all() or not w.any():
        raise InputError(
            "weights must be finite numbers, 0 or larger, some of them above it; correct or drop those rows"
        )
