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


@dataclass(frozen=True)
class Estimate:
    """A mean, how far off it may be, and what follows from both by Student's t.

    Args:
        mean: the estimate.
        error: its standard error; NaN where the spread is unknown.
        df: degrees of freedom of the error.
    """

    mean: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the interval that covers the true mean with this probability."""
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, self.df)) * self.error
        return self.mean - half, self.mean + half

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is settled by the 95 % interval; False where the spread is unknown."""
        low, high = self.interval()
        return low > 0 or high < 0

    def probability_below(self, value: float = 0.0) -> float:
        """Return the probability that the true mean is below a value (a flat prior, Student's posterior)."""
        from scipy.stats import t

        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.mean < value)
        return float(t.cdf((value - self.mean) / self.error, self.df))


def over_rows(values: Float[np.ndarray, " N"]) -> Estimate:
    """Estimate the mean over all rows that might have been drawn, of which N were.

    Raises:
        InputError: fewer than two rows.
    """
    N = len(values)
    if N < 2:
        raise InputError(f"an interval over rows needs at least 2, got {N}")
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(N), float(N - 1))


def over_seeds_and_rows(values: Float[np.ndarray, "S N"]) -> Estimate:
    """Estimate the mean over all seeds and all rows that might have been drawn, of which S and N were.

    Seeds and rows are crossed random effects. With mean squares of the two-way layout (Searle, Casella and McCulloch
    1992, "Variance components", section 4.2), `Var(mean) = (MS_seeds + MS_rows - MS_rest) / (S N)`; degrees of freedom
    by Satterthwaite (1946).

    Raises:
        InputError: fewer than two seeds or two rows.
    """
    S, N = values.shape
    if S < 2 or N < 2:
        raise InputError(f"an interval over seeds and rows needs at least 2 of each, got {S} and {N}")
    mean = values.mean()
    of_seeds, of_rows = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - of_seeds[:, None] - of_rows
    dfs = np.array([S - 1, N - 1, (S - 1) * (N - 1)], dtype=float)
    squares = np.array([N * (of_seeds**2).sum(), S * (of_rows**2).sum(), (rest**2).sum()]) / dfs
    # A component can't be below 0: where the rest outweighs the sum of the others, it alone remains.
    terms = np.array([squares[0], squares[1], -min(squares[2], squares[0], squares[1])]) / (S * N)
    variance = float(terms.sum())
    df = variance**2 / float((terms**2 / dfs).sum()) if variance > 0 else float(S - 1)
    return Estimate(float(mean), math.sqrt(max(variance, 0.0)), max(df, 1.0))


def over_folds(values: Float[np.ndarray, " J"], test_share: float) -> Estimate:
    """Estimate the mean over training and test sets that might have been drawn, from repeated cross-validation.

    Folds share training rows, so their results are no independent draws: the variance of the mean is
    `(1 / J + n_test / n_train) * s^2` (Nadeau and Bengio 2003, "Inference for the generalization error", equation 9).

    Args:
        values: one for each fold and repetition.
        test_share: held-out rows over training rows, `n_test / n_train`.

    Raises:
        InputError: fewer than two folds.
    """
    J = len(values)
    if J < 2:
        raise InputError(f"an interval over folds needs at least 2, got {J}")
    error = math.sqrt((1 / J + test_share) * values.var(ddof=1))
    return Estimate(float(values.mean()), error, float(J - 1))
