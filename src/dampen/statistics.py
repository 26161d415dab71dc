"""Intervals for paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dampen.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it.

    Args:
        mean: the estimate.
        low: lower end; NaN where a single pair leaves the spread unknown.
        high: upper end; likewise.
        n: pairs behind it.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the difference is settled at this level; False where the spread is unknown."""
        return self.low > 0 or self.high < 0


def paired_difference(
    a: Sequence[float] | Float[np.ndarray, " S"],
    b: Sequence[float] | Float[np.ndarray, " S"],
    level: float = 0.95,
) -> Interval:
    """Return the mean of `a - b` over pairs, with Student's interval (Student 1908; S - 1 degrees of freedom).

    Args:
        a: one value for each seed.
        b: the other value of each pair.
        level: coverage of the interval, between 0 and 1.

    Raises:
        InputError: the two differ in length, or are empty.

    Example:
        >>> found = paired_difference([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])
        >>> found.mean, round(found.low, 3), round(found.high, 3)
        (3.0, 0.516, 5.484)
    """
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if len(a) != len(b) or len(a) == 0:
        raise InputError(f"paired values must come in pairs, got {len(a)} and {len(b)}")
    n = len(differences)
    mean = float(differences.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)
